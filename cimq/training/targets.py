"""What default loss (cross-entropy) and default metric (top-1 accuracy) accept, decided here for every function.

Scores are [N, classes, ...] with at least two classes. Targets are

- classes: integers [N, ...] or [N, 1, ...] in 0..classes-1; -100 leaves an element out, of loss and metric alike;
- one-hot: integers of the shape of the scores;
- probabilities of the classes: floating point of the shape of the scores, not negative, with the sum 1. The metric
  compares with the most probable class.

Everything else is refused, as a number for it would be a wrong one: above all a single column of outputs (of which
the largest is always class 0, and whose softmax is always 1), as nobody can tell whether it holds logits,
probabilities or values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq.quantization.layers.accesses import counted_accesses
from cimq.torch_tools.batches import ForwardFn, kept_random_state, split_batch, to_device
from cimq.torch_tools.forward import default_forward, logits_of
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.parallel import unwrapped

Use = Literal["loss", "metric"]
IGNORED = -100
_USES = {"loss": "the default loss (cross-entropy)", "metric": "the default metric (top-1 accuracy)"}
_REMEDIES = {"loss": "pass loss_fn(output, target)", "metric": "pass metric_fn(output, target)"}
_FOR_ONE_COLUMN = {
    "loss": "torch.nn.functional.binary_cross_entropy_with_logits for logits or mse_loss for values",
    "metric": "lambda out, y: ((out > 0) == (y > 0.5)).float().mean() for logits",
}
_SUM_ERROR = 0.01  # probabilities may have been rounded to half precision


@dataclass(frozen=True)
class ClassTargets:
    """Scores with the targets that the default loss and metric take them for.

    Attributes:
        scores: [N, classes, ...].
        classes: int64 [N, ...] beside the scores; -100 where an element is left out.
        counted: Elements that are not left out.
        probabilities: [N, classes, ...] where the targets are such.
    """

    scores: Tensor
    classes: Tensor
    counted: int
    probabilities: Tensor | None = None

    @classmethod
    def of(cls, scores: Tensor, classes: Tensor, probabilities: Tensor | None = None) -> ClassTargets:
        """Targets that were checked where they lay, mostly on the CPU, and go to the device of the scores now."""
        counted = int((classes != IGNORED).sum())
        return cls(
            scores,
            to_device(classes, scores.device),
            counted,
            None if probabilities is None else to_device(probabilities, scores.device),
        )

    @property
    def right(self) -> Tensor:
        """Which elements have their largest score in their class; of scores with NaN none is the largest."""
        largest, found = self.scores.max(dim=1)
        return (found == self.classes) & ~largest.isnan()

    @property
    def correct(self) -> Tensor:
        """How many elements are right, int64 []; on the device of the scores, which is not waited for."""
        return self.right.sum()

    def cross_entropy(self, label_smoothing: float = 0.0) -> Tensor:
        """Mean over the elements that are not left out; 0 if all are."""
        scores = self.scores.float()
        if self.probabilities is not None:
            return F.cross_entropy(scores, self.probabilities.float(), label_smoothing=label_smoothing)
        if self.counted == 0:
            return scores.sum() * 0.0
        return F.cross_entropy(scores, self.classes, ignore_index=IGNORED, label_smoothing=label_smoothing)


def class_targets(output: Any, target: Any, use: Use) -> ClassTargets:
    """The targets of a batch in the one form that loss and metric work with.

    Args:
        output: What the model gave.
        target: Of the batch.
        use: For which of the two; messages name it and what to pass instead.

    Raises:
        TypeError: If output or target is no tensor, or the target is of a type that no class has.
        ValueError: If shapes or values are none of those above.

    Example:
        >>> import torch
        >>> int(class_targets(torch.eye(3), torch.tensor([[0], [1], [0]]), "metric").correct)
        2
    """
    what, remedy = _USES[use], _REMEDIES[use]
    scores = logits_of(output, remedy)
    if not isinstance(target, Tensor):
        got = "none" if target is None else type(target).__name__
        raise TypeError(f"{what} needs a tensor of classes as target, got {got}; {remedy}")
    got = f"outputs {[*scores.shape]} and targets {str(target.dtype).removeprefix('torch.')} {[*target.shape]}"
    if scores.dim() < 2 or scores.shape[1] < 2:
        raise ValueError(
            f"{what} needs scores [N, classes, ...] of two classes or more, got {got}: one column may hold logits, "
            f"probabilities or values; {remedy}, such as {_FOR_ONE_COLUMN[use]}"
        )
    of_classes = (scores.shape[0], *scores.shape[2:])
    if target.is_complex():
        raise TypeError(f"{what} needs classes as targets, got {got}; {remedy}")
    if target.shape == scores.shape:
        return _distributions(scores, target, f"{what} takes", f"got {got}; {remedy}")
    if target.shape not in (of_classes, (scores.shape[0], 1, *scores.shape[2:])):
        raise ValueError(
            f"{what} needs targets [N, ...] or [N, classes, ...] for scores [N, classes, ...], got {got}; {remedy}, or "
            "forward_fn(model, batch) if the classes are not dimension 1 of the outputs"
        )
    if target.is_floating_point():
        raise TypeError(
            f"{what} needs classes as targets, which are integers, got {got}; convert them (target.long()) if they "
            f"are classes, else {remedy}"
        )
    classes = target.reshape(of_classes).long()
    wrong = ((classes < 0) | (classes >= scores.shape[1])) & (classes != IGNORED)
    if bool(wrong.any()):
        raise ValueError(
            f"{what} needs classes in 0..{scores.shape[1] - 1} for outputs {[*scores.shape]} (or {IGNORED} for what "
            f"is left out), got {int(classes[wrong][0])}; the target is the last item of a batch, or its labels; "
            f"{remedy} for targets of another kind, forward_fn(model, batch) for other outputs"
        )
    return ClassTargets.of(scores, classes)


def _distributions(scores: Tensor, target: Tensor, takes: str, got: str) -> ClassTargets:
    """Targets that give a number for every class."""
    values = target.double()
    if not target.is_floating_point():
        if not bool(((values == 0) | (values == 1)).all() & (values.sum(dim=1) == 1).all()):
            raise ValueError(
                f"{takes} integer targets of the outputs' shape as one-hot, a single 1 for every element; {got} for "
                "several classes at once"
            )
        return ClassTargets.of(scores, target.long().argmax(dim=1))
    if not bool((values >= 0).all() & ((values.sum(dim=1) - 1).abs() <= _SUM_ERROR).all()):
        raise ValueError(
            f"{takes} floating-point targets of the outputs' shape as probabilities of the classes, not negative and "
            f"with the sum 1; {got} for values, or for several classes at once"
        )
    return ClassTargets.of(scores, target.argmax(dim=1), target)


def is_class_scores(output: Any, target: Any) -> bool:
    """Whether the default loss takes them, as scores [N, classes]."""
    if not (isinstance(output, Tensor) and output.dim() == 2):
        return False
    try:
        class_targets(output, target, "loss")
    except (TypeError, ValueError):
        return False
    return True


@torch.no_grad()
def check_first_batch(
    model: nn.Module, loader: Iterable[Any], uses: Iterable[Use], forward_fn: ForwardFn | None, empty: str
) -> None:
    """Finds out before long work whether default loss or metric fit a model and its data, on the first batch.

    Model and random state, the loader's too, are left as they were.

    Args:
        model: Any model; run once, in evaluation.
        loader: Must be one that can be gone through again.
        uses: Which of the two are going to be used.
        forward_fn: As in `evaluate`.
        empty: Message for a loader without batches.

    Raises:
        TypeError: As `class_targets`.
        ValueError: As `class_targets`, or for an empty loader.
    """
    uses = list(uses)
    if not uses:
        return
    model = unwrapped(model)
    with in_evaluation(model), kept_random_state(model, loaders=[loader]), counted_accesses():
        batch = next(iter(loader), None)
        if batch is None:
            raise ValueError(empty)
        output = (forward_fn or default_forward)(model, batch)
        target = split_batch(batch)[1]
        for use in uses:
            class_targets(output, target, use)
