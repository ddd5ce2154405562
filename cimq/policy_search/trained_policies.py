"""Policies that were trained: kept in the folder of a search, so that one that is resumed does not train them again."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cimq.atomic_files import atomic_file
from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.space import Pairs

FOLDER_NAME = "trained"


class TrainedWeights(NamedTuple):
    """What training a policy gave.

    Attributes:
        confirmed: What the confirmation set says.
        state: State dict of the trained model.
    """

    confirmed: Confirmed
    state: dict[str, Tensor]


class TrainedPolicies:
    """One file per policy, each written as a whole.

    Args:
        folder: Of the search; None keeps nothing.
        settings: Plain values that determine the search: what was trained under others is not taken.
        resume: Without, what is there is removed: it may be of other data or functions.
    """

    def __init__(self, folder: str | Path | None, settings: dict[str, Any], *, resume: bool) -> None:
        self._folder = None if folder is None else Path(folder) / FOLDER_NAME
        self._settings = _digest(settings)
        if self._folder is not None and not resume:
            for path in self._folder.glob("*.pt"):
                path.unlink()

    @property
    def on_disk(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def find(self, policy: Pairs) -> TrainedWeights | None:
        """What is kept of a policy.

        Raises:
            ValueError: If its file cannot be read; names it.
        """
        return self._read(policy, mapped=False)

    def holds(self, policy: Pairs) -> bool:
        """Whether something is kept of a policy; its weights are not read.

        Raises:
            ValueError: If its file cannot be read; names it.
        """
        return self._read(policy, mapped=True) is not None

    def _read(self, policy: Pairs, *, mapped: bool) -> TrainedWeights | None:
        path = self._path(policy)
        if path is None or not path.exists():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            settings, pairs = content["settings"], [tuple(pair) for pair in content["policy"]]
            weights = TrainedWeights(Confirmed.from_dict(content["confirmed"]), dict(content["model"]))
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"search: {path} is damaged ({type(error).__name__}); delete it, and its policy is trained again"
            ) from error
        return weights if settings == self._settings and pairs == list(policy) else None

    def keep(self, policy: Pairs, weights: TrainedWeights) -> None:
        """Writes the file of a policy.

        Raises:
            OSError: If it cannot be written; names it.
        """
        path = self._path(policy)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "settings": self._settings,
            "policy": [list(pair) for pair in policy],
            "confirmed": weights.confirmed.to_dict(),
            "model": weights.state,
        }
        with atomic_file(path) as file:
            torch.save(content, file)

    def _path(self, policy: Pairs) -> Path | None:
        return None if self._folder is None else self._folder / f"{_digest([list(pair) for pair in policy])}.pt"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
