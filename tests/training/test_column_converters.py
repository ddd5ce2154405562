"""Layers whose converters have a range per column: calibration, training, conversion, bundles."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nets
import pytest
import torch
from torch import nn

import cimq
from cimq.quantization import adc_diagnostics, quant_layers, set_hardware

BASE = cimq.Hardware.preset("paper").replace(
    rows=64, cell_bits=2, adc={"bits": 4, "range": "learned", "granularity": "column"}
)
MACHINES = {
    "differential": BASE,
    "calibrated": BASE.replace(adc={"range": "calibrated"}),
    "per_column": BASE.replace(adc={"placement": "per_column"}),
    "offset": BASE.replace(adc={"bits": 5}, mapping="offset"),
    "noisy": BASE.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}}),
}


class Mixed(nn.Module):
    """Convolutions with groups and of one dimension, a residual and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4)
        self.line = nn.Conv1d(8, 6, 3)
        self.fc = nn.Linear(6 * 23, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.grouped(torch.relu(self.conv(x))))
        x = torch.relu(self.line(torch.flatten(x, 2)))
        return self.fc(torch.flatten(x, 1))


def prepared(hardware: cimq.Hardware, bits: int = 4, **options: Any) -> tuple[nn.Module, torch.Tensor]:
    x = nets.images(8, 10)
    torch.manual_seed(0)
    q = cimq.prepare(Mixed(), cimq.Policy.uniform(bits, bits), hardware, **options)
    cimq.calibrate(q, [(x, None)])
    return q, x


