"""Searches whose cost is that of a program: crossbars that layers share, copies, layers that overlap."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import FAST, search, trained_network
from torch import nn

import cimq
from cimq.bundle.exporter import network_of
from cimq.bundle.network import CrossbarFacts, Network, Node
from cimq.bundle.programs import compile_layers
from cimq.cost_model import LayerShape
from cimq.policy_search import SearchSpace
from cimq.policy_search.budget import Budget
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.program_prices import ProgramPrices
from cimq.policy_search.reward import LeastDamage
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies import STRATEGIES, Proposal, StrategyTask
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import uniform_grid
from cimq.quantization import layer_shapes

MACHINE = cimq.Hardware(name="thirty", rows=64, cols=64, resources={"crossbars": 30})
WIDTHS = (48, 64, 128, 96, 64, 10)
TOKENS = 40
TENSORS = {role: torch.zeros(1) for role in ("weight", "x_scale", "multiplier", "bias")}
SHAPES = [LayerShape(f"l{i}", "Linear", m, n, TOKENS) for i, (n, m) in enumerate(itertools.pairwise(WIDTHS))]


def network(pairs: Pairs) -> Network:
    """Linear layers one after the other, with relu between them."""
    nodes: list[Node] = []
    last = "x"
    for index, (shape, (weight, act)) in enumerate(zip(SHAPES, pairs, strict=True)):
        facts = CrossbarFacts(shape.name, index, weight, act, False, shape.outputs, shape.inputs, TOKENS, 1)
        value = (TOKENS, shape.outputs)
        nodes.append(Node(f"n{index}", "crossbar_linear", (last,), value, {}, TENSORS, facts))
        nodes.append(Node(f"r{index}", "relu", (f"n{index}",), value))
        last = f"r{index}"
    return Network("x", (TOKENS, WIDTHS[0]), last, tuple(nodes))


def prices(pipeline: str = "pipelined", machine: cimq.Hardware = MACHINE, **options: Any) -> ProgramPrices:
    return ProgramPrices(network(((8, 8),) * len(SHAPES)).layers_json(), SHAPES, machine, pipeline, **options)


def space_of(some: ProgramPrices, **options: Any) -> SearchSpace:
    return SearchSpace(SHAPES, MACHINE, first_last_bits=None, prices=some, **options)


def drawn(space: SearchSpace, count: int) -> list[Pairs]:
    numbers = random.Random(1)
    return [space.assigned([numbers.choice(slot.pairs) for slot in space.slots]) for _ in range(count)]


@pytest.mark.parametrize(("pipeline", "rule"), [("stationary", None), ("stationary", "latency"), ("pipelined", None)])
def test_the_cost_is_what_the_compiled_program_takes(pipeline: str, rule: str | None) -> None:
    space = space_of(prices(pipeline, duplication=rule))
    eight = compile_layers(network(((8, 8),) * len(SHAPES)).layers_json(), MACHINE, pipeline, rule).simulated.time_us
    for policy in drawn(space, 5):
        program = compile_layers(network(policy).layers_json(), MACHINE, pipeline, rule)
        assert space.cost(policy) == space.time_us(policy) == program.simulated.time_us
        assert (
            space.gain(policy) == space.speedup(policy) == pytest.approx(eight / program.simulated.time_us, rel=1e-15)
        )
        costs = space.prices.costs(policy)  # type: ignore[attr-defined]
        assert (costs.time_us, costs.chosen) == (program.simulated.time_us, program.chosen)


def test_energies_are_those_of_the_program() -> None:
    machine = MACHINE.replace(
        resources={"crossbars": 9},
        energy={"write_energy_pj": 9.0, "mvm_energy_pj": 1.0, "bus_energy_pj_per_byte": 0.25},
    )
    with pytest.warns(cimq.CimqWarning, match="does not describe the energy of: adc, dac, digital, buffer"):
        space = space_of(prices("stationary", machine, with_energy=True), objective="energy")
    for policy in drawn(space, 3):
        program = compile_layers(network(policy).layers_json(), machine, "stationary")
        assert program.simulated.energy_pj is not None
        assert space.cost(policy) == pytest.approx(sum(program.simulated.energy_pj.values()), rel=1e-12)
        assert program.writes > 0


def test_only_what_no_program_can_tell_apart_is_one_policy() -> None:
    """By the closed form wider weights may be had for nothing; crossbars that they take are missing elsewhere."""
    space = space_of(prices())
    for index, slot in enumerate(space.slots):
        for pair, wider in slot.canonical.items():
            policy = [list(p) for p in drawn(space, 1)[0]]
            times = []
            for choice in (pair, wider):
                policy[index] = list(choice)
                times.append(space.prices.time_ps(tuple((w, a) for w, a in policy)))
            assert times[0] == times[1]
            assert wider[0] >= pair[0]
            assert wider[1] >= pair[1]
    # 4-bit cells: 5 to 8 bits have two for a weight. A wider tile of the last layer takes no more of a crossbar's time.
    assert [slot.weight_choices for slot in space.slots] == [(4, 8)] * 4 + [(8,)]


@pytest.mark.filterwarnings("ignore:hardware 'custom' has 9 crossbars")
def test_sums_of_shares_come_near_to_costs() -> None:
    machine = MACHINE.replace(resources={"crossbars": 9})
    space = SearchSpace(SHAPES, machine, first_last_bits=None, prices=prices("stationary", machine))
    policies = drawn(space, 60)
    exact = [space.cost(policy) for policy in policies]

    def agreement(some: SearchSpace) -> float:
        """Spearman's, of the sums of slots with the costs."""
        sums = [sum(slot.cost[policy[slot.layers[0]]] for slot in some.slots) for policy in policies]
        ranks = [torch.tensor(values).argsort().argsort().double() for values in (exact, sums)]
        return float(torch.corrcoef(torch.stack(ranks))[0, 1])

    assert agreement(space) > 0.95
    assert agreement(SearchSpace(SHAPES, machine, first_last_bits=None)) < 0.9
    sums = [sum(slot.cost[policy[slot.layers[0]]] for slot in space.slots) for policy in policies]
    assert sum(sums) / sum(exact) == pytest.approx(1e6, rel=0.02)


