"""Searches over ADC bits and mappings: the space, what dominates in it, and every strategy on it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.cost_model import LayerShape
from cimq.policy import LayerMachine, Policy
from cimq.policy_search.axes import Axes
from cimq.policy_search.budget import Budget
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.knapsack import assumed_sensitivity, knapsack_path, measure_sensitivity
from cimq.policy_search.space import SearchSpace
from cimq.report import write_report

LOSSY = cimq.Hardware.preset("isaac").replace(
    resources={"crossbars": 1},
    mapping="differential_column",
    adc={"range": "full_scale"},
    energy={"write_energy_pj": 1000.0},
)
SHAPES = [LayerShape(f"layer{i}", "Linear", 40 + 30 * i, 200 + 100 * i, 10) for i in range(4)]
BOTH: dict[str, Any] = {"adc_bits": (4, 8), "mappings": ("differential_column", "offset")}


def space(hardware: cimq.Hardware = LOSSY, **options: Any) -> SearchSpace:
    return SearchSpace(SHAPES, hardware, **{"objective": "energy", "bits": (3, 6), "first_last_bits": None, **options})


def test_without_the_axes_rows_are_pairs() -> None:
    plain, both = space(), space(**BOTH)
    assert all(len(row) == 2 for slot in plain.slots for row in slot.cost)
    assert len(both.slots[0].cost) == 4 * 4 * 5 * 2
    assert plain.axes.names == ("weights", "activations")
    assert both.axes.names == ("weights", "activations", "ADC bits", "mapping")
    assert both.uniform(4, 5) == plain.uniform(4, 5) == ((4, 5),) * 4  # as the machine
    assert both.gain(both.uniform(4, 5)) == plain.gain(plain.uniform(4, 5))


def test_rows_have_one_form() -> None:
    axes = Axes(LOSSY, (4, 8), ("offset", "differential_column"))
    rows = [axes.row(values) for values in itertools.product((4,), (5,), (6, 8), ("offset", "differential_column"))]
    assert rows == [(4, 5, 6, "offset"), (4, 5, 6), (4, 5, None, "offset"), (4, 5)]
    assert [axes.row(axes.values(row)) for row in rows] == rows
    assert axes.distance((4, 5, 6, "offset"), (3, 5)) == 1 + 2 + 1
    other = Axes(LOSSY, (4, 6), ("offset",))
    assert other.plain == LayerMachine(6, "offset")  # the machine's own may not be chosen


def test_costs_are_those_of_the_policy() -> None:
    both = space(objective="energy_delay", **BOTH)
    rows = ((3, 4), (4, 4, 5), (5, 6, None, "offset"), (6, 3, 4, "offset"))
    policy = both.policy(rows)
    assert policy.rows() == list(rows)
    assert both.time_us(rows) == pytest.approx(cimq.latency(SHAPES, policy, LOSSY).time_us)
    assert both.energy_pj(rows) == pytest.approx(cimq.energy(SHAPES, policy, LOSSY).energy_pj)
    assert both.contains(rows)
    assert not both.contains(((3, 4, 3), *rows[1:]))


def test_dominance_of_lossy_converters_is_within_a_mapping() -> None:
    both = space(**BOTH)
    for slot in both.slots:
        for row, kept in slot.canonical.items():
            (w, a, bits, mapping), (w_kept, a_kept, bits_kept, mapping_kept) = map(both.axes.values, (row, kept))
            assert mapping_kept == mapping
            assert w_kept >= w
            assert a_kept >= a
            assert bits_kept >= bits
            assert slot.cost[kept] <= slot.cost[row]
            assert slot.canonical[kept] == kept
        assert slot.pairs[0] == slot.top == (6, 6)
        assert {both.axes.values(row)[2] for row in slot.pairs} == {4, 5, 6, 7, 8}  # a bit less is cheaper


def test_where_nothing_is_lost_the_cheapest_converters_and_mapping_stay() -> None:
    exact = space(LOSSY.replace(adc={"range": "granular", "bits": 10}), adc_bits=(9, 10), mappings=BOTH["mappings"])
    assert not exact.axes.is_lossless((4, 4, 9)) or exact.axes.is_lossless((4, 4))
    for slot in exact.slots:
        for row, kept in slot.canonical.items():
            if exact.axes.is_lossless(row):
                assert exact.axes.is_lossless(kept)
                same_bits = [other for other in slot.cost if other[:2] == kept[:2] and exact.axes.is_lossless(other)]
                assert slot.cost[kept] == min(slot.cost[other] for other in same_bits)
        assert len([row for row in slot.pairs if row[:2] == (6, 6) and exact.axes.is_lossless(row)]) == 1
    varying = LOSSY.replace(
        adc={"range": "granular", "bits": 10}, cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}}
    )
    assert not Axes(varying, (9, 10), None).is_lossless((4, 4))


def test_fixed_layers_are_as_the_machine() -> None:
    fixed = space(first_last_bits=8, **BOTH)
    assert set(fixed.slots[0].cost) == set(fixed.slots[-1].cost) == {(8, 8)}
    assert fixed.fastest[0] == (8, 8)
    assert len(fixed.slots[1].cost) == 4 * 4 * 5 * 2
    assert min(fixed.slots[1].cost.values()) == fixed.slots[1].cost[fixed.fastest[1]]


def test_the_agent_draws_every_row_of_the_space() -> None:
    both = space(**BOTH)
    assert len(both.masks) == 4 * len(both.slots)
    assert [len(mask) for mask in both.masks[:4]] == [4, 4, 5, 2]
    assert both.decode([3, 3, 4, 0] * 4) == both.canonical(((6, 6),) * 4)
    assert both.decode([1, 2, 0, 1] * 4) == both.canonical(((4, 5, 4, "offset"),) * 4)
    logits = both.logits_near(((4, 5, 6, "offset"),) * 4, 0.5, 1.0, 2.0)
    assert logits[:4] == [[-0.5, 0.0, -0.5, -1.0], [-2.0, -1.0, 0.0, -1.0], [-4.0, -2.0, 0.0, -2.0, -4.0], [-2.0, 0.0]]


class Additive:
    """Damages that add up: of weights and activations by the law, of converters as well, and of a mapping."""

    def __init__(self, of: SearchSpace) -> None:
        self._axes = of.axes
        self.asked = 0

    def measure(self, policies: Any) -> Any:
        for policy in policies:
            self.asked += 1
            damage = 0.0
            for number, row in enumerate(policy):
                w, a, bits, mapping = self._axes.values(row)
                damage += (1 + number) * (4.0**-w + 4.0**-a + 4.0 ** (1 - bits)) + 0.002 * (mapping == "offset")
            yield Measured(0.9, damage)


def test_sensitivities_are_measured_per_axis() -> None:
    both = space(**BOTH)
    evaluator, budget = Additive(both), Budget(1000)
    found = measure_sensitivity(both, evaluator, budget)
    assert found is not None
    alternatives = sum(min(2, len(choices) - 1) for slot in both.slots for choices in slot.choices)
    assert budget.sensitivities == evaluator.asked == 1 + alternatives
    assert {*found.others[1][0]} == {"differential_column", "offset"}
    exact = Additive(both)
    rows = both.canonical(((3, 6, 5), (6, 4), (6, 6, 4, "offset"), (5, 5, None, "offset")))
    (wanted,) = exact.measure([rows])
    assert found.least + sum(found.of(i, row) for i, row in enumerate(rows)) == pytest.approx(wanted.damage, rel=0.1)
    for sensitivity in (found, assumed_sensitivity(both)):
        path = knapsack_path(both, sensitivity)
        costs = [both.cost(policy) for policy in path]
        assert costs == sorted(costs, reverse=True)
        assert path[-1] == both.fastest
        assert any(len(row) > 2 for policy in path for row in policy)


def test_within_a_cost_the_nearest_policy_fits() -> None:
    both = space(**BOTH)
    limit = CostLimit(both, 4.0)
    nearest = limit.nearest(both.widest)
    assert limit.fits(nearest)
    assert not limit.fits(both.widest)


@pytest.mark.parametrize(
    ("hardware", "options", "reason"),
    [
        (
            LOSSY,
            {"adc_bits": (4, 8), "objective": "latency"},
            "needs objective='energy' or 'energy_delay': the closed-form",
        ),
        (LOSSY, {"adc_bits": (8, 4)}, r"adc_bits must be None or \(smallest, largest\)"),
        (LOSSY, {"adc_bits": (4, 17)}, r"largest <= 16, got \(4, 17\)"),
        (LOSSY, {"adc_bits": (4,)}, "adc_bits must be None or"),
        (
            LOSSY,
            {"adc_bits": (3, 8)},
            r"search: adc_bits=\(3, 8\): a layer has 3-bit converters and hardware 'custom' those of 8 bits",
        ),
        (
            LOSSY.replace(adc={"bits": None}),
            {"adc_bits": (4, 8)},
            "needs a machine with converters, and those of 'custom'",
        ),
        (LOSSY.replace(energy={"adc_energy_pj": None}), {"adc_bits": (4, 8)}, "gives the energy of a conversion"),
        (LOSSY, {"mappings": ()}, "mappings must be None or a list of different names of"),
        (LOSSY, {"mappings": "offset"}, "mappings must be None or a list of different names of"),
        (LOSSY, {"mappings": ("offset", "offset")}, "mappings must be None or a list of different names of"),
        (LOSSY, {"mappings": ("column",)}, "mappings must be None or a list of different names of"),
        (LOSSY.replace(adc={"range": "learned"}), {"mappings": ("offset",)}, "steps are not learned"),
    ],
)
def test_what_a_search_cannot_have_is_refused(hardware: cimq.Hardware, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        space(hardware, **options)


def network() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = torch.randn(96, 12)
    with torch.no_grad():
        y = model(x).argmax(1)
    return model, [(x[i : i + 24], y[i : i + 24]) for i in range(0, 96, 24)]


SMALL = LOSSY.replace(rows=16, cols=16, adc={"range": "calibrated"})


@pytest.mark.parametrize(
    "strategy", ["thompson", "pairwise", "knapsack", "evolution", "reinforce", "random", "uniform"]
)
def test_every_strategy_searches_the_axes(strategy: str, tmp_path: Path) -> None:
    model, data = network()
    options: dict[str, Any] = {
        "hardware": SMALL, "objective": "energy", "strategy": strategy, "evaluations": 16, "shared_epochs": 0,
        "finetune_epochs": 0, "finalists": 1, "first_last_bits": None, "bits": (4, 8), "batch": 4, "progress": False,
        "max_accuracy_drop": 1.0, **BOTH,
    }  # fmt: skip
    result = cimq.search(model, data, val_loader=data, out=tmp_path, **options)
    asked = [e for e in result.evaluations if e.strategy not in ("baseline", "uniform")]
    if strategy != "uniform":
        assert any(len(row) > 2 for e in asked for row in e.policy)
    assert Policy.load(tmp_path / "policy.json") == result.policy
    assert result.energy is not None
    assert result.energy.energy_pj == pytest.approx(cimq.energy(result.model).energy_pj)
    if strategy == "thompson":
        again = cimq.search(model, data, val_loader=data, out=tmp_path, resume=True, **options)
        assert [e.policy for e in again.evaluations] == [e.policy for e in result.evaluations]
        write_report(tmp_path, tmp_path / "report.html")
        found = json.loads((tmp_path / "result.json").read_text())["layers"]
        chosen = [str(LayerMachine(row.get("adc_bits"), row.get("mapping"))) for row in found]
        page = (tmp_path / "report.html").read_text()
        assert all(text in page for text in chosen if text != "as the machine")
        with pytest.raises(ValueError, match=r"other settings: adc_bits was \[4, 8\], is \[5, 8\]"):
            cimq.search(model, data, val_loader=data, out=tmp_path, resume=True, **{**options, "adc_bits": (5, 8)})


def test_shared_weights_are_trained_over_the_axes_and_resumed(tmp_path: Path) -> None:
    model, data = network()
    options: dict[str, Any] = {
        "hardware": SMALL, "objective": "energy", "evaluations": 10, "shared_epochs": 1, "finetune_epochs": 1,
        "finalists": 1, "first_last_bits": None, "bits": (6, 8), "batch": 4, "progress": False, "val_loader": data,
        "max_accuracy_drop": 1.0, **BOTH,
    }  # fmt: skip
    result = cimq.search(model, data, out=tmp_path / "a", **options)
    # As after an interruption: the shared weights are read, what was measured before is measured again.
    (tmp_path / "a" / "evaluations.jsonl").unlink()
    (tmp_path / "a" / "result.json").unlink()
    again = cimq.search(model, data, out=tmp_path / "a", resume=True, **options)
    assert [(e.policy, e.damage) for e in again.evaluations] == [(e.policy, e.damage) for e in result.evaluations]


def test_axes_are_of_the_closed_form() -> None:
    with pytest.raises(ValueError, match="search: adc_bits and mappings need pipeline='closed_form'"):
        cimq.search(
            torch.nn.Linear(3, 2), [], hardware="isaac", pipeline="stationary", mappings=("offset",), evaluations=3
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adc_bits": 6}, r"adc_bits must be None or \(smallest, largest\).*got 6"),
        ({"mappings": 5}, "mappings must be None or a list of different names of .*got 5"),
        ({"bits": 6}, r"bits must be a pair \(smallest, largest\), got 6"),
    ],
)
def test_what_is_no_list_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cimq.search(nn.Linear(3, 2), [], hardware="isaac", objective="energy", evaluations=3, **options)


def test_what_is_no_policy_is_refused() -> None:
    plain: Any = {"fc": (8, 8)}
    with pytest.raises(TypeError, match=r"a policy must be a cimq.Policy or a file, got dict"):
        cimq.prepare(nn.Linear(3, 2), plain)
    with pytest.raises(TypeError, match=r"a policy must be a cimq.Policy or a file, got dict"):
        cimq.set_policy(cimq.prepare(nn.Linear(3, 2)), plain)
