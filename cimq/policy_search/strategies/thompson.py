"""Thompson sampling of what bits cost: every proposal is the best policy, by exact knapsack, of one draw from what was
learned so far.

The damage of a policy is taken as a sum over layers, of what their weight bits and what their activation bits cost. The
sum starts from measured sensitivities, which do not know how errors of layers meet; every evaluated policy corrects it
(`cimq._C.DamageModel`, a Bayesian linear model). A draw from the posterior differs from its mean where little is known,
so that what could be better is looked at (Thompson, Biometrika 25, 1933; Russo et al., arXiv 1707.02038).
"""

from __future__ import annotations

from collections.abc import Sequence

from cimq._C import DamageModel
from cimq.policy_search.knapsack import PolicyFront, Sensitivity, measure_sensitivity
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

# Deviations of draws, in those of the posterior: less than 1, as there are far fewer evaluations than unknowns.
_TEMPERATURE = 0.3
# How far a sensitivity may be off, and a policy's damage from a sum over its layers: shares of the one and the other.
_PRIOR_DEVIATION = 1.0
_MISFIT = 0.03
# Policies far from the target say less of those near it: this share of their distance is added to the misfit.
_MISFIT_AWAY = 0.1
# Sums that the knapsack of a draw keeps: what it takes in time is off by less than the draw itself.
_STATES = 1024
# A draw that gives what is known already raises the temperature of the next ones of the batch; so many in a batch may.
_STIRRING = 1.25
_TRIES = 25


class Thompson:
    """Proposes batches: the best policy of the posterior mean, then of draws."""

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._target = task.reward.target
        self._known: set[Pairs] = set()
        self._new: list[Evaluation] = []  # not learned from yet
        self._queue: list[Proposal] = []  # the rest of a batch
        self._model: DamageModel | None = None
        self._draws = 0
        space = task.space
        # Feature 0 is what the most bits cost; then one for each width of the weights and the activations of a slot.
        self._feature: dict[tuple[int, int, int], int] = {}
        for index, slot in enumerate(space.slots):
            for position, choices in enumerate((slot.weight_choices, slot.act_choices)):
                for width in choices:
                    self._feature[index, position, width] = 1 + len(self._feature)

    def propose(self, count: int) -> list[Proposal]:
        """Policies that were not measured yet, of one batch; none where no draw gives another."""
        if not self._queue:
            if self._model is None:
                self._model = self._prior()
            for evaluation in self._new:
                self.learn(self._model, evaluation)
            self._new = []
            self._queue = self._batch(self._model)
        proposals, self._queue = self._queue[:count], self._queue[count:]
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Takes in results, to be learned from before the next batch."""
        for result in results:
            if result.policy not in self._known:
                self._known.add(result.policy)
                self._new.append(result)

    def learn(self, model: DamageModel, evaluation: Evaluation) -> None:
        """Corrects what bits cost by one measured policy."""
        features = self._features(evaluation.policy)
        if features is not None:
            misfit = max(_MISFIT * self._target, _MISFIT_AWAY * abs(evaluation.damage - self._target))
            model.observe(features, evaluation.damage, misfit)

    def _batch(self, model: DamageModel) -> list[Proposal]:
        proposals: list[Proposal] = []
        asked = set(self._known)
        temperature = 0.0  # the first is what looks best; the others are what might be
        for _ in range(self._task.batch + _TRIES):
            policy = self._best(model.draw(self._task.seed, self._draws, temperature))
            if policy not in asked:
                asked.add(policy)
                proposals.append(Proposal(policy, "thompson", self._draws))
                temperature = max(temperature, _TEMPERATURE)
            else:
                temperature = max(_TEMPERATURE, temperature * _STIRRING)
            self._draws += 1
            if len(proposals) == self._task.batch:
                break
        return proposals

    def _prior(self) -> DamageModel:
        task, found = self._task, None
        if task.sensitivities is not None:
            found = measure_sensitivity(task.space, task.sensitivities, task.budget)
        mean = [0.0, *(self._expected(found, *key) for key in self._feature)]
        return DamageModel(mean, [self._target, *(_PRIOR_DEVIATION * damage for damage in mean[1:])])

    def _expected(self, sensitivity: Sensitivity | None, index: int, position: int, width: int) -> float:
        """What a width costs before any policy was measured.

        Without sensitivities all layers are alike, and the power of quantisation noise falls by 4 per bit.
        """
        if sensitivity is None:
            return self._target / len(self._task.space.slots) * 4.0 ** (4 - width)
        return (sensitivity.act if position else sensitivity.weight)[index][width]

    def _features(self, policy: Pairs) -> list[int] | None:
        """None for a policy that the space does not hold (say, 8 bits everywhere with a smaller range)."""
        features = [0]
        for index, slot in enumerate(self._task.space.slots):
            for position, width in enumerate(policy[slot.layers[0]]):
                feature = self._feature.get((index, position, width))
                if feature is None:
                    return None
                features.append(feature)
        return features

    def _best(self, damages: Sequence[float]) -> Pairs:
        """The policy with the largest reward if these are the damages of the features."""
        space, reward = self._task.space, self._task.reward

        def damage_of(index: int, pair: tuple[int, int]) -> float:
            return sum(damages[self._feature[index, position, width]] for position, width in enumerate(pair))

        front = PolicyFront(space, damage_of, _STATES)
        rewards = [
            reward(damages[0] + damage, space.uniform8_ps / time_ps)
            for time_ps, damage in zip(front.times_ps, front.damages, strict=True)
        ]
        return front.policy(max(range(len(rewards)), key=rewards.__getitem__))
