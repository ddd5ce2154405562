"""Times instead of numbers of evaluations: how they are read, what fits into them, and that a plan is made once."""

from __future__ import annotations

import dataclasses
import json
import warnings
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_searches import FAST, assert_same, data, rows, search, trained_network
from torch import nn

from cimq import CimqWarning
from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.data import FirstBatches
from cimq.policy_search.durations import seconds_of, spoken
from cimq.policy_search.plan import DEFAULT_SIZE, Plan
from cimq.policy_search.time_budget import fitted
from cimq.policy_search.workbench import Workbench

# ResNet-20 on one core, about.
COSTS = Costs(
    step=0.4, training_step=0.4, sample=0.0015, epoch_batches=350, measured_samples=2500, confirmed_samples=9000,
    finetune_epochs=1, side_by_side=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2h", 7200), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("1.5 h", 5400), ("2 min 5 s", 125), ("1d", 86400),
        (12, 12), (0.5, 0.5), (timedelta(minutes=2), 120),
    ],
)  # fmt: skip
def test_times_are_read(value: Any, seconds: float) -> None:
    assert seconds_of("time_budget", value) == seconds


@pytest.mark.parametrize(
    "value", ["", "2", "h", "2x", "2h 3", "-1h", 0, -3, True, float("nan"), float("inf"), None, [], timedelta(0)]
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r'time_budget must be a time above 0, as in "2h"') as caught:
        seconds_of("time_budget", value)
    assert repr(value) in str(caught.value)


def test_times_for_people() -> None:
    assert [spoken(s) for s in (0.4, 59.6, 61, 7201, 90000)] == [
        "0 s",
        "1 min 0 s",
        "1 min 1 s",
        "2 h 0 min",
        "1 d 1 h",
    ]


@pytest.mark.parametrize("seconds", [240, 600, 1800, 7200, 86400])
@pytest.mark.parametrize("change", [{}, {"step": 20.0, "training_step": 20.0, "sample": 0.05}, {"side_by_side": 8}])
def test_a_size_fits_and_uses_the_time(seconds: float, change: dict[str, Any]) -> None:
    costs = dataclasses.replace(COSTS, **change)
    least = costs.total(Size(12, 1, 10, 1))
    if least > 0.9 * seconds:
        with pytest.raises(ValueError, match="the least that can be done takes about"):
            fitted(costs, seconds)
        return
    size = fitted(costs, seconds)
    assert costs.total(size) <= 0.9 * seconds
    most = costs.total(Size(1000, 6, None, 8))
    assert costs.total(size) >= 0.5 * min(0.9 * seconds, most)


def test_defaults_end_on_large_images() -> None:
    """EfficientNet at 224 pixels on two cores, of ImageNet: 16 days of shared training alone at the default size."""
    costs = dataclasses.replace(
        COSTS, step=25.0, training_step=25.0, sample=0.06, epoch_batches=20_000, confirmed_samples=5000
    )
    settings = SimpleNamespace(**dict.fromkeys(dataclasses.asdict(DEFAULT_SIZE)), time_budget=None)
    with pytest.warns(CimqWarning, match=r"default size it would take about .* d .*; it is made smaller, about"):
        size, plan = Plan(1, 1).sized(settings, lambda: 0.0, lambda: costs)  # type: ignore[arg-type]
    assert costs.total(size) <= 7200
    assert plan.seconds == costs.total(size)
    # Who asks for a size gets it, with a warning.
    settings.evaluations = 100
    with pytest.warns(CimqWarning, match="this will take"):
        size, _ = Plan(1, 1).sized(settings, lambda: 0.0, lambda: costs)  # type: ignore[arg-type]
    assert size == DEFAULT_SIZE
    # Where nothing ends in time, the least there is.
    slow = dataclasses.replace(costs, sample=60.0)
    assert fitted(slow, 7200, or_least=True) == Size(12, 1, 10, 1)


def test_more_time_does_more_and_what_is_given_stays() -> None:
    sizes = [fitted(COSTS, seconds) for seconds in (300, 1000, 3000, 10000)]
    worth = [(s.evaluations * s.shared_epochs * (s.train_batches or 350) * s.finalists) for s in sizes]
    assert worth == sorted(set(worth))
    given = fitted(COSTS, 1500, shared_epochs=0, finalists=2, train_batches=100)
    assert (given.shared_epochs, given.finalists, given.train_batches) == (0, 2, 100)
    stages = COSTS.stages(fitted(COSTS, 2000))
    assert min(stages.values()) > 0.1 * sum(stages.values())  # no part is starved


def test_trainings_that_were_asked_for_take_time() -> None:
    """`rung_policies` and `pareto` are no part of the size, and are trained like the finalists."""
    asked = dataclasses.replace(COSTS, rung_policies=16, pareto=5)
    size = Size(50, 1, 100, 4)
    assert asked.total(size) - COSTS.total(size) == pytest.approx(21 * COSTS.training(100))
    beside = dataclasses.replace(asked, side_by_side=4)
    assert beside.stages(size)["finalists"] == pytest.approx((1 + 1 + 2) * COSTS.training(100))
    assert fitted(asked, 2000).evaluations < fitted(COSTS, 2000).evaluations


