"""Which rungs of evaluation a search may trust: measured on policies near the target before the strategy starts."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence

from cimq.errors import CimqWarning
from cimq.policy_search.budget import SENSITIVITY_SHARE, Budget
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.evaluators.additive import AdditiveProxy
from cimq.policy_search.knapsack import PolicyFront, Sensitivity, measure_sensitivity
from cimq.policy_search.ladder import (
    CALIBRATED,
    ENOUGH_POLICIES,
    LEAST_CORRELATION,
    PROXY,
    SHARED,
    TRAINED,
    Ladder,
    RungCorrelation,
)
from cimq.policy_search.records import evenly_spaced
from cimq.policy_search.space import Pairs, SearchSpace

# Measuring may take this share of the evaluations; where it would take more, nothing is checked.
_SHARE = 0.1
# The damages that matter lie within this factor of the target, on both sides: over all that a space holds, any two
# rungs agree that 2 bits are worse than 8.
_RANGE = 4.0
# Policies that are trained later, and measured then; fixed, so that a search may be resumed with other finalists.
_LATER = 8
_STATES = 1024
_DRAWS = 50


class RungCheck:
    """Measures policies on the cheap rungs, tells which one ranks candidates and whether the proxy may start it.

    Attributes:
        ladder: What was measured.
        passed_over: Names of rungs that do not predict.
        policies: What was measured on every cheap rung.
        ranking: Name of the rung that candidates are to be ranked by.
        affordable: Whether it takes no more than a tenth of the evaluations, or was asked for.

    Args:
        space: The search space.
        budget: In which every measurement counts as a sensitivity: it takes the same samples.
        rungs: Evaluators on the same few samples by name, `CALIBRATED`, `SHARED` or both.
        rankers: The same on all samples, for those that may rank candidates.
        sensitivities: For the proxy; None: the strategy starts without, and the proxy is no rung.
        seed: Of the choice of policies.
        trained: How many policies are trained for the sake of the correlation; 0: only those that are anyway.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        rungs: Mapping[str, Evaluator],
        rankers: Mapping[str, Evaluator],
        sensitivities: Evaluator | None,
        *,
        seed: int = 0,
        trained: int = 0,
    ) -> None:
        self.ladder = Ladder(rungs)
        self.passed_over: list[str] = []
        self.policies: list[Pairs] = []
        self.ranking = self._first = SHARED if SHARED in rungs else CALIBRATED
        self._rankers = dict(rankers)
        self._space = space
        self._budget = budget
        self._sensitivities = sensitivities
        self._seed = seed
        self._trained = trained
        self._found: Sensitivity | None = None
        self._cheap = len(rungs)
        self._sentences: list[str] = []
        needed = len(rungs) * max(ENOUGH_POLICIES, trained)
        allowed = math.floor(_SHARE * budget.limit / SENSITIVITY_SHARE)
        self.affordable = trained > 0 or needed <= allowed  # where it was asked for, it is done
        self._reserved = max(0, min(len(rungs) * _LATER, allowed - needed))

    @property
    def ranker(self) -> Evaluator:
        """What candidates are to be ranked by."""
        return self._rankers[self.ranking]

    @property
    def start(self) -> Evaluator | None:
        """What strategies may measure sensitivities with; None where they are to start without."""
        if self._sensitivities is None or not self.proxy_predicts:
            return None
        return self._sensitivities if self.ranking == self._first else self.ladder.evaluator(self.ranking)

    @property
    def sensitivity(self) -> Sensitivity | None:
        """What was measured with `start` already; None where nothing was."""
        return self._found if self.proxy_predicts and self.ranking == self._first else None

    @property
    def proxy_predicts(self) -> bool:
        """Whether strategies may start from the proxy; true where nothing says otherwise."""
        return PROXY not in self.passed_over

    def run(
        self, uniform: Mapping[Pairs, float], target: float, train: Callable[[Sequence[Pairs]], Sequence[float | None]]
    ) -> None:
        """Measures and decides; does nothing where it is not affordable.

        Args:
            uniform: Damages of uniform policies.
            target: The damage that is aimed at.
            train: Gives the damages of policies after the short training; None where that is not known.
        """
        if not self.affordable:
            return
        self._budget.sensitivities += self._reserved
        self._found = measure_sensitivity(self._space, self._sensitivities, self._budget)
        if self._found is not None:
            self.ladder.add(PROXY, AdditiveProxy(self._space, self._found))
        self.policies = self._chosen(uniform, target, max(ENOUGH_POLICIES, self._trained))
        self._budget.sensitivities += self.ladder.measure(self.policies)
        trained = self.policies[: self._trained]
        for policy, damage in zip(trained, train(trained), strict=True):
            self._note_trained(policy, damage)
        self._decide()
        self._warn()

    def finish(self, trained: Mapping[Pairs, float | None]) -> None:
        """Takes in the policies that were trained on the way; the cheap rungs are asked for them as well."""
        if not self.policies:
            return
        known = {policy: damage for policy, damage in trained.items() if damage is not None}
        policies = [policy for policy in known if self._is_canonical(policy) and policy != self._space.widest]
        # So many measurements were counted when the check began.
        new = [policy for policy in policies if policy not in self.policies]
        self.ladder.measure(new[: self._reserved // self._cheap])
        for policy in policies:
            self._note_trained(policy, known[policy])
        found = self.ladder.correlation(self.ranking, TRAINED)
        if found is not None and self.ranking not in self.passed_over:
            self._pass_over(found, "found at the end; a search with rung_policies=16 goes by it")
            self._warn()

    def _chosen(self, uniform: Mapping[Pairs, float], target: float, count: int) -> list[Pairs]:
        """Uniform policies, the front of the proxy and mixes of uniform policies, with damages that matter."""
        near = [
            policy
            for policy, damage in uniform.items()
            if self._is_canonical(policy) and target / _RANGE <= damage <= target * _RANGE
        ]
        if len(near) < 2:  # a target below or above all of them
            near = sorted(filter(self._is_canonical, uniform), key=lambda policy: abs(uniform[policy] - target))[:4]
        near.sort(key=lambda policy: -self._space.cost(policy))
        chosen = dict.fromkeys(evenly_spaced(near, max(2, count // 3)))
        if self._found is not None and near:
            chosen.update(dict.fromkeys(evenly_spaced(self._proxy_front(self._found, near), count // 3)))
        numbers = random.Random(f"rungs {self._seed}")
        for draw in range(_DRAWS * count):
            if len(chosen) >= count:
                break
            # Where there are no more mixes, which is so in small spaces alone, any policy will do.
            anything = not near or draw >= _DRAWS * count // 2
            chosen[self._drawn(numbers) if anything else self._mix(numbers, near)] = None
        return list(chosen)[:count]

    def _proxy_front(self, found: Sensitivity, near: Sequence[Pairs]) -> list[Pairs]:
        """The proxy's best policies, as fast as these."""
        space = self._space
        front = PolicyFront(space, found.of, _STATES)
        costs = [space.cost(policy) for policy in near]
        policies = [front.policy(point) for point in range(len(front.costs))]
        return [policy for policy in policies if min(costs) <= space.cost(policy) <= max(costs)]

    def _mix(self, numbers: random.Random, near: Sequence[Pairs]) -> Pairs:
        """Every layer from one of two policies; where there is but one, from it or the most bits."""
        first, second = numbers.sample(list(near), 2) if len(near) > 1 else (near[0], self._space.widest)
        share = numbers.uniform(0.25, 0.75)
        pairs = [(first if numbers.random() < share else second)[slot.layers[0]] for slot in self._space.slots]
        return self._space.canonical(self._space.assigned(pairs))

    def _drawn(self, numbers: random.Random) -> Pairs:
        return self._space.assigned([numbers.choice(slot.pairs) for slot in self._space.slots])

    def _decide(self) -> None:
        """Passes over what does not predict the rung above it that is known of enough policies."""
        lower = next(
            (name for name in (SHARED, CALIBRATED) if name in self.ladder.asked and name != self.ranking), None
        )
        found = self.ladder.correlation(self.ranking, TRAINED)
        if found is not None and found.enough and not found.predicts:
            other = None if lower is None else self.ladder.correlation(lower, TRAINED)
            if lower is not None and other is not None and other.predicts:
                self._pass_over(found, f"candidates are ranked by: {lower}")
                self.ranking, lower = lower, None
            else:
                self._pass_over(found, "there is no other that does, so that it ranks candidates all the same")
        if lower is not None and (found := self.ladder.correlation(lower, self._yardstick(lower))) is not None:
            self._pass_over(found, "it is not used")
        if (found := self.ladder.correlation(PROXY, self._yardstick(PROXY))) is not None:
            self._pass_over(found, "the strategy starts without it")

    def _yardstick(self, lower: str) -> str:
        """The highest rung that enough policies were measured on."""
        found = self.ladder.correlation(lower, TRAINED)
        return TRAINED if found is not None and found.enough else self.ranking

    def _pass_over(self, found: RungCorrelation, consequence: str) -> None:
        if found.predicts or not found.enough:
            return
        self.passed_over.append(found.lower)
        if found.lower in found.alike:
            reason = f"{found.lower!r} cannot tell {found.count} policies apart (all have the same damage)"
        else:
            reason = (
                f"the order of {found.count} policies by {found.lower!r} does not predict that by {found.higher!r} "
                f"(rank correlation {found.correlation:.2f}, less than {LEAST_CORRELATION})"
            )
        self._sentences.append(f"{reason}: {consequence}")

    def _warn(self) -> None:
        """One warning for all that was passed over."""
        if self._sentences:
            warnings.warn(f"search: {'; '.join(self._sentences)}", CimqWarning, stacklevel=2)
        self._sentences = []

    def _note_trained(self, policy: Pairs, damage: float | None) -> None:
        if damage is not None:
            self.ladder.note(TRAINED, [(policy, damage)])

    def _is_canonical(self, policy: Pairs) -> bool:
        return self._space.contains(policy) and self._space.canonical(policy) == policy
