"""The prepared model of a search, and what measures policies on it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from cimq.bundle.programs import CLOSED_FORM
from cimq.policy_search.any_bits import train_any_bits
from cimq.policy_search.budget import SENSITIVITY_SHARE, Budget
from cimq.policy_search.costs import Costs
from cimq.policy_search.data import FirstBatches, HeldBatches, Splits
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.racing import RACING_SAMPLES, Racing
from cimq.policy_search.evaluators.remembered import Remembered
from cimq.policy_search.evaluators.short_training import ShortTraining
from cimq.policy_search.evaluators.side_by_side import OneByOne
from cimq.policy_search.evaluators.without_training import WithoutTraining
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.ladder import CALIBRATED, SHARED
from cimq.policy_search.measuring_costs import measure_costs
from cimq.policy_search.program_prices import ProgramPrices
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.space import SearchSpace
from cimq.policy_search.strategies import WITHOUT_SENSITIVITIES
from cimq.quantization import calibrate, layer_shapes, prepare
from cimq.torch_tools.batches import kept_random_state, split_batch
from cimq.training.progress import length_of
from cimq.training.state import load_weights

# Names of the tools: what ranks candidates, the same on fewer samples (both followed by the name of a rung), and what
# judges the last few.
CANDIDATES = "candidates, "
SENSITIVITIES = "sensitivities, "
TRAINING = "training"


class Workbench:
    """Prepares and calibrates a copy of a model.

    Attributes:
        shapes: Layers in module order.
        space: What may be chosen.
        programs: What policies cost as programs; None by the closed form.

    Args:
        model: The fp32 model; is not changed.
        splits: The three sets.
        settings: Of the search.
        functions: Of the user.
    """

    def __init__(self, model: nn.Module, splits: Splits, settings: SearchSettings, functions: UserFunctions) -> None:
        self._prepared = prepare(model, None, settings.hardware, exclude=settings.exclude).eval()
        self._statistics = _calibrate(self._prepared, splits, settings, functions)
        self._model, self._splits, self._settings, self._functions = model, splits, settings, functions
        self._calibrated: nn.Module | None = None  # as it was before the shared weights were trained
        sample = _one_sample(self._statistics)
        self.shapes = tuple(layer_shapes(self._prepared, sample))
        self.programs: ProgramPrices | None = None
        if settings.pipeline != CLOSED_FORM:
            self.programs = ProgramPrices.of_model(
                self._prepared, sample, self.shapes, settings.hardware, settings.pipeline, settings.duplication,
                with_energy=settings.objective != "latency",
            )  # fmt: skip
        self.space = SearchSpace(
            self.shapes,
            settings.hardware,
            bits=settings.bits,
            first_last_bits=settings.first_last_bits,
            weight_multiple_of_cell=settings.weight_multiple_of_cell,
            groups=settings.groups,
            objective=settings.objective,
            prices=self.programs,
            adc_bits=settings.adc_bits,
            mappings=settings.mappings,
        )

    def costs(self, threads: int, side_by_side: int) -> Costs:
        """Times a few steps; see `measure_costs`."""
        return measure_costs(
            self._prepared, self._model, self._splits, self._statistics, self.space, self._functions, self._settings,
            threads=threads, side_by_side=side_by_side,
        )  # fmt: skip

    def shorten_epochs(self, batches: int | None) -> None:
        """Epochs go through so many batches from now on; None: all."""
        if batches is not None:
            self._splits = dataclasses.replace(self._splits, train=FirstBatches(self._splits.train, batches))

    @functools.cached_property
    def training(self) -> ShortTraining:
        """Judges the last few candidates."""
        splits, most = self._splits, self._settings.finetune_batches
        if most is not None:
            splits = dataclasses.replace(splits, train=FirstBatches(splits.train, most))
        return ShortTraining(self._prepared, self._model, splits, self._statistics, self._settings, self._functions)

    def train_shared(self, epochs: int, checkpoint: Path | None, stepped: Callable[[int], None]) -> None:
        """Trains the weights that all candidates share; the short training starts from them.

        Args:
            epochs: How many.
            checkpoint: File that is written after each epoch, and taken up where the search is resumed.
            stepped: Is told the number of the step that begins.
        """
        self._calibrated = copy.deepcopy(self._prepared)
        settings, length = self._settings, length_of(self._splits.train) or 0
        train_any_bits(
            self._prepared, self._model, self._splits.train, self.space, self._functions,
            epochs=epochs, lr=settings.finetune_lr, seed=settings.seed, checkpoint=checkpoint,
            resume=settings.resume and checkpoint is not None,
            stepped=lambda epoch, step: stepped((epoch - 1) * length + step),
        )  # fmt: skip

    def take_shared(self, path: Path) -> None:
        """Takes the weights that an earlier search trained.

        Raises:
            ValueError: If the file is another one, or of another model; names it.
        """
        self._calibrated = copy.deepcopy(self._prepared)
        load_weights(path, self._prepared)

    def tools(self) -> dict[str, Any]:
        """What measures and trains policies, for workers: each has a copy of its own."""
        tools: dict[str, Any] = {TRAINING: self.training}
        models = {SHARED if self._calibrated is not None else CALIBRATED: self._prepared}
        if self._calibrated is not None:
            models[CALIBRATED] = self._calibrated
        for rung, model in models.items():
            candidate = self._candidate(model, self._splits.search)
            few = math.ceil(SENSITIVITY_SHARE * self._splits.samples[0])
            tools[CANDIDATES + rung] = OneByOne(WithoutTraining(candidate, self._model, self._functions))
            tools[SENSITIVITIES + rung] = OneByOne(WithoutTraining(candidate, self._model, self._functions, few))
        return tools

    def rung_check(self, budget: Budget, evaluator: Callable[[str], Evaluator]) -> RungCheck:
        """What finds out by which rung candidates are to be ranked.

        Args:
            budget: Of the search.
            evaluator: Asks a tool by its name.
        """
        settings = self._settings
        names = [CALIBRATED] if self._calibrated is None else [CALIBRATED, SHARED]
        rungs: dict[str, Evaluator] = {name: Remembered(evaluator(SENSITIVITIES + name), budget) for name in names}
        wholes = {name: evaluator(CANDIDATES + name) for name in names}
        if self._splits.samples[0] >= RACING_SAMPLES:
            wholes = {name: Racing(evaluator(SENSITIVITIES + name), whole) for name, whole in wholes.items()}
        informed = settings.strategy not in WITHOUT_SENSITIVITIES
        return RungCheck(
            self.space,
            budget,
            rungs,
            wholes,
            rungs[names[-1]] if informed else None,
            seed=settings.seed,
            trained=settings.rung_policies,
        )

    def evaluator_on(self, batches: Iterable[Any]) -> WithoutTraining:
        """What measures policies in the same way on other data."""
        return WithoutTraining(self._candidate(self._prepared, batches), self._model, self._functions)

    def _candidate(self, model: nn.Module, batches: Iterable[Any]) -> CandidateModel:
        copied = copy.deepcopy(model)
        return CandidateModel(copied, batches, self._statistics, self._functions.forward, self._settings.seed)


def _calibrate(prepared: nn.Module, splits: Splits, settings: SearchSettings, functions: UserFunctions) -> HeldBatches:
    """Calibrates the model on the training data; gives the batches that batch statistics are measured on."""
    with kept_random_state(prepared, settings.seed, [splits.train]):
        calibrate(prepared, splits.train, batches=settings.calibration_batches, forward_fn=functions.forward)
        return HeldBatches(itertools.islice(splits.train, settings.bn_batches), settings.bn_batches)


def _one_sample(statistics: HeldBatches) -> Any:
    """The inputs of a batch, for the shapes of the layers (which are counted per sample)."""
    for batch in statistics:
        return split_batch(batch)[0]
    raise ValueError("search: the loader is empty")
