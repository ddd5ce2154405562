"""The prepared model of a search, and what measures policies on it."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from torch import nn

from cimq.policy_search.data import HeldBatches, Splits
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.output_distance import OutputDistance
from cimq.policy_search.evaluators.short_training import ShortTraining
from cimq.policy_search.evaluators.untrained import UntrainedAccuracy
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.space import SearchSpace
from cimq.quantization import calibrate, layer_shapes, prepare
from cimq.torch_tools.batches import kept_random_state, split_batch


class Workbench:
    """Prepares and calibrates a copy of a model.

    Attributes:
        shapes: Layers in module order.
        space: What may be chosen.
        accuracy: Ranks candidates.
        distance: For sensitivities.
        training: Judges the last few candidates.

    Args:
        model: The fp32 model; is not changed.
        splits: The three sets.
        settings: Of the search.
        functions: Of the user.
    """

    def __init__(self, model: nn.Module, splits: Splits, settings: SearchSettings, functions: UserFunctions) -> None:
        prepared = prepare(model, None, settings.hardware, exclude=settings.exclude).eval()
        statistics = _calibrated(prepared, splits, settings, functions)
        self.shapes = tuple(layer_shapes(prepared, _one_sample(statistics)))
        self.space = SearchSpace(
            self.shapes,
            settings.hardware,
            bits=settings.bits,
            first_last_bits=settings.first_last_bits,
            weight_multiple_of_cell=settings.weight_multiple_of_cell,
            groups=settings.groups,
        )
        self.training = ShortTraining(copy.deepcopy(prepared), model, splits, statistics, settings, functions)
        candidate = CandidateModel(prepared, splits.search, statistics, functions.forward, settings.seed)
        self.accuracy = UntrainedAccuracy(candidate, splits.samples[0], functions.accuracy)
        self.distance = OutputDistance(candidate, self.space.widest)


def _calibrated(prepared: nn.Module, splits: Splits, settings: SearchSettings, functions: UserFunctions) -> HeldBatches:
    """Calibrates the model on the training data; gives the batches that batch statistics are measured on."""
    with kept_random_state(prepared, settings.seed, [splits.train]):
        calibrate(prepared, splits.train, batches=settings.calibration_batches, forward_fn=functions.forward)
        count = max(1, settings.bn_batches)
        return HeldBatches(itertools.islice(splits.train, count), count)


def _one_sample(statistics: HeldBatches) -> Any:
    """The inputs of a batch, for the shapes of the layers (which are counted per sample)."""
    for batch in statistics:
        return split_batch(batch)[0]
    raise ValueError("search: the loader is empty")
