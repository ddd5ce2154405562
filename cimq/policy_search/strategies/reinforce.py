"""REINFORCE, started from the knapsack of an additive model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cimq._C import Reinforce as Agent
from cimq.policy_search.knapsack import knapsack_path
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.knapsack_walk import NEAR, KnapsackWalk
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

_WARM_EVALUATIONS = 12
_WARM_RATE = 0.1
_COLD_RATE = 0.2
# Log-probability lost per bit of distance from the start; weights matter in steps of whole cells, hence less.
_WEIGHT_SLOPE = 1.0
_ACT_SLOPE = 2.0
# An agent that proposes only what it knows is stirred, and finally stopped.
_STALE_BEFORE_STIRRING = 2
_STIRRING = 0.08
_STALE_BEFORE_STOPPING = 60


class Reinforce:
    """Samples batches and learns from what was measured of them; known policies teach too, but cost no budget.

    Within a cost, a sample beyond it becomes the nearest policy within. To the agent that is a part of what it samples
    for, as canonical forms are: it learns what its choices lead to.
    """

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._known: dict[Pairs, Evaluation] = {}
        self._walk: KnapsackWalk | None = None
        self._agent: Agent | None = None
        self._actions: list[list[int]] = []  # of the batch that is being measured
        self._rewards: list[float] = []
        self._learned = False  # something that was not known, in this batch
        self._stale = 0  # batches in a row without

    def propose(self, count: int) -> list[Proposal]:
        """Policies of the warm start, then samples; not beyond the batch after which the agent learns."""
        if self._agent is None:
            proposals = self._warm_start(count)
            if proposals:
                return proposals
            self._agent = self._start_agent()
        if self._stale >= _STALE_BEFORE_STOPPING:
            return []
        self._agent.exploration = _STIRRING if self._stale >= _STALE_BEFORE_STIRRING else 0.0
        first = self._agent.episode
        actions = self._agent.sample(min(count, self._task.batch - len(self._actions)))
        self._actions += actions
        task = self._task
        policies = [task.fitting(task.space.decode(row)) for row in actions]
        return [Proposal(policy, "reinforce", first + number) for number, policy in enumerate(policies)]

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Learns when a batch is complete."""
        self._learned |= any(result.policy not in self._known for result in results)
        self._known.update((result.policy, result) for result in results)
        if self._walk is not None:
            self._walk.observe(results)
        if self._agent is None:
            return
        self._rewards += [result.reward for result in results]
        if len(self._rewards) == self._task.batch:
            self.learn(self._agent, self._actions, self._rewards)
            self._stale = 0 if self._learned else self._stale + 1
            self._actions, self._rewards, self._learned = [], [], False

    def learn(self, agent: Agent, actions: list[list[int]], rewards: list[float]) -> None:
        """Updates the agent with a batch."""
        agent.update(actions, rewards)

    def _warm_start(self, count: int) -> list[Proposal]:
        task = self._task
        if self._walk is None:
            sensitivity = task.sensitivity()
            if sensitivity is None:
                return []
            path = knapsack_path(task.space, sensitivity)
            self._walk = KnapsackWalk(
                path, min(_WARM_EVALUATIONS, max(1, task.budget.left // 2)), NEAR, task.reward.limit
            )
            self._walk.observe(list(self._known.values()))
        return self._walk.propose(count)

    def _start_agent(self) -> Agent:
        task, space = self._task, self._task.space
        self._learned = False
        logits = None
        start = None if self._walk is None else self._walk.best
        self._walk = None
        if start is not None:
            # A baseline may be better than the path: start from the best that the agent can express.
            known = [evaluation for evaluation in self._known.values() if space.contains(evaluation.policy)]
            best = max([start, *known], key=lambda e: e.reward)
            logits = space.logits_near(space.canonical(best.policy), _WEIGHT_SLOPE, _ACT_SLOPE)
        return Agent(
            space.masks,
            seed=task.seed,
            learning_rate=_COLD_RATE if logits is None else _WARM_RATE,
            entropy_updates=max(1, math.ceil(task.budget.left / task.batch)),
            logits=logits,
        )
