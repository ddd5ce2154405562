"""What a search makes small: time, energy, or their product."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from small_searches import search, trained_network

import cimq
from cimq.cost_model import LayerShape
from cimq.policy_search.space import OBJECTIVES, SearchSpace

SHAPES = [
    LayerShape("first", "Linear", 30, 100, 4),
    LayerShape("middle", "Linear", 120, 300, 9),
    LayerShape("last", "Linear", 10, 64, 1),
]
# On its large crossbars the width of weights costs no time, but conversions for every column.
LARGE = cimq.Hardware(
    name="large",
    rows=512,
    cols=2048,
    cell_bits=1,
    energy={
        "write_energy_pj": 10.0,
        "mvm_energy_pj": 1.0,
        "adc_energy_pj": 2.0,
        "dac_energy_pj": 0.1,
        "digital_energy_pj": 0.02,
        "buffer_energy_pj_per_byte": 0.5,
        "bus_energy_pj_per_byte": 0.5,
    },
)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_cost_is_what_the_reports_say(objective: str) -> None:
    space = SearchSpace(SHAPES, LARGE, first_last_bits=None, objective=objective)
    policy = space.canonical([(4, 5), (3, 2), (8, 8)])
    time = cimq.latency(SHAPES, space.policy(policy), LARGE)
    energy = cimq.energy(SHAPES, space.policy(policy), LARGE)
    assert space.time_us(policy) == time.time_us
    assert space.speedup(policy) == time.speedup
    cost = {"latency": time.time_us, "energy": energy.energy_pj, "energy_delay": time.time_us * energy.energy_pj}
    gain = {"latency": time.speedup, "energy": energy.saving, "energy_delay": math.sqrt(time.speedup * energy.saving)}
    assert space.cost(policy) == pytest.approx(cost[objective], rel=1e-15)
    assert space.gain(policy) == pytest.approx(gain[objective], rel=1e-15)
    if objective != "energy_delay":
        total = sum(slot.cost[policy[slot.layers[0]]] for slot in space.slots)
        assert space.uniform8_cost / total == pytest.approx(gain[objective], rel=1e-12)


def test_the_knapsack_sees_a_product_to_first_order() -> None:
    space = SearchSpace(SHAPES, LARGE, first_last_bits=None, objective="energy_delay")

    def ratio(some: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
        costs = [sum(slot.cost[pair] for slot in space.slots) for pair in (some, other)]
        exact = [space.gain((pair,) * len(SHAPES)) for pair in (other, some)]
        return costs[0] / costs[1], exact[0] / exact[1]

    assert ratio((5, 5), (5, 5)) == (1, 1)
    for pair in ((5, 4), (4, 5), (6, 5), (5, 6)):
        assert math.isclose(*ratio(pair, (5, 5)), rel_tol=0.01)


def test_weights_that_cost_no_time_cost_energy() -> None:
    assert SearchSpace(SHAPES, LARGE).slots[1].weight_choices == (8,)
    space = SearchSpace(SHAPES, LARGE, objective="energy")
    assert space.slots[1].weight_choices == (2, 3, 4, 5, 6, 7, 8)


def test_a_search_for_energy_finds_another_policy(tmp_path: Path) -> None:
    net = trained_network()
    fast = search(net, hardware=LARGE, max_accuracy_drop=0.05)
    frugal = search(net, hardware=LARGE, max_accuracy_drop=0.05, objective="energy", out=tmp_path)
    assert all(pair.weight_bits == 8 for pair in fast.policy.values())
    assert any(pair.weight_bits < 8 for pair in frugal.policy.values())
    energy = cimq.energy(frugal.shapes, frugal.policy, LARGE)
    assert frugal.energy == energy
    assert energy.energy_pj < cimq.energy(fast.shapes, fast.policy, LARGE).energy_pj
    assert fast.energy is None
    front = [(e.cost, e.damage) for e in frugal.pareto]
    assert front == sorted(front)
    assert all(low[1] > high[1] for low, high in itertools.pairwise(front))
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["objective"] == "energy"
    assert found["energy"]["energy_pj"] == energy.energy_pj
    assert "pJ" in str(frugal)
    assert "pJ" not in str(fast)


def test_energies_that_are_not_described_are_named() -> None:
    partly = cimq.Hardware(name="partly", energy={"adc_energy_pj": 2.0, "mvm_energy_pj": 1.0})
    expected = "partly does not describe the energy of: write, dac, digital, buffer, bus; counted as 0"
    with pytest.warns(cimq.CimqWarning, match=expected):
        SearchSpace(SHAPES, partly, objective="energy")


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="objective must be one of latency, energy, energy_delay, got 'power'"):
        search(trained_network(), objective="power")
    with pytest.raises(ValueError, match="must describe the energy of at least one component"):
        SearchSpace(SHAPES, "paper", objective="energy")
    with pytest.raises(ValueError, match="needs energies above 0"):
        SearchSpace(SHAPES, cimq.Hardware(energy={"adc_energy_pj": 0.0}), objective="energy")
