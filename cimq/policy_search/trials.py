"""Measures what strategies propose: all of them with one evaluator, one budget, one cache and one journal."""

from __future__ import annotations

from collections.abc import Sequence

from cimq.policy_search.budget import Budget
from cimq.policy_search.cache import Measurement, MeasurementCache
from cimq.policy_search.evaluators import Evaluator, Measured
from cimq.policy_search.evaluators.racing import Racing
from cimq.policy_search.journal import Journal
from cimq.policy_search.progress import Progress
from cimq.policy_search.records import Evaluation
from cimq.policy_search.reward import AnyReward
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.strategies import Proposal, Strategy


class Trials:
    """Evaluates policies within a budget.

    Attributes:
        space: Gives time and speed-up.
        budget: Evaluations allowed and made.
        evaluations: All of them, in order.
        rung: Name of the rung that they are measured on.

    Args:
        space: The search space.
        evaluator: Gives accuracy and damage.
        budget: What may be measured.
        journal: Where it is recorded; what it holds already is not measured again.
        progress: Shows what happens; None shows nothing.
        rung: Name of the evaluator's rung.
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluator: Evaluator,
        budget: Budget,
        journal: Journal | None = None,
        progress: Progress | None = None,
        rung: str = "",
    ) -> None:
        self.space = space
        self.budget = budget
        self.evaluations: list[Evaluation] = []
        self._journal = journal or Journal(None, {})
        self._progress = progress or Progress(shown=False)
        self._reward: AnyReward | None = None
        self._evaluated: dict[Pairs, Evaluation] = {}
        self.rank_by(evaluator, rung)

    def rank_by(self, evaluator: Evaluator, rung: str) -> None:
        """Measures by another evaluator from now on; what was measured so far is of no use then.

        Raises:
            RuntimeError: If policies were evaluated already.
        """
        if self.evaluations:
            raise RuntimeError("the evaluator cannot change once policies were evaluated")
        self.rung = rung
        self._evaluator = evaluator
        recorded = {
            entry.policy: Measurement(Measured(entry.accuracy, entry.damage, entry.share), entry.seconds)
            for entry in self._journal.recorded
            if entry.rung == rung
        }
        self._cache = MeasurementCache(evaluator, recorded)

    @property
    def reward(self) -> AnyReward:
        """The reward in use.

        Raises:
            RuntimeError: Before it is set.
        """
        if self._reward is None:
            raise RuntimeError("the reward of these trials is not set yet")
        return self._reward

    @reward.setter
    def reward(self, reward: AnyReward) -> None:
        self._reward = reward

    def measured(self, policies: Sequence[Pairs]) -> list[Measured]:
        """Accuracy and damage alone, kept for `evaluate`: for what must be known before the reward is."""
        return [measurement.measured for measurement in self._cache.measure(policies)]

    def evaluate(self, proposals: Sequence[Proposal]) -> list[Evaluation]:
        """Measures proposals, or gives what is known of them, which costs nothing.

        Returns:
            The evaluations in the order of the proposals, up to the first that the budget does not allow.

        Raises:
            ValueError: If the journal that is resumed continues differently.
        """
        results: list[Evaluation] = []
        while len(results) < len(proposals):
            # Where a part of the samples sufficed, some of the budget is left, so that there may be another round.
            allowed, new = self._allowed(proposals[len(results) :])
            if not allowed:
                break
            self._journal.expect(len(self.evaluations), new)
            measurements = self._cache.measure(new)
            for proposal in allowed:
                if proposal.policy not in self._evaluated:
                    self._enter(proposal, next(measurements))
                results.append(self._evaluated[proposal.policy])
        return results

    def run(self, strategy: Strategy, count: int) -> None:
        """Lets a strategy propose, `count` policies at a time, until the budget is spent or it has nothing left."""
        strategy.observe(self.evaluations)
        while self._most_allowed > 0:
            proposals = strategy.propose(count)
            if not proposals:
                return
            strategy.observe(self.evaluate(proposals))

    @property
    def _most_allowed(self) -> int:
        """New policies that may be measured at a time: a race may take more than a measurement of all samples."""
        return self.budget.allowed(self._evaluator.largest_share if isinstance(self._evaluator, Racing) else 1.0)

    def _allowed(self, proposals: Sequence[Proposal]) -> tuple[list[Proposal], list[Pairs]]:
        """The proposals that the budget allows, and those of their policies that are new."""
        new: dict[Pairs, None] = {}
        most = self._most_allowed
        for number, proposal in enumerate(proposals):
            if proposal.policy in self._evaluated or proposal.policy in new:
                continue
            if len(new) == most:
                return list(proposals[:number]), list(new)
            new[proposal.policy] = None
        return list(proposals), list(new)

    def _enter(self, proposal: Proposal, measured: Measurement) -> None:
        (accuracy, damage, share, _), seconds = measured
        gain = self.space.gain(proposal.policy)
        evaluation = Evaluation(
            len(self.evaluations),
            proposal.policy,
            proposal.strategy,
            accuracy,
            damage,
            self.space.time_us(proposal.policy),
            self.space.speedup(proposal.policy),
            self.space.cost(proposal.policy),
            self.reward(damage, gain),
            self.reward.feasible(damage, gain),
            seconds,
            proposal.episode,
            self.rung,
            share,
        )
        self._evaluated[proposal.policy] = evaluation
        self.evaluations.append(evaluation)
        self.budget.spend(share)
        self._journal.record(evaluation)
        self._progress.evaluated(evaluation)
