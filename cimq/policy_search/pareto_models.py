"""Trained networks along the front: a choice between speed and accuracy, not one answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cimq.atomic_files import atomic_file
from cimq.policy import Policy
from cimq.policy_search.flow import Outcome
from cimq.policy_search.judge import Trained
from cimq.policy_search.paired_drop import PairedDrop
from cimq.policy_search.space import Pairs, SearchSpace

FOLDER = "pareto"


@dataclasses.dataclass(frozen=True)
class ParetoModel:
    """A policy of the front, trained like the finalists.

    Attributes:
        policy: Its bits.
        accuracy: On the confirmation set.
        drop: What it lost against 8 bits everywhere after the same training, sample by sample.
        time_us: Latency, by the closed form or of the program.
        speedup: Against 8 bits everywhere.
        path: Where its weights lie; None where it is kept in memory.
    """

    policy: Policy
    accuracy: float
    drop: PairedDrop | None
    time_us: float
    speedup: float
    path: Path | None
    _made: Callable[[], nn.Module] = dataclasses.field(repr=False, compare=False)

    @property
    def model(self) -> nn.Module:
        """The trained network, ready for `cimq.export`; read from its file where it lies in one.

        Raises:
            FileNotFoundError: If that file is gone.
        """
        return self._made()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "policy": [list(row) for row in self.policy.rows()],
            "accuracy": self.accuracy,
            "drop": None if self.drop is None else self.drop.to_dict(),
            "time_us": self.time_us,
            "speedup": self.speedup,
            "file": None if self.path is None else f"{FOLDER}/{self.path.name}",
        }


def pareto_models_of(
    space: SearchSpace,
    outcome: Outcome,
    loaded: Callable[[Pairs, dict[str, Tensor]], nn.Module],
    out: str | Path | None,
) -> list[ParetoModel]:
    """The networks that the flow trained along the front, the slowest first.

    Args:
        space: Gives times.
        outcome: Of the flow.
        loaded: `loaded(policy, state)` makes a network from its weights.
        out: Folder for `pareto/0.pt`, `pareto/0.json` (its policy) and so on, of which there are no others afterwards;
            None keeps the networks in memory.
    """
    if out is not None:
        forget_pareto_models(out)
    return [_model(space, outcome, entry, number, loaded, out) for number, entry in enumerate(outcome.along)]


def forget_pareto_models(out: str | Path) -> None:
    """Removes those of an earlier search, or of this one when it was asked for more."""
    for path in Path(out, FOLDER).glob("*"):
        if path.suffix in (".pt", ".json") and path.stem.isdecimal():
            path.unlink()


def _model(
    space: SearchSpace,
    outcome: Outcome,
    entry: Trained,
    number: int,
    loaded: Callable[[Pairs, dict[str, Tensor]], nn.Module],
    out: str | Path | None,
) -> ParetoModel:
    path: Path | None = None

    def read() -> nn.Module:
        if path is None or not path.is_file():
            raise FileNotFoundError(f"search: {path} is gone, in which the search left a network of the front")
        return loaded(entry.policy, torch.load(path, map_location="cpu", weights_only=True))

    if out is not None:
        path = Path(out) / FOLDER / f"{number}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save({name: value.cpu() for name, value in entry.artefact().state_dict().items()}, file)
        space.policy(entry.policy).save(path.with_suffix(".json"))
    return ParetoModel(
        space.policy(entry.policy),
        entry.accuracy,
        entry.drop_from(outcome.reference),
        space.time_us(entry.policy),
        space.speedup(entry.policy),
        path,
        entry.artefact if path is None else read,
    )