@pytest.mark.parametrize("strategy", ["thompson", "knapsack", "evolution", "reinforce"])
def test_strategies_stay_within_a_cost(surrogate: Callable[..., Any], strategy: str) -> None:
    space = space_of(prices("stationary", duplication="greedy"))
    gain = 0.4 + 0.6 * space.gain(space.fastest)
    limit = CostLimit(space, gain)
    evaluator = surrogate()
    grid = list(uniform_grid(space, 6, gain).values())
    trials = Trials(space, evaluator, Budget(40 + len(grid)))
    trials.reward = LeastDamage(min(evaluator.damage(p) for p in grid if limit.fits(p)), limit)
    trials.evaluate([Proposal(policy, "baseline") for policy in grid])
    trials.run(STRATEGIES[strategy](StrategyTask(space, trials.budget, 3, 8, surrogate(), trials.reward)), 8)
    proposed = [e for e in trials.evaluations if e.strategy != "baseline"]
    assert proposed
    assert all(space.gain(e.policy) >= gain for e in proposed)
    uniform = min(e.damage for e in trials.evaluations if e.strategy == "baseline" and e.feasible)
    assert min(e.damage for e in proposed) <= uniform


def test_machines_that_must_be_simulated_are_said_to_be_slow() -> None:
    machine = MACHINE.replace(resources={"bus_bytes_per_us": 100.0})
    with pytest.warns(cimq.CimqWarning, match="every policy is compiled and simulated for pipeline='stationary'"):
        space = space_of(prices("stationary", machine), bits=(3, 5))
    policy = space.fastest
    program = compile_layers(network(policy).layers_json(), machine, "stationary")
    assert space.time_us(policy) == program.simulated.time_us


