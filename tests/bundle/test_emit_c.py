"""Emitted C, compiled and linked with a double of analog-cim-sim's interface, against the executor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bundle_nets import HARDWARE, Residual, Varied, images, randomise, write_handmade
from torch import Tensor, nn
from typer.testing import CliRunner

import cimq
from cimq import Hardware, Policy
from cimq.bundle.c_emission.source_text import c_comment, c_string
from cimq.bundle.c_emission.values import place_values
from cimq.bundle.contents import write_network
from cimq.bundle.folder import write_manifest
from cimq.bundle.fx_reader import read_network
from cimq.cli import app
from cimq.quantization import QuantConv2d, QuantLinear

COMPILER = os.environ.get("CC") or shutil.which("cc")
needs_compiler = pytest.mark.skipif(
    COMPILER is None or shutil.which("make") is None, reason="there is no C compiler or no make"
)
DOUBLE = Path(__file__).with_name("acs_double.c")
SMALL = HARDWARE["ideal"]


@pytest.fixture(scope="session")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("acs") / "libacs_double.so"
    command = [COMPILER, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", DOUBLE, "-o", library]
    subprocess.run(command, check=True)
    return library


def built(folder: Path, library: Path) -> Path:
    flags = "CFLAGS=-O1 -pedantic -Werror -Wconversion -Wno-sign-conversion -Wno-overlength-strings"
    subprocess.run(["make", "-s", f"ACS={library}", flags], cwd=folder, check=True)
    return folder / "network"


def executed(folder: Path, x: Tensor, outputs: tuple[int, ...]) -> tuple[Tensor, np.ndarray[Any, Any], tuple[int, int]]:
    """(result, integers of all layers of all samples, (writes, MVMs)) of the program in `folder`."""
    x.numpy().tofile(folder / "x.f32")
    environment = {**os.environ, "ACS_DOUBLE_COUNTS": str(folder / "counts")}
    command = ["./network", "x.f32", "y.f32", "--layers", "layers.i32"]
    subprocess.run(command, cwd=folder, check=True, env=environment)
    y = torch.from_numpy(np.fromfile(folder / "y.f32", np.float32)).reshape(len(x), *outputs)
    writes, mvms = map(int, (folder / "counts").read_text().split())
    return y, np.fromfile(folder / "layers.i32", np.int32), (writes, mvms)


class Shapes(nn.Module):
    """Every other node that has C, between two layers on the crossbar."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.slopes = nn.PReLU(6)
        self.kept = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2)
        self.bias = nn.Parameter(torch.randn(4, 1, 1))
        self.rows = nn.Linear(5, 6)
        self.kept_fc = nn.Linear(24, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slopes(F.leaky_relu(self.first(x), 0.2))
        x = F.adaptive_avg_pool2d(x, (7, 5)) + F.adaptive_max_pool2d(x, (7, 5))
        x = torch.maximum(self.kept(x) * 2 - self.bias, torch.flip(x[:, 2:, ::2, ::2], (2,)))
        x = F.avg_pool2d(x, 2, 2, ceil_mode=True, divisor_override=3) / 1.5
        x = F.pad(x.transpose(2, 3), (0, 3, 1, 0), value=0.5)
        x = self.rows(x.mean(1).expand(-1, -1, -1))
        x = torch.flatten(x.mean(1, keepdim=True).expand(-1, 4, -1), 1)
        return self.last(torch.minimum(self.kept_fc(x), x[:, :7]).clamp(max=1.0))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any], Hardware]] = {
    "residual": (Residual, (3, 8, 8), {}, SMALL),
    "varied, offset": (Varied, (3, 9, 10), {}, SMALL.replace(mapping="offset", cell_bits=3)),
    "varied, differential rows, zero points": (
        Varied,
        (3, 9, 10),
        {"act_offset": True},
        SMALL.replace(mapping="differential_row", sign_magnitude=True, cell_bits=1, dac_bits=2),
    ),
    "shapes": (Shapes, (3, 9, 9), {"exclude": ["kept", "kept_fc"]}, SMALL.replace(mapping="offset", cell_bits=1)),
}


