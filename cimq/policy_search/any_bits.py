"""The shared network: one set of weights that serves every policy of a search space, trained once.

Bits are drawn anew for every step and layer, so that no candidate needs training of its own to be judged by what
training can repair (AdaBits, Jin et al., CVPR 2020, arXiv 1912.09666; OQA, Shen et al., arXiv 2010.04354). Every width
has scales of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from cimq.policy import Policy
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.training import finetune

# The policy with the most bits and the one with the fewest come up regularly: what lies between them follows
# (Yu and Huang, Universally slimmable networks, ICCV 2019, arXiv 1903.05134, section 3.2).
_PERIOD = 8


def drawn_policy(space: SearchSpace, seed: int, epoch: int, step: int) -> Pairs:
    """The policy of a step of training; a function of its arguments alone."""
    if step % _PERIOD == 0:
        return space.widest
    numbers = random.Random(f"{seed}, {epoch}, {step}")
    fewest = step % _PERIOD == _PERIOD // 2
    return space.assigned([slot.pairs[-1] if fewest else numbers.choice(slot.pairs) for slot in space.slots])


def train_any_bits(
    prepared: nn.Module,
    teacher: nn.Module,
    loader: Iterable[Any],
    space: SearchSpace,
    functions: UserFunctions,
    *,
    epochs: int,
    lr: float,
    seed: int,
    checkpoint: Path | None = None,
    resume: bool = False,
    stepped: Callable[[int, int], None] = lambda epoch, step: None,
) -> None:
    """Trains a prepared, calibrated model in place for all policies of a space.

    Args:
        prepared: The model.
        teacher: The fp32 model, whose outputs are to be matched where the loss is the default one.
        loader: Training data.
        space: What bits are drawn from.
        functions: Loss and forward pass.
        epochs: Times through the loader.
        lr: Learning rate at the start.
        seed: Of the draws and of training.
        checkpoint: File that is written after each epoch.
        resume: Go on from it if it is there.
        stepped: Is told the epoch (from 1) and the step (from 0) that begin.
    """

    def drawn(epoch: int, step: int) -> Policy:
        stepped(epoch, step)
        return Policy.from_pairs(drawn_policy(space, seed, epoch, step))

    finetune(
        prepared,
        loader,
        epochs=epochs,
        lr=lr,
        teacher=teacher if functions.loss is None else None,
        loss_fn=functions.loss,
        forward_fn=functions.forward,
        policies=drawn,
        bn_batches=0,
        checkpoint=checkpoint,
        resume=resume,
        seed=seed,
        progress=False,
    )
