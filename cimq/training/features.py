"""Outputs of modules inside a model in training, and of the same modules inside its teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cimq.torch_tools.parallel import unwrapped


class FeaturePairs:
    """Outputs of the modules `names` in a student and in its teacher, from the latest forward pass of each.

    Example:
        >>> import torch
        >>> student, teacher = (torch.nn.Sequential(torch.nn.Linear(3, 2)) for _ in range(2))
        >>> pairs = FeaturePairs(["0"])
        >>> with pairs.watching(student, teacher):
        ...     y, wanted = student(torch.ones(1, 3)), teacher(torch.ones(1, 3))
        ...     loss = pairs.loss()  # add it to the loss of the task
        >>> loss.requires_grad
        True
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._student: dict[str, Tensor] = {}
        self._teacher: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def watching(self, student: nn.Module, teacher: nn.Module) -> Iterator[None]:
        """Keeps outputs while the context is open.

        Raises:
            ValueError: For a name that is no module of both models.
        """
        handles = []
        try:
            for model, outputs, which in ((student, self._student, "model"), (teacher, self._teacher, "teacher")):
                modules = dict(unwrapped(model).named_modules())
                for name in self.names:
                    if name not in modules:
                        raise ValueError(f"finetune: distill_features names {name!r}, which the {which} does not have")
                    handles.append(modules[name].register_forward_hook(_keep(outputs, name, which)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.forget()

    def forget(self) -> None:
        """Lets go of the outputs, and of the graph behind them."""
        self._student.clear()
        self._teacher.clear()

    def loss(self) -> Tensor:
        """Mean over modules of |student - teacher|^2 / |teacher|^2: 1 is what an output of zeros would give.

        Raises:
            ValueError: If a module did not run, or gave tensors of different shapes.
        """
        terms = []
        for name in self.names:
            if name not in self._student or name not in self._teacher:
                raise ValueError(f"finetune: module {name!r} of distill_features did not run in model and teacher")
            mine, wanted = self._student[name].float(), self._teacher[name].float().detach()
            if mine.shape != wanted.shape:
                raise ValueError(
                    f"finetune: outputs of {name!r} must have one shape in model and teacher, got {tuple(mine.shape)} "
                    f"and {tuple(wanted.shape)}"
                )
            power = wanted.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
            terms.append((mine - wanted).square().mean() / power)
        return torch.stack(terms).mean()


def _keep(outputs: dict[str, Tensor], name: str, which: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"finetune: distill_features needs modules that give one tensor, {name!r} of the {which} gives "
                f"{type(output).__name__}"
            )
        outputs[name] = output

    return hook