def test_within_a_cost_fewer_uniform_policies_are_trained() -> None:
    within = dataclasses.replace(COSTS, within_cost=True)
    size = Size(50, 1, 100, 4)
    assert COSTS.total(size) - within.total(size) == pytest.approx(3 * COSTS.training(100))


def test_the_time_that_measuring_costs_takes_is_spent() -> None:
    passed = [10.0]

    def measure() -> Costs:
        passed[0] += 500.0
        return COSTS

    asked: Any = SimpleNamespace(
        time_budget=2000.0, evaluations=None, shared_epochs=None, train_batches=None, finalists=None
    )
    size, _ = Plan(1, 1).sized(asked, lambda: passed[0], measure)
    assert size == fitted(COSTS, 1490.0) != fitted(COSTS, 1990.0)


def test_of_a_stream_the_length_of_an_epoch_is_chosen() -> None:
    size = fitted(dataclasses.replace(COSTS, epoch_batches=None), 1000)
    assert size.train_batches is not None


def test_first_batches() -> None:
    batches = FirstBatches(data(5), 3)
    assert len(batches) == len(list(batches)) == len(list(batches)) == 3
    assert len(FirstBatches(data(2), 3)) == 2


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


def test_a_budget_is_planned_once_and_kept(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = dataclasses.replace(COSTS, epoch_batches=16, step=0.05, training_step=0.05, sample=2.5e-4)
    options: dict[str, Any] = {"evaluations": None, "shared_epochs": None, "finalists": None}
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "costs", lambda *_: cheap)
        whole = search(net, time_budget="60s", out=tmp_path / "whole", **options)
        plan = whole.plan
        assert plan is not None
        assert plan.size is not None
        assert len(whole.evaluations) <= plan.size.evaluations < 1000
        assert plan.seconds == cheap.total(plan.size) <= 60
        written = json.loads((tmp_path / "whole" / "result.json").read_text())["plan"]
        assert written["size"] == dataclasses.asdict(plan.size)

        cut = tmp_path / "cut"
        cut.mkdir()
        for name in ("plan.json", "search.json"):
            (cut / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        lines = (tmp_path / "whole" / "evaluations.jsonl").read_text().splitlines(keepends=True)
        (cut / "evaluations.jsonl").write_text("".join(lines[:5]))
    monkeypatch.setattr(Workbench, "costs", lambda *_: pytest.fail("costs were measured again"))
    with pytest.raises(ValueError, match=r"other settings: time_budget was 60.0, is 61.0"):
        search(net, time_budget="61s", out=cut, resume=True, **options)
    resumed = search(net, time_budget=60, out=cut, resume=True, **options)
    assert rows(cut) == rows(tmp_path / "whole")
    assert resumed.plan == plan
    assert_same(resumed, whole)


def test_costs_are_measured_on_copies(net: nn.Module) -> None:
    """A search whose epochs are shortened by hand; what was measured is in its plan, with or without a budget."""
    result = search(net, train_batches=4, evaluations=8, finalists=0, pareto=1)
    assert result.plan is not None
    costs = result.plan.costs
    assert costs is not None
    assert (costs.rung_policies, costs.pareto) == (0, 1)
    assert costs.epoch_batches == 16
    assert costs.measured_samples == 240 + 80  # half of the validation data, and four batches for batch statistics
    assert 0 < costs.step < 1
    assert 0 < costs.sample < 0.1
    assert "1 shared epochs of 4 batches" in str(result.plan)
    assert "8 evaluations" in str(result.plan)


def test_a_search_that_will_take_long_says_so_before_it_starts(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = dataclasses.replace(COSTS, step=5.0)
    monkeypatch.setattr(Workbench, "costs", lambda *_: slow)
    monkeypatch.setattr(Workbench, "train_shared", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    expected = spoken(slow.total(dataclasses.replace(DEFAULT_SIZE, finalists=FAST["finalists"])))
    words = rf'will take about {expected} .*shared epochs of 350 batches 1 h 27 min.*time_budget="1h"'
    with pytest.warns(CimqWarning, match=words) as caught, pytest.raises(KeyboardInterrupt):
        search(net, shared_epochs=None, evaluations=None)
    assert Path(caught[0].filename).name == "small_searches.py"  # where cimq.search is called
    with warnings.catch_warnings():  # a budget was asked for: no warning
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt):
            search(net, shared_epochs=None, evaluations=None, time_budget="5h")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time_budget": "soon"}, "time_budget must be a time above 0"),
        ({"time_budget": "1h", "evaluations": 50}, "give evaluations or time_budget"),
        ({"train_batches": 0}, "train_batches must be an integer of at least 1"),
        ({"time_budget": "1 s", "search_samples": 100}, "time_budget leaves"),
    ],
)
def test_errors(net: nn.Module, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str) -> None:
    monkeypatch.setattr(Workbench, "costs", lambda *_: COSTS)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        search(net, **{"evaluations": None, **options})
    assert words in str(caught.value)