def written(name: str, folder: Path) -> tuple[cimq.bundle.Bundle, Tensor]:
    make, shape, options, hardware = NETS[name]
    x = images(3, *shape) + 0.3
    policy = Policy.uniform(4, 5)
    model = cimq.prepare(randomise(make()), policy, hardware, example_inputs=x, **options)
    names = [key for key, module in model.named_modules() if isinstance(module, (QuantConv2d, QuantLinear))]
    bits = [(1, 1), (8, 7), (5, 4), (2, 8), (7, 2), (3, 3)]
    cimq.set_policy(model, Policy({layer: bits[i % len(bits)] for i, layer in enumerate(names)}))
    cimq.calibrate(model, [x])
    # Without model.onnx and a sample to check, which take most of the time of an export.
    network = read_network(cimq.convert(model.eval(), sample_input=x), x)
    folder.mkdir()
    write_network(folder, network, hardware)
    write_manifest(folder, [path.name for path in folder.iterdir()], {})
    return cimq.load_bundle(folder), x


@needs_compiler
@pytest.mark.parametrize("name", list(NETS))
def test_the_program_gives_the_executors_numbers(name: str, tmp_path: Path, double: Path) -> None:
    bundle, x = written(name, tmp_path / "net.cimq")
    folder = cimq.emit_c(bundle.path, tmp_path / "c")
    built(folder, double)
    expected, layers = bundle.run_layers(x)
    assert isinstance(expected, Tensor)
    y, integers, (writes, mvms) = executed(folder, x, tuple(expected.shape[1:]))
    by_sample = [torch.as_tensor(value[b]).flatten() for b in range(len(x)) for value in layers.values()]
    assert torch.equal(torch.from_numpy(integers), torch.cat(by_sample))
    assert torch.equal(y.view(torch.int32), expected.view(torch.int32))
    assert expected.std() > 0
    # Every tile is written once per sample, as in the closed form, whose tiles may also be cut between cells.
    program = cimq.compile(bundle.path)
    assert 0 < program.writes * len(x) <= writes
    assert mvms >= sum(layer.invocations * layer.repeats for layer in program.layers) * len(x)


@needs_compiler
def test_errors_of_the_program(tmp_path: Path, double: Path) -> None:
    folder = cimq.emit_c(write_handmade(tmp_path / "net.cimq"), tmp_path / "c")
    assert "give the library" in subprocess.run(["make"], cwd=folder, capture_output=True, text=True).stderr
    built(folder, double)

    def stderr_of(values: list[float], *arguments: str) -> str:
        np.array(values, np.float32).tofile(folder / "x.f32")
        command = ["./network", "x.f32", "y.f32", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode != 0
        return done.stderr

    assert "fc: its input must be finite" in stderr_of([1, 2, float("nan"), 4])
    assert "no whole number of samples of 4 float32" in stderr_of([1, 2, 3, 4, 5])
    assert "usage" in stderr_of([1, 2, 3, 4], "more")
    assert "absent.json: No such file" in stderr_of([1, 2, 3, 4], "--config", "absent.json")
    content = (folder / "weights.bin").read_bytes()
    for wrong in (content + b"\0", content[:-1], b"\0" + content[1:]):
        (folder / "other.bin").write_bytes(wrong)
        assert "not the weights.bin" in stderr_of([1, 2, 3, 4], "--weights", "other.bin")


def test_the_simulator_is_told_of_the_machine(tmp_path: Path) -> None:
    path = write_handmade(tmp_path / "net.cimq")
    window = {"g_min_microsiemens": 4.0, "g_max_microsiemens": 30.0}
    lossy = SMALL.replace(rows=30, cell_bits=2, adc={"bits": 6}, cell=window)

    def config(hardware: Hardware, name: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads((cimq.emit_c(path, tmp_path / name, hardware) / "config.json").read_text())
        return made

    pair = config(lossy, "pair")
    assert pair["SPLIT"] == [2, 2]
    assert (pair["M"], pair["N"], pair["W_BIT"], pair["I_BIT"]) == (8, 30, 4, 3)
    assert (pair["m_mode"], pair["adc_type"], pair["resolution"]) == ("I_UINT_W_DIFF", "SYM_RANGE_ADC", 6)
    assert (pair["digital_only"], pair["HRS"], pair["LRS"]) == (False, 4.0, 30.0)
    rows = config(lossy.replace(mapping="differential_row"), "rows")
    assert (rows["M"], rows["N"]) == (16, 15)
    offset = config(lossy.replace(mapping="offset", cell_bits=3), "offset")
    assert (offset["m_mode"], offset["adc_type"], offset["SPLIT"]) == ("I_UINT_W_OFFS", "POS_RANGE_ONLY_ADC", [1, 3])
    assert config(SMALL.replace(cols=64), "ideal")["digital_only"] is True
    resistances = {"g_min_microsiemens": None, "g_max_microsiemens": None, "hrs_ohm": 2e5, "lrs_ohm": 2e4}
    ohm = config(lossy.replace(cell=resistances), "ohm")
    assert (ohm["HRS"], ohm["LRS"]) == (5.0, 50.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": {"g_min_microsiemens": None, "g_max_microsiemens": None}}, "cell.g_min_microsiemens"),
        ({"cell": {"programming": {"model": "gaussian", "sigma_levels": 0.1}}}, "cells that vary"),
        ({"cell": {"drift": {"nu": 0.1, "time_s": 100.0}}}, "drift"),
        ({"wires": {"bit_line_ohm": 1.0}}, "parasitics"),
        ({"adc": {"range": "granular", "bits": 4}}, "adc.range 'granular'"),
        ({"adc": {"placement": "per_column"}}, "adc.placement 'per_column'"),
        ({"dac_bits": 2}, "dac_bits 2"),
        ({"cols": 3}, "4 cells of an output of layer 'fc'.*has 3"),
    ],
)
def test_machines_that_cannot_be_told_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    window = {"g_min_microsiemens": 4.0, "g_max_microsiemens": 30.0}
    machine = SMALL.replace(cell_bits=2, adc={"bits": 6}, cell=window).replace(**changes)
    with pytest.raises(ValueError, match=message):
        cimq.emit_c(write_handmade(tmp_path / "net.cimq"), tmp_path / "c", machine)
    assert not (tmp_path / "c").exists()


def test_a_node_without_c_is_named(tmp_path: Path) -> None:
    x = images(2, 4)
    model = cimq.prepare(randomise(nn.Sequential(nn.Linear(4, 3), nn.GELU())), Policy.uniform(4, 4), SMALL)
    cimq.calibrate(model, [x])
    bundle = cimq.export(model.eval(), tmp_path / "net.cimq", x)
    with pytest.raises(ValueError, match=r"node '.*' is the operation 'gelu', which has no C.*cimq-run"):
        cimq.emit_c(bundle.path, tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.cimq"]


def test_the_folder_must_be_new_or_empty(tmp_path: Path) -> None:
    path = write_handmade(tmp_path / "net.cimq")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match=r"emit_c: .*file must be a folder"):
        cimq.emit_c(path, tmp_path / "file")
    with pytest.raises(FileExistsError, match=r"emit_c: the folder .*net.cimq must be empty"):
        cimq.emit_c(path, path)
    (tmp_path / "empty").mkdir()
    assert (cimq.emit_c(path, tmp_path / "empty") / "network.c").is_file()
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ValueError, match=r"must be a bundle; cimq.load_onnx"):
        cimq.emit_c("net.onnx", tmp_path / "onnx")


