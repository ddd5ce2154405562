"""The short trainings of a search: by workers, each policy once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from torch import Tensor, nn

from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.space import Pairs
from cimq.policy_search.trained_policies import TrainedPolicies, TrainedWeights
from cimq.policy_search.workers import Call, Pool

# Gives a trained network: the same one every time, or read anew from where the search left it.
TrainedModel = Callable[[], nn.Module]


class TrainedModels(Mapping[str, nn.Module]):
    """Trained networks by name, made when they are asked for.

    Args:
        models: What gives them.
    """

    def __init__(self, models: Mapping[str, TrainedModel] | None = None) -> None:
        self._models = dict(models or {})

    def __getitem__(self, name: str) -> nn.Module:
        return self._models[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


class Trainings:
    """Trains policies on demand, or ahead of it.

    What is trained ahead has no influence on what a search finds: a training is a function of its policy.

    Args:
        pool: The workers.
        tool: Name of a `ShortTraining` that they have.
        kept: What was trained before.
        model: `model(policy, state)` makes the trained model.
        shown: `shown()` is entered while a policy is waited for.
    """

    def __init__(
        self,
        pool: Pool,
        tool: str,
        kept: TrainedPolicies,
        model: Callable[[Pairs, dict[str, Tensor]], nn.Module],
        shown: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._pool = pool
        self._tool = tool
        self._kept = kept
        self._model = model
        self._shown = shown
        self._begun: dict[Pairs, int] = {}  # tickets of what is being trained

    def ahead(self, policies: Sequence[Pairs]) -> None:
        """Begins to train policies that may be asked for, the likeliest first, as far as workers would idle."""
        idle = self._pool.width - self._pool.busy if self._pool.width > 1 else 0
        for policy in policies:
            if idle > 0 and policy not in self._begun and not self._kept.holds(policy):
                self._begin(policy)
                idle -= 1

    def __call__(self, policy: Pairs) -> tuple[Confirmed, TrainedModel]:
        """What the confirmation set says of a policy after training, and what gives the trained model."""
        weights = self._kept.find(policy)
        if weights is None:
            if policy not in self._begun:
                self._begin(policy)
            with self._shown():
                weights = TrainedWeights(*self._pool.result(self._begun.pop(policy)))
            self._kept.keep(policy, weights)
        if self._kept.on_disk:
            return weights.confirmed, lambda: self._again(policy)
        network = self._model(policy, weights.state)
        return weights.confirmed, lambda: network

    def _again(self, policy: Pairs) -> nn.Module:
        """The network, from its file: all that were trained may be more than memory holds."""
        weights = self._kept.find(policy)
        if weights is None:
            raise FileNotFoundError(f"search: the file in which the search left the network of {list(policy)} is gone")
        return self._model(policy, weights.state)

    def _begin(self, policy: Pairs) -> None:
        (self._begun[policy],) = self._pool.submit([Call(self._tool, "train", (policy,))])
