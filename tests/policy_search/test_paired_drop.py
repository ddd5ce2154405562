"""Whether a drop can be told from noise."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.paired_drop import PairedDrop, Scores, paired_drop


def answers(values: list[float], weights: list[float] | None = None, unit: str = "sample") -> Scores:
    return Scores(tuple(values), tuple(weights or [1.0] * len(values)), unit)


def test_samples_that_both_know_say_nothing_and_pairs_that_differ_say_all() -> None:
    reference = answers([1.0] * 900 + [0.0] * 100)
    worse = answers([1.0] * 860 + [0.0] * 140)
    found = paired_drop(reference, worse)
    assert found.drop == pytest.approx(0.04)
    assert found.interval is not None
    assert 0.02 < found.interval[0] < 0.04 < found.interval[1] < 0.06
    assert found.differs
    # As many lost, but as many that are scattered: 140 lost, 100 won.
    scattered = paired_drop(answers([1.0] * 140 + [0.0] * 860), answers([0.0] * 140 + [1.0] * 100 + [0.0] * 760))
    assert scattered.drop == pytest.approx(0.04)
    assert scattered.interval is not None
    assert scattered.interval[0] < 0.015 < 0.06 < scattered.interval[1]


def test_equal_answers_on_a_few_samples_do_not_prove_that_nothing_is_lost() -> None:
    few, many = (paired_drop(answers([1.0] * n), answers([1.0] * n)) for n in (20, 2000))
    assert few.drop == many.drop == 0
    assert few.interval is not None
    assert many.interval is not None
    assert few.interval[1] > 0.05
    assert many.interval[1] < 0.001
    assert not few.differs
    assert not many.differs


@pytest.mark.parametrize("count", [180, 2000])
def test_the_interval_holds_the_true_drop_as_often_as_it_says(count: int) -> None:
    numbers = random.Random(count)
    held = 0
    for _ in range(400):
        draws = [numbers.random() for _ in range(count)]
        reference = answers([float(draw < 0.92) for draw in draws])
        # Loses what lies in 0..0.03, wins what lies in 0.98..0.99.
        network = answers([float(0.03 <= draw < 0.92 or 0.98 <= draw < 0.99) for draw in draws])
        interval = paired_drop(reference, network).interval
        assert interval is not None
        held += interval[0] <= 0.02 <= interval[1]
    assert 0.92 <= held / 400 <= 0.99


def test_a_metric_of_batches_needs_enough_of_them() -> None:
    weights = [64.0] * 9 + [10.0]
    reference = answers([-0.2 * w for w in weights], weights, "batch")
    network = answers([-(0.3 + 0.01 * (i % 3)) * w for i, w in enumerate(weights)], weights, "batch")
    found = paired_drop(reference, network)
    assert found.differs
    assert found.interval is not None
    assert found.interval[0] < 0.11 < found.interval[1]
    few = paired_drop(answers([1.0] * 4, None, "batch"), answers([0.5] * 4, None, "batch"))
    assert few.drop == 0.5
    assert few.interval is None
    assert not few.differs
    assert "unknown" in few.sentence(False)
    with pytest.raises(ValueError, match="not measured on the same samples"):
        paired_drop(reference, answers([1.0]))


def test_answers_per_element_need_enough_samples() -> None:
    """Their scatter is not known of a few; the interval of 3 samples would have to be twice that of many."""
    numbers = random.Random(0)
    for count, known in ((2, False), (7, False), (8, True)):
        held = 0
        for _ in range(300):
            lost = [float(numbers.randint(0, 4)) for _ in range(count)]  # of 10 elements, 2 on average
            found = paired_drop(
                answers([9.0] * count, [10.0] * count), answers([9.0 - x for x in lost], [10.0] * count)
            )
            assert (found.interval is not None) == known
            held += found.interval is not None and found.interval[0] <= 0.2 <= found.interval[1]
        assert not known or held > 0.9 * 300


def test_samples_that_do_not_count_change_nothing() -> None:
    counted = paired_drop(answers([1.0] * 20), answers([1.0] * 19 + [0.0]))
    padded = answers([1.0] * 20 + [0.0] * 30, [1.0] * 20 + [0.0] * 30)
    network = answers([1.0] * 19 + [0.0] * 31, [1.0] * 20 + [0.0] * 30)
    assert paired_drop(padded, network) == counted
    nothing = paired_drop(answers([0.0] * 9, [0.0] * 9), answers([0.0] * 9, [0.0] * 9))
    assert (nothing.drop, nothing.interval, nothing.units) == (0.0, None, 0)


def test_sentences() -> None:
    clear = PairedDrop(0.02, 0.002, (0.016, 0.024), 5000, "sample")
    assert clear.sentence(True, 0.02, 4) == (
        "drop 2.00 points, 95 % interval 1.60 to 2.40, 5,000 samples: more than noise, a loss; it may be above the "
        "2.00 points that were asked for; taken from 4 networks by these samples, which makes a drop look smaller than "
        "it is"
    )
    assert "a gain" in PairedDrop(-0.02, 0.002, (-0.024, -0.016), 1, "sample").sentence(True)
    assert "drop 0.02, 95 % interval 0.016 to 0.024" in clear.sentence(False)


class Given(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_scores_add_up_to_the_accuracy() -> None:
    numbers = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(size, 5, generator=numbers), torch.randint(0, 5, (size,), generator=numbers)) for size in (7, 7, 3)
    ]
    accuracy, scores = UserFunctions().scored(Given(), batches)
    assert scores.right_or_wrong
    assert len(scores.values) == 17
    assert sum(scores.values) / 17 == pytest.approx(accuracy)
    # A picture's elements belong together, and what is left out does not count.
    pictures = torch.randn(4, 3, 2, 2, generator=numbers)
    targets = torch.randint(0, 3, (4, 2, 2), generator=numbers)
    targets[0] = -100
    accuracy, scores = UserFunctions().scored(Given(), [(pictures, targets)])
    assert scores.weights == (0.0, 4.0, 4.0, 4.0)
    assert not scores.right_or_wrong
    assert sum(scores.values) / 12 == pytest.approx(accuracy)
    few = paired_drop(scores, scores)
    assert (few.units, few.drop, few.interval) == (3, 0.0, None)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(output, target)

    metric, by_batch = UserFunctions(metric=loss).scored(Given(), batches)
    assert by_batch.unit == "batch"
    assert by_batch.weights == (7.0, 7.0, 3.0)
    assert sum(by_batch.values) / 17 == pytest.approx(metric)