def test_the_command(tmp_path: Path) -> None:
    path = write_handmade(tmp_path / "net.cimq")
    before = (path / "manifest.json").read_bytes()

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["compile", str(path), *map(str, arguments)])
        return result.exit_code, result.output

    assert run("--emit", "c", "--out", tmp_path / "c") == (0, f"{tmp_path / 'c'}: make ACS=path/to/library\n")
    assert (path / "manifest.json").read_bytes() == before
    for arguments, message in [
        (("--emit", "c"), "give --out DIR"),
        (("--emit", "rust", "--out", "x"), "must be c, got 'rust'"),
        (("--emit", "c", "--out", "x", "--pipeline", "stationary", "--json"), "leave out --pipeline, --json"),
    ]:
        code, text = run(*arguments)
        assert code == 2
        assert message in text


def test_names_cannot_leave_their_strings() -> None:
    assert c_string('a"b\\c??/\n*/ü') == '"a\\"b\\\\c\\?\\?/\\012*/\\303\\274"'
    assert c_comment("*/ int x; /* \n ü") == "* / int x; / * ? ?"
    assert "*/" not in c_comment("**//")


@pytest.mark.parametrize("seed", range(4))
def test_values_that_are_alive_do_not_overlap(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ["x", *(f"n{i}" for i in range(30))]
    nodes = [
        {
            "name": names[i],
            "inputs": [names[j] for j in random.integers(max(0, i - 6), i, int(random.integers(1, 3)))],
            "shape": [int(random.integers(1, 9))],
        }
        for i in range(1, len(names))
    ]
    places, total = place_values(nodes, {"x", names[-1]})
    sizes = {node["name"]: node["shape"][0] for node in nodes}
    owner: dict[int, str] = {}
    for node in nodes:
        for name in node["inputs"]:
            if name in places:
                assert {owner[places[name] + k] for k in range(sizes[name])} == {name}
        if node["name"] in places:
            owner.update({places[node["name"]] + k: node["name"] for k in range(sizes[node["name"]])})
            assert places[node["name"]] + sizes[node["name"]] <= total
    assert total < sum(sizes.values())
