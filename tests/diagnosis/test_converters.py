"""Converters of a prepared model, counted over a loader."""

from __future__ import annotations

import math
import pickle

import nets
import pytest
import torch
from torch import nn

import cimq
from cimq.quantization import adc_diagnostics, quant_layers

HARDWARE = cimq.Hardware.preset("paper").replace(rows=64, cell_bits=2, adc={"bits": 4, "range": "calibrated"})


def prepared(hardware: cimq.Hardware = HARDWARE) -> tuple[nn.Module, torch.Tensor]:
    x = nets.images(8, 10)
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(4, 4), hardware)
    cimq.calibrate(q, [(x, None)])
    return q, x


def test_one_row_per_layer_and_slice_with_the_counts_of_the_operator() -> None:
    q, x = prepared()
    q.train()
    rows = adc_diagnostics(q, [(x[:5], None), (x[5:], None)])
    assert q.training
    assert [(row.layer, row.slice) for row in rows] == [(n, s) for n in ("conv1", "conv2", "fc") for s in (0, 1)]
    assert {(row.weight_bits, row.act_bits) for row in rows} == {(4, 4)}
    layer = q.conv1
    x_q = torch.clamp(torch.round(x / layer.act_scale), *layer.act_limits()).detach()
    options = layer._mvm_options()
    found = cimq.ops.crossbar_diagnostics(x_q, layer.integer_weight(), options.pop("hardware"), padding=1, **options)
    for s, row in enumerate(rows[:2]):
        assert row.conversions == found.conversions == 8 * 100 * 8 * 4
        assert row.clip_low == float(found.clip_low[s])
        assert row.clip_high == float(found.clip_high[s])
        assert row.used_codes == float(found.used_codes[s])
        assert (row.current_min, row.current_max) == tuple(found.currents[s].tolist())
        assert math.isclose(row.conversion_mse, float(found.conversion_mse[s]), rel_tol=1e-9)
        assert math.isclose(row.layer_sqnr_db, found.sqnr_db, rel_tol=1e-9)
        assert row.layer_max_error == found.largest_error
    assert 0 < rows[0].clip_low + rows[0].clip_high < 0.05  # 99.9 % of the currents are covered


def test_a_narrower_range_clips_more_and_a_finer_converter_errs_less() -> None:
    q, x = prepared()
    before = adc_diagnostics(q, [(x, None)])
    q.conv2.adc_ranges[:, :, 1] *= 0.25
    after = adc_diagnostics(q, [(x, None)])
    assert after[2].clip_high + after[2].clip_low > 5 * (before[2].clip_high + before[2].clip_low)
    assert after[0] == before[0]  # the layer before it sees no difference
    fine, _ = prepared(HARDWARE.replace(adc={"bits": 8}))
    assert adc_diagnostics(fine, [(x, None)])[0].layer_sqnr_db > before[0].layer_sqnr_db + 6


def test_the_evaluated_chip_and_the_random_state_are_left_alone() -> None:
    noisy = HARDWARE.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})
    q, x = prepared(noisy)
    state = torch.get_rng_state()
    with torch.no_grad():
        y = q.eval()(x)
        rows = adc_diagnostics(q, [(x, None)])
        assert torch.equal(q(x), y)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(float(row.current_max * 256).is_integer() for row in rows)
    assert any(not float(row.current_max).is_integer() for row in rows)
    pickle.loads(pickle.dumps(q))


def test_a_layer_called_twice_is_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.relu(self.fc(x)))

    torch.manual_seed(0)
    x = torch.rand(6, 16)
    q = cimq.prepare(Twice(), cimq.Policy.uniform(4, 4), HARDWARE, example_inputs=x)
    rows = adc_diagnostics(q, [(x, None)])
    assert [row.conversions for row in rows] == [2 * 6 * 16 * 4] * 2


def test_products_of_an_attention_and_one_dimensional_convolutions_are_counted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(8, 8, 3, padding=1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x.transpose(1, 2)).transpose(1, 2)
            return self.attention(x, x, x, need_weights=False)[0]

    torch.manual_seed(0)
    x = torch.randn(3, 5, 8)
    q = cimq.prepare(Net(), cimq.Policy.uniform(4, 4), HARDWARE, example_inputs=x)
    rows = {(row.layer, row.slice): row for row in adc_diagnostics(q, [(x, None)])}
    assert rows["conv", 0].conversions == 3 * 5 * 8 * 4
    assert rows["attention.in_proj", 1].conversions == 3 * 5 * 24 * 4
    assert rows["attention.qk", 0].conversions == 3 * 2 * 5 * 5 * 4
    assert rows["attention.av", 0].conversions == 3 * 2 * 5 * 4 * 4


def test_a_lossless_machine_is_counted_too() -> None:
    q, x = prepared(HARDWARE.replace(adc={"bits": 10, "range": "granular"}))
    assert all(row.layer_sqnr_db == math.inf and row.conversions > 0 for row in adc_diagnostics(q, [(x, None)]))


def test_bad_arguments_are_named() -> None:
    q, x = prepared()
    with pytest.raises(ValueError, match="adc_diagnostics: the loader is empty"):
        adc_diagnostics(q, [])
    with pytest.raises(ValueError, match="adc_diagnostics: the model does not call conv2, fc"):
        adc_diagnostics(q, [(x, None)], forward_fn=lambda model, batch: model.conv1(batch[0]))
    assert all(layer._probe is None for _, layer in quant_layers(q))
    ideal, _ = prepared(cimq.Hardware.preset("paper"))
    with pytest.raises(ValueError, match=r"ideal converters \(adc.bits None\) in conv1, conv2, fc"):
        adc_diagnostics(ideal, [(x, None)])
    with pytest.raises(ValueError, match="no quantised layers"):
        adc_diagnostics(nets.SmallCnn(), [(x, None)])
