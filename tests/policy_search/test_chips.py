"""Where cells vary, candidates are judged on several chips, the same for all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.policy_search.chips import CHIPS, CONFIRMATION_CHIP, SEARCH_CHIP, on_chips, shared_out
from cimq.policy_search.data import HeldBatches, Splits
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.without_training import WithoutTraining
from cimq.policy_search.functions import UserFunctions
from cimq.quantization import quant_layers
from cimq.quantization.inspection import set_chip

NOISY = cimq.Hardware.preset("rram-wan2022").replace(rows=32, cols=32)
PAIRS = ((4, 4), (4, 4))


def splits(sizes: list[int]) -> Splits:
    x = torch.randn(sum(sizes), 12)
    batches = list(zip(x.split(sizes), (torch.arange(len(x)) % 4).split(sizes), strict=True))
    held = HeldBatches(batches)
    return Splits([], held, held, (len(x), len(x)))


def prepared(hardware: cimq.Hardware) -> nn.Module:
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(64, 12)
    model = cimq.prepare(net, cimq.Policy.uniform(4, 4), hardware, example_inputs=x)
    cimq.calibrate(model, [(x, torch.zeros(64).long())])
    return model.eval()


@pytest.mark.parametrize("sizes", [[100], [50, 30, 3], [8] * 9, [2, 2]])
def test_samples_are_shared_out_among_chips(sizes: list[int], recwarn: pytest.WarningsRecorder) -> None:
    before = splits(sizes)
    after = shared_out(before)
    for old, new in ((before.search, after.search), (before.confirm, after.confirm)):
        for i in range(2):
            assert torch.equal(torch.cat([batch[i] for batch in old]), torch.cat([batch[i] for batch in new]))
        count = sum(1 for _ in new)
        assert count >= min(CHIPS, sum(sizes))
        assert max(len(y) for _, y in new) <= max(sizes)
    few = [w for w in recwarn if "judged on 4 chips and not on 8" in str(w.message)]
    assert len(few) == (2 if sum(sizes) < CHIPS else 0)


def test_what_cannot_be_cut_is_named() -> None:
    held = HeldBatches([{"x": torch.randn(6, 12), "names": ["a"] * 6, "y": torch.arange(6)}])
    with pytest.warns(cimq.CimqWarning) as caught:
        after = shared_out(Splits([], held, held, (6, 6)))
    assert len(list(after.search)) == 1
    said = [str(warning.message) for warning in caught]
    assert ["measures policies is 1 batches" in said[0], "confirms policies is 1 batches" in said[1]] == [True, True]
    assert all("judged on 1 chips and not on 8" in words for words in said)


def test_a_batch_sets_its_chip_and_the_model_gets_its_own_back() -> None:
    model = prepared(NOISY)
    set_chip(model, 5)
    layers = [layer for _, layer in quant_layers(model)]
    seen = []
    with on_chips(model, range(10), 70) as batches:
        for _ in batches:
            seen.append({layer.chip_seed for layer in layers})
    assert seen == [{70 + k % CHIPS} for k in range(10)]
    assert {layer.chip_seed for layer in layers} == {5}
    with pytest.raises(ZeroDivisionError), on_chips(model, range(3), 70) as batches:
        1 / next(iter(batches))
    assert {layer.chip_seed for layer in layers} == {5}


def test_cells_that_do_not_vary_have_one_chip() -> None:
    model = prepared(cimq.Hardware.preset("paper"))
    given = [1, 2]
    with on_chips(model, given, 70) as batches:
        assert batches is given


def test_a_candidate_is_measured_on_the_chips_of_the_search() -> None:
    """Against the same by hand; on the first chip alone it is another number."""
    model = prepared(NOISY)
    held = shared_out(splits([200])).search
    fp32 = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    found = next(WithoutTraining(CandidateModel(model, held, HeldBatches([])), fp32, UserFunctions()).measure([PAIRS]))

    def right(chip_of: dict[int, int]) -> int:
        total = 0
        for number, (x, y) in enumerate(held):
            set_chip(model, chip_of[number])
            with torch.no_grad():
                output: Tensor = model(x)
            total += int((output.argmax(1) == y).sum())
        return total

    numbers = range(sum(1 for _ in held))
    assert round(found.accuracy * 200) == right({n: SEARCH_CHIP + n % CHIPS for n in numbers})
    accuracies = {right(dict.fromkeys(numbers, chip)) for chip in range(6)}
    assert len(accuracies) > 1, "chips must differ for this test to say something"
    assert not set(range(SEARCH_CHIP, SEARCH_CHIP + CHIPS)) & set(range(CONFIRMATION_CHIP, CONFIRMATION_CHIP + CHIPS))
