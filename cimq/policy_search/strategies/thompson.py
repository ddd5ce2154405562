"""Thompson sampling of what bits cost: every proposal is the best policy under one draw from what was learned so far.

The damage of a policy is taken as a sum over layers and pairs of layers (`damage_terms`). It starts from measured
sensitivities, which do not know how errors of layers meet; every evaluated policy corrects it (`cimq._C.DamageModel`, a
Bayesian linear model). A draw from the posterior differs from its mean where little is known, so that what could be
better is looked at (Thompson, Biometrika 25, 1933; Russo et al., arXiv 1707.02038).
"""

from __future__ import annotations

from collections.abc import Sequence

from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.damage_terms import DamageTerms
from cimq.policy_search.strategies.learned_damage import LearnedDamage
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

# Deviations of draws, in those of the posterior: less than 1, as there are far fewer evaluations than unknowns.
_TEMPERATURE = 0.5
# Targets of the proposals of a batch, as shares of the reward's, which is largest some per cent within its own.
_AIMS = (1.0, 1.03, 1.06, 1.0, 1.05)
# The last of a batch is somewhere else on the front: the constraint may turn out to hold for less damage, or for more.
_FRONT = (0.8, 1.25, 0.65, 1.6, 0.5, 2.0)
# A draw that gives what is known already raises the temperature of the next ones of the batch; so many in a batch may.
_STIRRING = 1.25
_TRIES = 25


class Thompson:
    """Proposes batches: the best policy of the posterior mean, then of draws."""

    name = "thompson"

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._known: dict[Pairs, Evaluation] = {}
        self._new: list[Evaluation] = []  # not learned from yet
        self._queue: list[Proposal] = []  # the rest of a batch
        self._damage: LearnedDamage | None = None
        self._draws = 0
        self._batches = 0

    def propose(self, count: int) -> list[Proposal]:
        """Policies that were not measured yet, of one batch; none where no draw gives another."""
        if not self._queue:
            if self._damage is None:
                self._damage = self._prior()
            for evaluation in self._new:
                self.learn(self._damage, evaluation)
            self._new = []
            self._damage.fit()
            self._queue = self._batch(self._damage)
        proposals, self._queue = self._queue[:count], self._queue[count:]
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Takes in results, to be learned from before the next batch."""
        for result in results:
            if result.policy not in self._known:
                self._known[result.policy] = result
                self._new.append(result)

    def learn(self, damage: LearnedDamage, evaluation: Evaluation) -> None:
        """Corrects what bits cost by one measured policy."""
        damage.observe(evaluation.policy, evaluation.damage)

    def _prior(self) -> LearnedDamage:
        task = self._task
        found = task.sensitivity()
        terms = DamageTerms(task.space, found, task.reward.target)
        damage = LearnedDamage(task.space, terms, task.reward)
        if found is not None and task.sensitivities is not None:
            self.prepare(terms, damage, task.sensitivities)
        return damage

    def prepare(self, terms: DamageTerms, damage: LearnedDamage, few: Evaluator) -> None:
        """What else is measured, after the sensitivities and as they are: nothing."""

    def _batch(self, damage: LearnedDamage) -> list[Proposal]:
        proposals: list[Proposal] = []
        asked = set(self._known)
        temperature = 0.0  # the first is what looks best; the others are what might be
        start: Pairs | None = None
        for _ in range(self._task.batch + _TRIES):
            last = len(proposals) == self._task.batch - 1
            aim = _FRONT[self._batches % len(_FRONT)] if last else _AIMS[len(proposals) % len(_AIMS)]
            policy = self._task.fitting(damage.best(self._task.seed, self._draws, temperature, start, aim))
            start = start or policy
            if policy not in asked:
                asked.add(policy)
                proposals.append(Proposal(policy, self.name, self._draws))
                temperature = max(temperature, _TEMPERATURE)
            else:
                temperature = max(_TEMPERATURE, temperature * _STIRRING)
            self._draws += 1
            if len(proposals) == self._task.batch:
                break
        self._batches += 1
        return proposals