class Residual(nn.Module):
    """Convolutions with pooling and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norm(self.first(x))))
        x = torch.relu(self.second(torch.relu(self.branch(x))) + x)
        return self.last(self.pool(x).flatten(1))


def images(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count * 20) % 4
    x = torch.randn(len(y), 1, 8, 8, generator=generator) + y[:, None, None, None]
    return list(zip(x.split(20), y.split(20), strict=True))


def test_the_result_costs_what_cimq_compile_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    machine = cimq.Hardware(name="twelve", rows=32, cols=32, resources={"crossbars": 12})
    options = {**FAST, "hardware": machine, "pipeline": "pipelined", "finetune_batches": 4, "shared_epochs": 0}
    result = cimq.search(Residual().eval(), images(8), val_loader=images(12)[8:], out=tmp_path, **options)
    assert result.program is not None
    x = images(1)[0][0]
    bundle = tmp_path / "model.cimq"
    with pytest.warns(cimq.CimqWarning, match="the closed-form latency is that of one"):  # as the bundle's entry
        cimq.export(result.model, bundle, x[:2], check=False)
    program = cimq.compile(bundle, pipeline="pipelined")
    assert program.simulated.time_us == result.time_us == result.program.time_us
    assert program.chosen == result.program.chosen
    assert result.speedup == result.gain == result.program.uniform8_time_us / result.time_us
    written = json.loads((tmp_path / "result.json").read_text())
    found = next(row for row in written["rows"] if row["name"] == "found policy")
    assert (found["time_us"], found["speedup"]) == (result.time_us, result.speedup)
    assert written["pipeline"] == written["program"]["pipeline"] == "pipelined"
    assert written["reference"]["time_us"] == result.baselines["uniform 8-bit"].time_us
    assert "pipeline 'pipelined'" in str(result)
    page = result.report(tmp_path).read_text()
    assert "as a simulated program, pipeline pipelined" in page
    with pytest.raises(ValueError, match="pipeline"):
        cimq.search(
            Residual().eval(), images(8), val_loader=images(12)[8:], out=tmp_path, resume=True,
            **{**options, "pipeline": "stationary"},
        )  # fmt: skip


class Attention(nn.Module):
    """A layer of PyTorch's transformer between linear ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.attention(self.first(x)).mean(1))


@pytest.mark.parametrize("pipeline", ["stationary", "pipelined"])
def test_values_that_crossbars_hold_are_written_for_every_policy(pipeline: str) -> None:
    machine = cimq.Hardware(name="forty", rows=16, cols=32, resources={"crossbars": 40})
    torch.manual_seed(0)
    x = torch.randn(4, 5, 6)
    prepared = cimq.prepare(Attention().eval(), None, machine, example_inputs=x).eval()
    cimq.calibrate(prepared, [(x, torch.zeros(4, dtype=torch.long))], batches=1)
    shapes = layer_shapes(prepared, x)
    some = ProgramPrices.of_model(prepared, x, shapes, machine, pipeline, None, with_energy=False)
    space = SearchSpace(shapes, machine, prices=some)
    for policy in drawn(space, 3):
        cimq.set_policy(prepared, space.policy(policy))
        program = compile_layers(network_of(prepared, x).layers_json(), machine, pipeline)
        assert space.time_us(policy) == program.simulated.time_us
        assert program.writes > 0


def test_what_has_no_program_is_refused_before_anything_is_trained() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = trained_network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) * float(x.sum() > 0)

    with pytest.raises(ValueError, match="search: pipeline 'stationary' needs the network as cimq"):
        search(Halves().eval(), pipeline="stationary")
    with pytest.raises(ValueError, match="pipeline must be one of closed_form, stationary, pipelined, got 'fast'"):
        search(trained_network(), pipeline="fast")
    with pytest.raises(ValueError, match="duplication must be None or one of none, greedy"):
        search(trained_network(), pipeline="stationary", duplication="more")
    with pytest.raises(ValueError, match="the closed form has no copies of layers"):
        search(trained_network(), duplication="greedy")
    with pytest.raises(ValueError, match="needs pipeline='pipelined'"):
        search(trained_network(), pipeline="stationary", duplication="any")
    with pytest.raises(ValueError, match="compiles the crossbar layers"):
        ProgramPrices(network(((8, 8),) * len(SHAPES)).layers_json(), SHAPES[1:], MACHINE, "stationary")
