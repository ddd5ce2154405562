"""Export -> load -> run equals the converted model, value by value; model.onnx agrees within rounding."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from bundle_nets import HARDWARE, Residual, Varied, converted, images, randomise
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq import Policy
from cimq.bundle import onnx_check, onnx_model
from cimq.bundle.fx_reader import read_network
from cimq.quantization import layer_outputs


def assert_equal_everywhere(bundle: cimq.bundle.Bundle, model: nn.Module, x: Tensor) -> None:
    """Output and every layer, for batches of 0, 1 and all."""
    for batch in (x[:0], x[:1], x):
        y, layers = bundle.run_layers(batch)
        with torch.no_grad():
            assert torch.equal(y, model(batch))
        if len(batch):
            expected = layer_outputs(model, batch)
            assert layers.keys() == expected.keys()
            for name, value in expected.items():
                assert layers[name].dtype == value.dtype
                assert torch.equal(layers[name], value), name
    assert torch.equal(bundle.run(x), bundle.run_layers(x)[0])


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("net", [Residual, Varied])
def test_executor_equals_the_converted_model(net: type[nn.Module], hardware: str, tmp_path: Path) -> None:
    x = images(7, 3, 9, 10) if net is Varied else images(7, 3, 8, 8)
    model = converted(net(), x, HARDWARE[hardware])
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:3])
    assert bundle.check().equal
    assert_equal_everywhere(bundle, model, x)
    exact = hardware == "ideal"
    assert all((value.dtype == torch.int32) == exact for value in bundle.run_layers(x)[1].values())
    assert (bundle.manifest["onnx"]["hardware_deviation"] == 0) == exact


@pytest.mark.parametrize("bits", [(1, 1), (1, 8), (2, 3), (3, 2), (4, 4), (5, 6), (6, 5), (7, 1), (8, 7), (8, 8)])
def test_every_width(bits: tuple[int, int], tmp_path: Path) -> None:
    x = images(3, 3, 8, 8)
    model = converted(Residual(), x, HARDWARE["ideal"], Policy.uniform(*bits))
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    assert_equal_everywhere(bundle, model, x)
    assert set(bundle.policy.pairs()) == {bits}


def test_prepared_models_are_converted(tmp_path: Path) -> None:
    x = images(4, 3, 8, 8)
    prepared = cimq.prepare(randomise(Residual()), Policy.uniform(5, 6), hardware="paper", example_inputs=x)
    assert prepared.training
    bundle = cimq.export(prepared, tmp_path / "net.cimq", x)
    with torch.no_grad():
        assert torch.equal(bundle.run(x), prepared.eval()(x))


def test_layers_left_in_float(tmp_path: Path) -> None:
    x = images(4, 3, 9, 10)
    prepared = cimq.prepare(
        randomise(Varied()), Policy.uniform(4, 4), exclude=("grouped", "fc1"), example_inputs=x
    ).eval()
    model = cimq.convert(prepared)
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    assert {node.op for node in read_network(model, x).nodes} >= {"conv2d_f32", "linear_f32", "affine", "pad", "cat"}
    assert_equal_everywhere(bundle, model, x)


def test_linear_on_sequences(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    x = images(3, 7, 6)
    model = converted(net, x, HARDWARE["lossy"])
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    assert [layer.invocations for layer in bundle.layers] == [7, 7]
    assert_equal_everywhere(bundle, model, x)


def test_all_files_are_there_and_say_the_same(tmp_path: Path) -> None:
    x = images(2, 3, 8, 8)
    model = converted(Residual(), x)
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    names = {"model.onnx", "weights.safetensors", "policy.json", "layers.json", "hardware.json", "program.jsonl"}
    names |= {"expected.safetensors", "manifest.json"}
    assert {path.name for path in bundle.path.iterdir()} == names
    assert {entry["path"] for entry in bundle.manifest["files"]} == names - {"manifest.json"}
    assert bundle.manifest["producer"]["version"] == cimq.__version__
    report = cimq.latency(bundle.path)
    assert bundle.manifest["latency"]["time_us"] == report.time_us
    assert cimq.compile(bundle.path).text == (bundle.path / "program.jsonl").read_text()
    assert json.loads((bundle.path / "program.jsonl").read_text().splitlines()[0])["writes"] == report.writes
    assert list(bundle.policy) == [name for name, _ in bundle.policy.items()]
    assert list(tmp_path.iterdir()) == [bundle.path]  # nothing temporary is left


def test_zip_and_overwrite(tmp_path: Path) -> None:
    x = images(2, 3, 8, 8)
    model = converted(Residual(), x)
    for name in ("net.cimq", "net.cimq.zip"):
        target = tmp_path / name
        first = cimq.export(model, target, x[:1])
        with pytest.raises(FileExistsError, match="pass overwrite=True"):
            cimq.export(model, target, x)
        second = cimq.export(model, target, x, overwrite=True)
        assert (first.check().entries[-1].compared, second.check().entries[-1].compared) == (5, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"net.cimq", "net.cimq.zip"}
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="is not a bundle"):
        cimq.export(model, other, x, overwrite=True)
    assert (other / "cat.jpg").exists()


def test_failed_exports_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, 3, 8, 8)
    prepared = cimq.prepare(randomise(Residual()), Policy.uniform(4, 5), exclude=("conv",), example_inputs=x)
    model = cimq.convert(prepared.eval())
    monkeypatch.setattr(onnx_check, "_U", 1e-30)  # a bound that no float32 sum keeps
    with pytest.raises(ValueError, match=r"model\.onnx differs from the converted model at node"):
        cimq.export(model, tmp_path / "net.cimq", x)
    assert list(tmp_path.iterdir()) == []
    assert cimq.export(model, tmp_path / "net.cimq", x, check=False).check().equal


# ---- ONNX ----


def test_onnxruntime_gives_the_network(tmp_path: Path) -> None:
    x = images(5, 3, 8, 8)
    model = converted(Residual(), x, HARDWARE["ideal"])
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    outcome = bundle.manifest["onnx"]
    assert outcome["node_deviation"] <= outcome["node_bound"] < 1e-3
    assert outcome["output_deviation"] <= outcome["output_bound"]
    session = onnxruntime.InferenceSession(str(bundle.path / "model.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(y - bundle.run(x).numpy()).max() < 0.2 * bundle.run(x).abs().max().item()
    proto = onnx.load(bundle.path / "model.onnx")
    assert proto.opset_import[0].version == 21
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("QuantizeLinear") == len(bundle.layers) == kinds.count("Clip")
    assert kinds.count("DequantizeLinear") == 2 * len(bundle.layers)
    assert "BatchNormalization" not in kinds
    assert {p.key: p.value for p in proto.metadata_props}["cimq.fc"] == "w4a5"


def test_the_onnx_check_notices_a_wrong_model(tmp_path: Path) -> None:
    x = images(2, 3, 8, 8)
    model = converted(Residual(), x, HARDWARE["ideal"])
    network = read_network(model, x)
    good = onnx_model.build(network)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.bias += 0.01
        onnx_check.check(network, good, model, x, model(x))
        with pytest.raises(ValueError, match="at node 'fc'"):
            onnx_check.check(network, good, other, x, other(x))


def test_negative_and_zero_multipliers(tmp_path: Path) -> None:
    """A batch normalisation may have gamma <= 0; ONNX scales may not."""
    net = randomise(nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, -1.0, 0.0, 0.5, -0.25, 2.0]))
    x = images(3, 3, 6, 6)
    prepared = cimq.prepare(net, Policy.uniform(4, 4), example_inputs=x).eval()
    bundle = cimq.export(prepared, tmp_path / "net.cimq", x)
    assert bundle.manifest["onnx"]["node_deviation"] < 1e-4


# ---- what is refused ----


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


class Softplus(Untraceable):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(self.fc(x))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.fc(x)))


class Fused(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.fc(x), x, alpha=2)


class TwoOutputs(Twice):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.fc(x)
        return y, F.relu(y)


class BatchFolded(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).reshape(1, -1)


class Transposed(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).transpose(0, 1)


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@pytest.mark.parametrize(
    ("net", "match"),
    [
        (Untraceable, "no torch.fx graph"),
        (Softplus, "softplus"),
        (Twice, "layer 'fc' is used twice"),
        (Fused, "the operation add "),
        (TwoOutputs, "must return one tensor"),
        (BatchFolded, "first dimension of node .* must be the batch"),
        (Transposed, "transpose"),
    ],
)
def test_networks_without_a_form_are_refused_by_name(net: type[nn.Module], match: str, tmp_path: Path) -> None:
    x = images(2, 4)
    prepared = cimq.prepare(randomise(net()), Policy.uniform(4, 4), example_inputs=x).eval()
    with pytest.raises(ValueError, match=match):
        cimq.export(prepared, tmp_path / "net.cimq", x)
    assert list(tmp_path.iterdir()) == []


def test_other_arguments_are_refused(tmp_path: Path) -> None:
    x = images(2, 4)
    net = nn.Sequential(nn.Linear(4, 3))
    model = converted(copy.deepcopy(net), x)
    target = tmp_path / "net.cimq"
    with pytest.raises(ValueError, match="has no quantised layers"):
        cimq.export(net, target, x)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got int"):
        cimq.export(3, target, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sample_input must be a tensor, got list"):
        cimq.export(model, target, [1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be float32"):
        cimq.export(model, target, x.double())
    with pytest.raises(ValueError, match="B >= 1"):
        cimq.export(model, target, x[:0])
    with pytest.raises(ValueError, match="must be finite"):
        cimq.export(model, target, x / 0)
    assert list(tmp_path.iterdir()) == []


# ---- random networks ----


class Chain(nn.Module):
    """Random layers on [C, H, W], then a linear layer."""

    def __init__(self, steps: list[tuple[str, int]], channels: int, size: int) -> None:
        super().__init__()
        self.steps: list[tuple[str, int]] = []
        self.layers = nn.ModuleList()
        x = torch.zeros(1, channels, size, size)
        for kind, value in steps:
            if kind == "max" and x.shape[-1] == 1:
                continue  # three steps of 2 lead to one pixel, in which no window of 2 x 2 fits
            self.steps.append((kind, value))
            inputs = x.shape[1]
            if kind == "conv":
                self.layers.append(nn.Conv2d(inputs, value, 3, padding=1, stride=1 + value % 2))
            elif kind == "depthwise":
                self.layers.append(nn.Conv2d(inputs, inputs, 2, padding="same", groups=inputs, bias=False))
            elif kind == "norm":
                self.layers.append(nn.BatchNorm2d(inputs))
            else:
                self.layers.append(nn.Identity())
            x = self.step(kind, self.layers[-1].eval(), x)
        self.fc = nn.Linear(x.flatten(1).shape[1], 3)

    def step(self, kind: str, layer: nn.Module, x: Tensor) -> Tensor:
        if kind == "relu":
            return F.relu(x)
        if kind == "max":
            return F.max_pool2d(x, 2, 1)
        if kind == "avg":
            return F.avg_pool2d(x, 2, 1, padding=1)
        if kind == "double":
            return x + x
        return layer(x)

    def forward(self, x: Tensor) -> Tensor:
        for (kind, _), layer in zip(self.steps, self.layers, strict=True):
            x = self.step(kind, layer, x)
        return self.fc(torch.flatten(x, 1))


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["conv", "depthwise", "norm", "relu", "max", "avg", "double"]), st.integers(1, 6)),
        max_size=5,
    ),
    bits=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    hardware=st.sampled_from(sorted(HARDWARE)),
    mapping=st.sampled_from(["differential_column", "differential_row", "offset"]),
    seed=st.integers(0, 1000),
)
@example(
    steps=[("conv", 1), ("conv", 1), ("conv", 1), ("max", 1)],
    bits=(4, 4),
    hardware=min(HARDWARE),
    mapping="offset",
    seed=0,
)
def test_random_networks(
    tmp_path: Path, steps: list[tuple[str, int]], bits: tuple[int, int], hardware: str, mapping: str, seed: int
) -> None:
    x = images(3, 2, 8, 8, seed=seed)
    machine = HARDWARE[hardware].replace(mapping=mapping)
    prepared = cimq.prepare(
        randomise(Chain(steps, 2, 8), seed), Policy.uniform(*bits), hardware=machine, example_inputs=x
    ).eval()
    model = cimq.convert(prepared)
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:2], overwrite=True)
    assert_equal_everywhere(bundle, model, x)
    with torch.no_grad():
        assert torch.equal(bundle.run(x), prepared(x))
