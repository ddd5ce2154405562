"""model.onnx in a session of onnxruntime as it comes gives the values of the executor, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundle_nets import converted, images, randomise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq import Policy
from cimq.bundle import onnx_check

WIDTHS = [(1, 1), (1, 8), (2, 2), (2, 5), (3, 4), (4, 3), (4, 8), (5, 4), (6, 6), (7, 7), (8, 2), (8, 8)]


def optimised(path: Path, x: Tensor) -> tuple[Tensor, onnx.ModelProto]:
    """What a default session makes of an input, and of the model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    options.log_severity_level = 3  # it warns that the saved model is for this machine
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(y), onnx.load(options.optimized_model_filepath)


def default_session(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


class Small(nn.Module):
    """A stem, a convolution of some kind with batch normalisation, and linear layers; `outputs` may be one."""

    def __init__(self, kind: str, outputs: int) -> None:
        super().__init__()
        groups, middle = {"plain": (1, 6), "groups": (2, 6), "depthwise": (4, 4)}[kind]
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, middle, 3, 2, 1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(middle)
        self.act: nn.Module = nn.ReLU6()
        self.fc1 = nn.Linear(middle * 9, 9)
        self.fc2 = nn.Linear(9, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.act(self.bn(self.conv(x)))
        return self.fc2(self.fc1(x.flatten(1)))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_width(bits: tuple[int, int], offset: bool, tmp_path: Path) -> None:
    x = images(40, 3, 6, 6)
    prepared = cimq.prepare(
        randomise(Small("groups", 5)), Policy.uniform(*bits), "paper", act_offset=offset, example_inputs=x
    ).eval()
    bundle = cimq.export(prepared, tmp_path / "net.cimq", x[:3])
    assert bundle.manifest["onnx"]["exact"]
    assert bundle.manifest["onnx"]["end_to_end_deviation"] == 0
    y, model = optimised(bundle.path / "model.onnx", x)
    assert torch.equal(y, bundle.run(x))
    kinds = {node.op_type for node in model.graph.node}
    # no integer kernels (which may saturate), no bias on a grid of its own
    assert kinds <= {"Div", "QuantizeLinear", "DequantizeLinear", "Clip", "Conv", "MatMul", "Mul", "Add", "Relu",
                     "Flatten", "Reshape"}, kinds  # fmt: skip
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(bundle.path / "model.onnx").graph.initializer}
    narrow = onnx.TensorProto.INT4 if bits[0] <= 4 else onnx.TensorProto.INT8
    assert {kind for name, kind in stored.items() if name.endswith(".weight")} == {narrow}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rows", [(), (5,)])
def test_one_output_of_many_inputs(rows: tuple[int, ...], signed: bool, tmp_path: Path) -> None:
    """A single multiplier must not become a factor inside of the product, whose parts are then rounded."""
    x = images(20, *rows, 3000) if signed else images(20, *rows, 3000).abs()
    model = converted(nn.Sequential(nn.Linear(3000, 1)), x, "paper", Policy.uniform(3, 4))
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:2])
    assert bundle.manifest["onnx"]["exact"]
    assert torch.equal(default_session(bundle.path / "model.onnx", x), bundle.run(x))


def test_sums_beyond_float32_integers_keep_the_rounding_bound(tmp_path: Path) -> None:
    x = images(6, 4000).abs()
    net = nn.Sequential(nn.Linear(4000, 3))
    model = converted(net, x, "paper", Policy.uniform(8, 8))
    model.get_submodule("0").weight_q.fill_(127)
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:2])
    outcome = bundle.manifest["onnx"]
    assert not outcome["exact"]
    assert outcome["node_deviation"] <= outcome["node_bound"]
    wanted = bundle.run(x)
    assert (default_session(bundle.path / "model.onnx", x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_a_session_that_rounds_the_bias_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end, too: what the optimiser does to the shipped file does not show where every node is an output."""
    x = images(4, 3, 8, 8)
    sessions = onnx_check._session

    class Coarse:
        def __init__(self, proto: onnx.ModelProto) -> None:
            self.session, self.shipped = sessions(proto), len(proto.graph.output) == 1

        def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            results = self.session.run(names, feeds)
            return [np.round(value, 1) for value in results] if self.shipped else results

    monkeypatch.setattr(onnx_check, "_session", Coarse)
    flat = converted(nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 4)), x)
    with pytest.raises(ValueError, match=r"in a default session of onnxruntime .* differs from the converted model"):
        cimq.export(flat, tmp_path / "flat.cimq", x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["plain", "groups", "depthwise"]),
    outputs=st.sampled_from([1, 2, 7]),
    bits=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=4, max_size=4),
    inputs=st.sampled_from(["signed", "unsigned", "offset"]),
    spread=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 10000),
)
def test_random_networks(
    tmp_path: Path, kind: str, outputs: int, bits: list[tuple[int, int]], inputs: str, spread: float, seed: int
) -> None:
    x = spread * images(16, 3, 6, 6, seed=seed)
    x = x.abs() if inputs == "unsigned" else x
    policy = Policy(dict(zip(["stem", "conv", "fc1", "fc2"], bits, strict=True)))
    prepared = cimq.prepare(
        randomise(Small(kind, outputs), seed), policy, "paper", act_offset=inputs == "offset", example_inputs=x
    ).eval()
    bundle = cimq.export(prepared, tmp_path / "net.cimq", x[:2], overwrite=True)
    assert torch.equal(default_session(bundle.path / "model.onnx", x), bundle.run(x))
