"""Statistics over chips, and training on another machine than is evaluated."""

from __future__ import annotations

import math
import statistics

import nets
import pytest
import torch
from torch import nn

import cimq
from cimq.quantization import quant_layers, set_chip, set_hardware
from cimq.training.chips import student_t

PAPER = cimq.Hardware.preset("paper").replace(rows=64, cell_bits=2)
NOISY = PAPER.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}})


# Two-sided 95 % and 99 % quantiles from printed tables of Student's t.
@pytest.mark.parametrize(
    ("degrees", "wide", "wider"),
    [(1, 12.7062, 63.6567), (2, 4.30265, 9.92484), (3, 3.18245, 5.84091), (9, 2.26216, 3.24984), (10, 2.22814, 3.16927),
     (30, 2.04227, 2.75000), (120, 1.97993, 2.61742)],
)  # fmt: skip
def test_quantiles_are_those_of_the_tables(degrees: int, wide: float, wider: float) -> None:
    assert student_t(0.95, degrees) == pytest.approx(wide, rel=2e-6)
    assert student_t(0.99, degrees) == pytest.approx(wider, rel=2e-6)


def test_quantiles_are_continuous_where_the_formula_changes() -> None:
    assert student_t(0.95, 10_001) == pytest.approx(student_t(0.95, 10_000), rel=1e-7)
    assert student_t(0.999, 10_001) == pytest.approx(student_t(0.999, 10_000), rel=1e-6)


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(3)
    hits = 0
    for _ in range(2000):
        low_high = cimq.chip_statistics(torch.randn(5, generator=generator, dtype=torch.float64).tolist(), 0.9)
        hits += low_high.low <= 0.0 <= low_high.high
    assert abs(hits / 2000 - 0.9) < 4 * math.sqrt(0.09 / 2000)


def test_statistics_are_those_of_the_values() -> None:
    values = [0.5, 0.25, 0.75, 1.0]
    result = cimq.chip_statistics(values)
    assert result.values == tuple(values)
    assert result.mean == statistics.fmean(values)
    assert result.std == statistics.stdev(values)
    assert result.high - result.mean == pytest.approx(result.mean - result.low)
    assert "4 chips" in str(result)
    for wrong in ([], [1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="chip_statistics"):
            cimq.chip_statistics(wrong)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 1"):
        cimq.chip_statistics(values, 1.0)


def prepared(hardware: cimq.Hardware, training: cimq.Hardware | None = None) -> tuple[nn.Module, torch.Tensor]:
    x = nets.images(16, 10)
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(4, 4), hardware, training_hardware=training)
    cimq.calibrate(q, [(x, None)])
    return q, x


def test_evaluate_chips_measures_each_chip_and_leaves_the_model_alone() -> None:
    q, x = prepared(NOISY)
    loader = [(x, torch.arange(16) % 4)]

    def mean_logit(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output.mean()

    set_chip(q, 77)
    result = cimq.evaluate_chips(q, loader, mean_logit, chips=4, first_seed=5)
    assert all(layer.chip_seed == 77 for _, layer in quant_layers(q))
    expected = []
    for seed in range(5, 9):
        set_chip(q, seed)
        expected.append(cimq.evaluate(q, loader, mean_logit))
    assert result.values == tuple(expected)
    assert len(set(expected)) == 4
    converted = cimq.convert(q)
    assert cimq.evaluate_chips(converted, loader, mean_logit, chips=4, first_seed=5).values == result.values
    with pytest.raises(ValueError, match="all chips are equal"):
        cimq.evaluate_chips(prepared(PAPER)[0], loader, chips=3)
    with pytest.raises(ValueError, match="chips must be at least 2, got 1"):
        cimq.evaluate_chips(q, loader, chips=1)


def test_training_and_evaluation_may_have_machines_of_their_own() -> None:
    quiet, x = prepared(PAPER)
    trained_noisy, _ = prepared(PAPER, NOISY)
    with torch.no_grad():
        for (_, layer), (_, other) in zip(quant_layers(trained_noisy), quant_layers(quiet), strict=True):
            assert not torch.equal(layer.weight_scales, other.weight_scales)  # searched for the cells of training
            layer.weight_scales.copy_(other.weight_scales)
        assert torch.equal(trained_noisy.eval()(x), quiet.eval()(x))
        quiet.conv1.train()
        trained_noisy.conv1.train()
        steps = [trained_noisy.conv1(x) for _ in range(2)]
        assert not torch.equal(steps[0], steps[1])  # a fresh chip per step
        assert not torch.equal(steps[0], quiet.conv1(x))
    assert int(trained_noisy.conv1.noise_step) == 2
    converted = cimq.convert(trained_noisy)
    assert {layer.hardware for layer in converted.modules() if hasattr(layer, "weight_q")} == {PAPER}

    set_hardware(trained_noisy, NOISY, training=PAPER)  # the other way round
    trained_noisy.conv1.train()
    with torch.no_grad():
        assert torch.equal(trained_noisy.conv1(x), trained_noisy.conv1(x))
        assert not torch.equal(trained_noisy.eval()(x), quiet.eval()(x))
    set_hardware(trained_noisy, PAPER)
    assert trained_noisy.conv1.training_hardware is None


def test_noisy_training_finds_weights_and_learns() -> None:
    q, x = prepared(PAPER, NOISY)
    target = torch.arange(16) % 4
    history = cimq.finetune(q, [(x, target)], epochs=40, lr=0.1)
    assert history[-1].loss < 0.7 * history[0].loss


def test_a_calibrated_training_converter_must_be_that_of_the_machine() -> None:
    calibrated = PAPER.replace(adc={"bits": 6, "range": "calibrated"})
    noisy = calibrated.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
    prepared(calibrated, noisy)
    for other, field in ((noisy.replace(rows=32), "rows"), (noisy.replace(adc={"bits": 5}), "adc")):
        with pytest.raises(ValueError, match=f"so its {field} must be that of the machine"):
            prepared(calibrated, other)
    prepared(calibrated, PAPER)
