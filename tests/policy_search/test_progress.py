"""One bar: stage, best so far, share of feasible ones, time left."""

from __future__ import annotations

import dataclasses
import io
from contextlib import redirect_stderr

import pytest
from small_searches import search, trained_network

from cimq.policy_search import Evaluation
from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.progress import Progress

COSTS = Costs(
    step=1.0, training_step=1.0, sample=0.1, epoch_batches=10, measured_samples=10, confirmed_samples=100,
    finetune_epochs=1, side_by_side=1,
)  # fmt: skip
SIZE = Size(evaluations=40, shared_epochs=2, train_batches=None, finalists=2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def evaluation(index: int, feasible: bool, strategy: str = "thompson") -> Evaluation:
    time_us, speedup = 5.0 - 0.1 * index, 2.0 + 0.1 * index
    return Evaluation(index, ((4, 4),), strategy, 0.9, 0.1, time_us, speedup, time_us, 0.0, feasible, 1.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    with redirect_stderr(io.StringIO()):
        return Progress(True, clock)


def test_the_time_left_is_what_was_expected_corrected_by_what_it_took(progress: Progress, clock: Clock) -> None:
    assert progress.left is None
    progress.plan(SIZE, COSTS, uniform_share=0.25)
    stages = COSTS.stages(SIZE)
    assert stages == {"shared training": 20, "uniform policies": 100, "evaluations": 40, "finalists": 80}
    assert progress.left == 240
    clock.now = 20.0
    progress.stepped(10)  # half of the shared training took twice its time
    assert progress.left == pytest.approx(2 * 230)
    clock.now = 200.0
    progress.evaluated(evaluation(0, True, "baseline"))
    assert progress.stage == "uniform policies"
    for index in range(1, 40):
        progress.evaluated(evaluation(index, index < 20))
    assert progress.stage == "strategy"
    clock.now = 320.0
    with progress.training():
        assert progress.stage == "finalists"
        assert progress.left == pytest.approx(160)  # twice what was expected for two, and two uniform policies
    assert str(progress) == "best 3.900x, 40 evaluations, 50% feasible, 1 min 47 s left"


def test_within_a_cost_the_best_is_the_least_damaged(clock: Clock) -> None:
    progress = Progress(False, clock, by_damage=True)
    for index, damage in enumerate((0.3, 0.1, 0.2)):
        progress.evaluated(dataclasses.replace(evaluation(index, True), damage=damage))
    progress.evaluated(dataclasses.replace(evaluation(3, False), damage=0.01))
    assert str(progress) == "best 2.100x with damage 0.1, 4 evaluations, 75% feasible"


def test_what_a_resumed_search_skips_does_not_make_the_rest_look_quick(progress: Progress, clock: Clock) -> None:
    progress.plan(SIZE, COSTS, uniform_share=0.25, resumed=True)
    clock.now = 1.0
    for index in range(20):
        progress.evaluated(evaluation(index, True))
    assert progress.left == pytest.approx(80 + 15)


def test_a_search_shows_all_stages_and_nothing_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    net = trained_network()
    stages = []
    original = Progress._at

    def at(self: Progress, stage: str, done: float) -> None:
        original(self, stage, done)
        stages.append(stage)

    monkeypatch.setattr(Progress, "_at", at)
    text = io.StringIO()
    with redirect_stderr(text):
        search(net, progress=True)
    assert [*dict.fromkeys(stages)] == ["shared training", "uniform policies", "strategy", "finalists"]
    assert "search: about" in text.getvalue()
    assert "left" in text.getvalue()
    text = io.StringIO()
    with redirect_stderr(text):
        search(net, progress=False)
    assert text.getvalue() == ""
