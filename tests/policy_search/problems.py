"""Made-up networks whose best policy is known: damages of layers, and interactions that no sensitivity shows.

The damage of a policy is a sum over layers, plus, for neighbours, `interaction * sqrt(damage * damage of the next)`
with a sign of its own: errors of layers add up or cancel each other. Sensitivities are measured one layer at a time,
and are off by a factor besides, as they are where they are taken on few samples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from cimq.cost_model import LayerShape
from cimq.policy_search import SearchSpace
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.space import Pairs


class Problem:
    """A network of `layers` layers.

    Args:
        layers: How many, the first and the last of which have 8 bits.
        seed: Of everything.
        interaction: Size of the interactions of neighbours; 0: damages add up.
        noise: Standard deviation of a measured damage.
        proxy_error: Standard deviation of the logarithm of what sensitivities are off by.
    """

    def __init__(
        self, layers: int, seed: int, *, interaction: float = 0.5, noise: float = 0.0, proxy_error: float = 0.7
    ) -> None:
        numbers = random.Random(f"problem {seed}")
        self.shapes = [
            LayerShape(
                f"l{index}", "conv2d", numbers.choice([64, 128, 256]), numbers.choice([288, 576, 1152, 2304]),
                numbers.choice([64, 196, 784]),
            )
            for index in range(layers)
        ]  # fmt: skip
        self.space = SearchSpace(self.shapes, "paper")
        self._seed = seed
        self._noise = noise
        self._weight = [math.exp(numbers.gauss(0, 1.0)) for _ in range(layers)]
        self._act = [math.exp(numbers.gauss(0, 1.2)) for _ in range(layers)]
        off = [math.exp(numbers.gauss(0, proxy_error)) for _ in range(2 * layers)]
        self._error = list(zip(off[0::2], off[1::2], strict=True))
        self._interaction = [interaction * numbers.gauss(0, 1) for _ in range(layers)]
        self._scale = 1.0
        self._scale = 1.0 / self.damage(self.space.uniform(4, 4))  # 4 bits everywhere: 1

    def damage(self, policy: Pairs) -> float:
        """Without noise."""
        return self._sum(policy, [(1.0, 1.0)] * len(policy), self._interaction)

    def _sum(self, policy: Pairs, error: Sequence[tuple[float, float]], interaction: Sequence[float]) -> float:
        lost = before = 0.0
        for index, (w, a) in enumerate(policy):
            factors = error[index]
            own = self._scale * (factors[0] * self._weight[index] * 4.0**-w + factors[1] * self._act[index] * 4.0**-a)
            lost += own + interaction[index] * math.sqrt(own * before)
            before = own
        return max(0.0, lost)

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """With noise: the same for a policy whenever it is measured."""
        for policy in policies:
            noise = random.Random(f"{self._seed} {policy}").gauss(0, self._noise)
            damage = max(0.0, self.damage(policy) + noise)
            yield Measured(0.9 - 0.01 * damage, damage)

    @property
    def sensitivities(self) -> Sensitivities:
        """Measures what sensitivities would be made of."""
        return Sensitivities(self)

    def proxy(self, policy: Pairs) -> float:
        """The sum of wrong damages, without interactions."""
        return self._sum(policy, self._error, [0.0] * len(policy))


class Sensitivities:
    """An evaluator that is off."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """Damages by the wrong sum."""
        return (Measured(0.9, self._problem.proxy(policy)) for policy in policies)
