"""cimq.load_onnx and the commands: machines, bundles on disk, latency, programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from foreign_models import DATA, images
from graphs import Graph
from typer.testing import CliRunner

import cimq
from cimq.cli import app

MODEL = DATA / "brevitas_w4a4.onnx"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(MODEL, tmp_path / "net.onnx"))


def test_the_executor(model: Path) -> None:
    net = cimq.load_onnx(model, threads=2)
    assert (net.path, net.input_shape, net.threads, net.hardware.name) == (model, (3, 10, 10), 2, "paper")
    assert net.manifest["source"] == {"onnx": "net.onnx"}
    x = images(3)
    y = net.run(x)
    assert torch.equal(net.run(torch.from_numpy(x)), torch.from_numpy(y))
    assert y.shape == (3, 5)
    _, layers = net.run_layers(x)
    assert [*layers] == [layer.name for layer in net.layers] == ["/stem/Conv", "/conv/Conv", "/fc/Gemm"]
    with pytest.raises(ValueError, match="the bundle has no expected"):
        net.check()


def test_a_bundle_is_written(model: Path, tmp_path: Path) -> None:
    """It is one like any other: executed without the file, compiled, and model.onnx in it gives the same bits."""
    net = cimq.load_onnx(model, out=tmp_path / "net.cimq")
    assert net.path == tmp_path / "net.cimq"
    model.unlink()
    x = images(4)
    again = cimq.load_bundle(tmp_path / "net.cimq")
    assert np.array_equal(again.run(x), net.run(x))
    assert cimq.compile(tmp_path / "net.cimq").latency.time_us == cimq.latency(tmp_path / "net.cimq").time_us
    session = onnxruntime.InferenceSession(tmp_path / "net.cimq" / "model.onnx", providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {session.get_inputs()[0].name: x})[0], net.run(x))
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        cimq.load_onnx(MODEL, out=tmp_path / "net.cimq")
    cimq.load_onnx(MODEL, out=tmp_path / "net.cimq", overwrite=True)
    zipped = cimq.load_onnx(MODEL, out=tmp_path / "net.zip")
    assert np.array_equal(cimq.load_bundle(tmp_path / "net.zip").run(x), zipped.run(x))


def test_the_oracle_of_a_bundle_has_every_operation(tmp_path: Path) -> None:
    """A transformer block whose values are quantised between all operations, attention among them."""
    with pytest.warns(cimq.CimqWarning, match="a second input of magnitude 137 as two matrices"):
        net = cimq.load_onnx(DATA / "dynamo_transformer.onnx", out=tmp_path / "net.cimq")
    nodes = json.loads((tmp_path / "net.cimq" / "layers.json").read_text())["nodes"]
    assert {node["op"] for node in nodes} >= {"fake_quantize", "crossbar_matmul", "softmax", "layer_norm"}
    x = images(3)
    session = onnxruntime.InferenceSession(tmp_path / "net.cimq" / "model.onnx", providers=["CPUExecutionProvider"])
    y, wanted = session.run(None, {session.get_inputs()[0].name: x})[0], net.run(x)
    # A value at the edge of a step may fall into the next.
    assert np.abs(y - wanted).max() <= 0.02 * np.abs(wanted).max()


def test_machines(model: Path) -> None:
    noisy = cimq.Hardware.preset("rram-wan2022")
    first, same, other = (cimq.load_onnx(model, noisy, chip=chip).run(images(2)) for chip in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    with pytest.raises(ValueError, match=r"have ranges from data .adc.range 'calibrated'.*use adc.range full_scale"):
        cimq.load_onnx(model, cimq.Hardware(adc={"bits": 6, "range": "calibrated"}))


def test_bounds(model: Path) -> None:
    with pytest.raises(ValueError, match="operations, more than 100"):
        cimq.load_onnx(model, max_operations=100)


def test_latency_and_energy(model: Path) -> None:
    net = cimq.load_onnx(model)
    by_hand = [(6, 27, 100), (8, 54, 4), (5, 32, 1)]
    shapes = [
        cimq.cost_model.LayerShape(layer.name, "conv2d" if i < 2 else "linear", *sizes)
        for i, (layer, sizes) in enumerate(zip(net.layers, by_hand, strict=True))
    ]
    wanted = cimq.latency(shapes, cimq.Policy.from_pairs([(8, 8), (4, 4), (4, 4)]))
    assert cimq.latency(net) == cimq.latency(model) == wanted
    assert cimq.latency(model, hardware="paper-2b").hardware.name == "paper-2b"
    assert cimq.latency(model, cimq.Policy.uniform(8, 8)).speedup == 1.0
    assert cimq.energy(model, hardware="isaac").energy_pj == cimq.energy(net, hardware="isaac").energy_pj > 0


def _run(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_commands(model: Path, tmp_path: Path) -> None:
    report = json.loads(_run("latency", model, "--json"))
    net = cimq.load_onnx(model)
    assert report["time_us"] == cimq.latency(net).time_us
    assert [layer["weight_bits"] for layer in report["layers"]] == [8, 4, 4]
    assert "/conv/Conv" in _run("latency", model)
    assert "paper-2b" in _run("latency", model, "--hardware", "paper-2b", "--json")
    assert "/conv/Conv" in _run("compile", model, "--output", tmp_path / "program.jsonl")
    header = json.loads((tmp_path / "program.jsonl").read_text().splitlines()[0])
    assert header["hardware"]["name"] == "paper"
    assert "/fc/Gemm" in _run("compile", model, "--pipeline", "stationary")
    np.save(tmp_path / "x.npy", images(2))
    _run("run", model, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert np.array_equal(np.load(tmp_path / "y.npy"), net.run(images(2)))


def test_commands_say_what_is_wrong(model: Path, tmp_path: Path) -> None:
    def fails(*arguments: Any) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 2
        return result.output

    assert "does not exist" in fails("latency", tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(MODEL.read_bytes()[:500])
    for command in (("latency",), ("compile",), ("run", "--input", "x.npy", "--output", "y.npy")):
        assert "is no ONNX model, or is damaged" in fails(*command, tmp_path / "bad.onnx")
    assert "--check is for bundles" in fails("run", model, "--check")
    policies = tmp_path / "policies.json"
    policies.write_text("{}")
    assert "--hardware is for an ONNX model" in fails("latency", policies, "--hardware", "paper")


def test_sizes_of_a_large_layer(tmp_path: Path) -> None:
    """Products that could leave 32 bits are refused with the bound, as in any bundle."""
    graph = Graph(["batch", 70000])
    weight = graph.weight(np.full((70000, 1), 127), 0.1)
    path = graph.save(graph.add("MatMul", [graph.qcdq("x", 0.1, signed=False), weight]), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="the result must fit int32"):
        cimq.load_onnx(path)


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(cimq.__file__).parent.parent / "docs" / "onnx.md").read_text()
    exec(compile(text.split("```python\n")[1].split("```")[0], "docs/onnx.md", "exec"), {})
    assert (tmp_path / "example.onnx").is_file()
