"""Bundles whose converters have a range per column, written by hand: what is read, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from bundle_nets import handmade_network
from torch import Tensor

import cimq
from cimq import Hardware, Policy
from cimq.bundle.folder import write_manifest

COLUMNS = Hardware.preset("paper").replace(
    rows=2, cell_bits=2, mapping="offset", adc={"bits": 3, "range": "calibrated", "granularity": "column"}
)
SLICES = COLUMNS.replace(adc={"granularity": "slice"})
LO = torch.tensor([[0, 1, 2], [3, -1, 0]], dtype=torch.int32)
LSB = torch.tensor([[0.5, 1.0, 1.5], [2.0, 1.25, 0.75]], dtype=torch.float64)


def write(folder: Path, hardware: Hardware, lo: Tensor, lsb: Tensor, version: str = "1.5.0") -> Path:
    network = handmade_network()
    linear = network.nodes[0]
    linear = dataclasses.replace(linear, tensors=linear.tensors | {"adc_lo": lo, "adc_lsb": lsb})
    network = dataclasses.replace(network, nodes=(linear, network.nodes[1]))
    folder.mkdir()
    text = network.layers_json()
    assert '"version": "1.5.0"' in text
    (folder / "layers.json").write_text(text.replace('"version": "1.5.0"', f'"version": "{version}"'))
    (folder / "hardware.json").write_text(hardware.to_json())
    (folder / "weights.safetensors").write_bytes(network.weights())
    Policy({"fc": (4, 3)}).save(folder / "policy.json")
    write_manifest(folder, [path.name for path in folder.iterdir()], {})
    return folder


def expected(x: Tensor, hardware: Hardware, lo: Tensor, lsb: Tensor) -> Tensor:
    node = handmade_network().nodes[0]
    x_q = torch.clamp(torch.round(x / 0.5), 0, 7).to(torch.int32)
    Y = cimq.ops.crossbar_mvm(
        x_q, node.tensors["weight"], hardware, weight_bits=4, act_bits=3, adc_lo=lo, adc_lsb=lsb, backend="reference"
    )
    return torch.relu(Y * node.tensors["multiplier"] + node.tensors["bias"])


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0", "1.3.0"])
def test_ranges_per_slice_are_read_in_every_version(version: str, tmp_path: Path) -> None:
    x = torch.rand(5, 4) * 4
    for hardware in (SLICES, COLUMNS):  # all columns alike
        path = write(tmp_path / hardware.adc.granularity, hardware, LO[:, 0], LSB[:, 0], version)
        assert torch.equal(cimq.load_bundle(path).run(x), expected(x, hardware, LO[:, 0], LSB[:, 0]))


def test_a_machine_without_granularity_converts_per_slice(tmp_path: Path) -> None:
    x = torch.rand(5, 4) * 4
    path = write(tmp_path / "old", SLICES, LO[:, 0], LSB[:, 0], "1.1.0")
    text = SLICES.to_json()
    old = text.replace(',"granularity":"slice"', "")
    assert old != text
    (path / "hardware.json").write_text(old)
    write_manifest(path, [file.name for file in path.iterdir() if file.name != "manifest.json"], {})
    assert torch.equal(cimq.load_bundle(path).run(x), expected(x, SLICES, LO[:, 0], LSB[:, 0]))


def test_every_output_is_converted_with_its_own_range(tmp_path: Path) -> None:
    x = torch.rand(5, 4) * 4
    y = cimq.load_bundle(write(tmp_path / "net", COLUMNS, LO, LSB)).run(x)
    assert torch.equal(y, expected(x, COLUMNS, LO, LSB))
    assert not torch.equal(y, expected(x, COLUMNS, LO[:, 0], LSB[:, 0]))


@pytest.mark.parametrize(
    ("hardware", "lo", "lsb", "match"),
    [
        (SLICES, LO, LSB, r"node 'fc': .*one value per column belong to adc\.granularity column, got slice"),
        (COLUMNS, LO[:, :2], LSB[:, :2], r"adc_lsb of node 'fc' must be \[slices\] or \[slices, 3\]"),
        (COLUMNS, LO[:, :, None], LSB[:, :, None], r"adc_lsb of node 'fc' must be \[slices\] or \[slices, 3\]"),
        (COLUMNS, LO[:, 0], LSB, "adc_lo of node 'fc' must have the shape of adc_lsb"),
        (
            COLUMNS,
            LO[:1],
            LSB[:1],
            r"node 'fc': .*must be \[2, 3\], one value per weight slice and output, got 3 and 3",
        ),
        (COLUMNS, LO, LSB * torch.tensor([1, 0, 1]), r"node 'fc': .*above 0, got 0 for slice 0, output 1"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(
    hardware: Hardware, lo: Tensor, lsb: Tensor, match: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match):
        cimq.load_bundle(write(tmp_path / "net", hardware, lo, lsb)).run(torch.rand(1, 4))