@pytest.mark.parametrize("kind", MACHINES)
def test_trained_converted_and_executed_are_equal(kind: str, tmp_path: Path) -> None:
    q, x = prepared(MACHINES[kind])
    before = {name: layer._mvm_options()["adc_lsb"].clone() for name, layer in quant_layers(q)}
    assert {name: tuple(lsb.shape) for name, lsb in before.items()} == {
        "conv": (2, 8), "grouped": (2, 8), "line": (2, 6), "fc": (2, 4)
    }  # fmt: skip
    assert any(len(lsb[0].unique()) > 1 for lsb in before.values())
    history = cimq.finetune(q, [(x, torch.arange(8) % 4)], epochs=12, lr=0.1)
    assert history[-1].loss < history[0].loss
    for name, layer in quant_layers(q):
        after = layer._mvm_options()["adc_lsb"]
        if kind == "calibrated":
            assert torch.equal(after, before[name])
        else:
            lossy = before[name] != 1  # a step of one level that clips nothing has the gradient 0
            assert (after != before[name])[lossy].all(), name
    if kind != "calibrated":
        last = dict(quant_layers(q))["fc"]._mvm_options()["adc_lsb"]
        assert len((last - before["fc"])[0].unique()) == 4  # every column has moved on its own
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        expected = q.eval()(x)
        assert torch.equal(converted(x), expected)
    cimq.export(q, tmp_path / "net.cimq", sample_input=x[:2])
    bundle = cimq.load_bundle(tmp_path / "net.cimq")
    assert bundle.check().equal
    assert torch.equal(torch.as_tensor(bundle.run(x[:2].numpy())), expected[:2])
    assert len(adc_diagnostics(q, [(x, None)])) == 2 * 4


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_columns_of_their_own_leave_a_smaller_error_than_one_range(method: str) -> None:
    """A layer whose outputs differ in the number of weights that are not zero."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=False)
    with torch.no_grad():
        for o in range(32):
            layer.weight[o, 1 + 2 * o :] = 0
    x = torch.rand(256, 64)
    wanted = layer(x).detach()
    errors = {}
    for granularity in ("slice", "column"):
        hardware = BASE.replace(adc={"range": "calibrated", "granularity": granularity})
        q = cimq.prepare(nn.Sequential(copy.deepcopy(layer)), cimq.Policy.uniform(6, 6), hardware)
        cimq.calibrate(q, [(x, None)], adc_method=method)
        with torch.no_grad():
            errors[granularity] = float((q.eval()(x) - wanted).square().mean())
    assert errors["column"] < 0.8 * errors["slice"]


def test_the_gradient_of_a_columns_step_has_the_lsq_factor_of_the_column() -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    x = nets.images(4, 8, channels=4)
    q = cimq.prepare(nn.Sequential(layer), cimq.Policy.uniform(4, 4), BASE)
    cimq.calibrate(q, [(x, None)])
    q.train()
    q(x).sum().backward()
    quantised = q[0]
    lsb = quantised._mvm_options()["adc_lsb"].requires_grad_()
    x_q = torch.clamp(torch.round(x / quantised.act_scale), *quantised.act_limits()).detach()
    plain = cimq.ops.crossbar_conv2d(
        x_q, quantised.integer_weight(), BASE, weight_bits=4, act_bits=4, act_signed=bool(quantised.act_signed),
        padding=1, adc_lo=torch.zeros(2, 6, dtype=torch.int32), adc_lsb=lsb,
    )  # fmt: skip
    scales = (quantised.act_scale * quantised.weight_scale).detach()
    (plain * scales.reshape(-1, 1, 1)).sum().backward()
    # conversions of a column and sample: 8 * 8 pixels, one tile, four digits; the largest code of 4 bits is 7
    worth = scales * torch.tensor([[1.0], [4.0]]) * 8
    expected = lsb.grad / (worth.square() * (8 * 8 * 4 * 7) ** 0.5)
    assert quantised.adc_lsb.shape == (8, 8, 4, 6)
    torch.testing.assert_close(quantised.adc_lsb.grad[3, 3, :2], expected, rtol=1e-4, atol=0)


def test_ranges_follow_policy_state_and_machine() -> None:
    q, x = prepared(BASE)
    with torch.no_grad():
        q.conv.adc_lsb[3, 3] *= 1.5
    trained = q.conv._mvm_options()["adc_lsb"]
    cimq.set_policy(q, cimq.Policy.uniform(2, 3))
    assert q.conv._mvm_options()["adc_lsb"].shape == (1, 8)
    cimq.set_policy(q, cimq.Policy.uniform(4, 4))
    assert torch.equal(q.conv._mvm_options()["adc_lsb"], trained)
    fresh = cimq.prepare(Mixed(), cimq.Policy.uniform(4, 4), BASE)
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
        assert torch.equal(copy.deepcopy(q)(x), q(x))
    by_slice = cimq.prepare(Mixed(), cimq.Policy.uniform(4, 4), BASE.replace(adc={"granularity": "slice"}))
    with pytest.raises(RuntimeError, match=r"size mismatch for conv\.adc_lsb"):
        by_slice.load_state_dict(q.state_dict())
    set_hardware(fresh, BASE.replace(adc={"granularity": "slice"}))
    assert fresh.conv.adc_lsb.shape == (8, 8, 8)
    with pytest.raises(ValueError, match=r"'conv' has no converter range for W4A4; call cimq\.calibrate"):
        fresh(x)
    with pytest.raises(ValueError, match="its adc must be that of the machine"):
        cimq.prepare(Mixed(), hardware=BASE, training_hardware=BASE.replace(adc={"granularity": "slice"}))


def test_scales_per_tensor_and_input_offsets_go_with_columns() -> None:
    q, x = prepared(BASE, per_channel=False, act_offset=True)
    q.train()(x).square().sum().backward()
    assert (q.conv.adc_lsb.grad[3, 3, 0].abs() > 0).all()
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), q.eval()(x))


def test_matrices_written_at_run_time_keep_one_range_per_slice() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 9, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    with pytest.warns(cimq.CimqWarning, match=r"attention\.qk, attention\.av keep one converter range"):
        q = cimq.prepare(Net(), cimq.Policy.uniform(4, 4), BASE.replace(adc={"bits": 3}))
    cimq.calibrate(q, [(x, None)])
    q.train()(x).square().sum().backward()
    shapes = {name.split(".")[-1]: layer._mvm_options()["adc_lsb"].shape for name, layer in quant_layers(q)}
    assert shapes == {"in_proj": (2, 24), "qk": (2,), "av": (2,), "out_proj": (2, 8)}
    for name, layer in quant_layers(q):
        assert layer.adc_lsb.grad[3, 3, 0].abs().min() > 0, name
    converted = cimq.convert(q.eval(), sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), q(x))
        assert torch.equal(q(x[:, :5]), converted(x[:, :5]))  # another number of tokens
