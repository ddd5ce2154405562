"""Made-up networks whose best policy is known: damages of layers, and interactions that no sensitivity shows.

The damage of a policy is a sum over layers, plus, for neighbours, `interaction * sqrt(damage * damage of the next)`
with a sign of its own: errors of layers add up or cancel each other. The evaluator has noise, the same for a policy
whenever it is measured. Sensitivities are measured with fewer samples: what a layer costs there is off by a factor of
its own for weights and activations, and the noise is larger.

The optimum, the fastest within a damage, is known between two bounds. For a price of time, the policy with the least
`damage + price * time` follows exactly from a dynamic programme along the chain of layers; no policy within a damage D
is faster than the largest over all prices of `(least - D) / price` (Lagrange's bound). The fastest policy within D that
is met on the way, improved by moves of one and two layers, is the other bound. Of the least damage within a time, the
same prices give a lower bound, the largest `least - price * time`, and the best policy that is met is the other.

Used by the benchmarks of this folder and by tests/policy_search.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence

from cimq.cost_model import LayerShape
from cimq.policy_search import SearchSpace
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.space import Pairs

# Sensitivities are measured on a quarter of the samples.
_NOISE_OF_FEW = 2.0
_PRICES = 60
# Standard deviation of the logarithm of what a bit fewer costs; quantisation noise alone has a factor of 4.
_FALL = 0.2


class Problem:
    """A network, and what measuring its policies gives.

    Args:
        layers: How many layers, the first and the last of which have 8 bits; or the shapes of real ones.
        seed: Of everything.
        interaction: Standard deviation of the interactions of neighbours; 0: damages add up.
        noise: Standard deviation of a measured damage, where 4 bits everywhere cost 1.
        sensitivity_error: Standard deviation of the logarithm of what sensitivities are off by.
    """

    def __init__(
        self,
        layers: int | Sequence[LayerShape],
        seed: int,
        *,
        interaction: float = 0.5,
        noise: float = 0.0,
        sensitivity_error: float = 0.5,
    ) -> None:
        numbers = random.Random(f"problem {seed}")
        self.shapes = _shapes(layers, numbers) if isinstance(layers, int) else list(layers)
        count = len(self.shapes)
        self.space = SearchSpace(self.shapes, "paper")
        self._seed = seed
        self._noise = noise
        # What 4 bits cost, and how much more each bit fewer.
        self._alone = [(math.exp(numbers.gauss(0, 1.0)), math.exp(numbers.gauss(0, 1.2))) for _ in range(count)]
        self._falls = [
            (4 * math.exp(numbers.gauss(0, _FALL)), 4 * math.exp(numbers.gauss(0, _FALL))) for _ in range(count)
        ]
        self._few = [
            (w * math.exp(numbers.gauss(0, sensitivity_error)), a * math.exp(numbers.gauss(0, sensitivity_error)))
            for w, a in self._alone
        ]
        self._interaction = [interaction * numbers.gauss(0, 1) for _ in range(count)]
        self._scale = 1.0
        self._scale = 1.0 / self.damage(self.space.uniform(4, 4))

    def damage(self, policy: Pairs) -> float:
        """Without noise; 1 for 4 bits everywhere."""
        return self._sum(policy, self._alone)

    def few_damage(self, policy: Pairs) -> float:
        """As the samples for sensitivities have it, without noise."""
        return self._sum(policy, self._few)

    def _sum(self, policy: Pairs, alone: Sequence[tuple[float, float]]) -> float:
        lost = before = 0.0
        for index, (w, a) in enumerate(policy):
            own = self._own(index, w, a, alone)
            lost += own + self._interaction[index] * math.sqrt(own * before)
            before = own
        return max(0.0, lost)

    def _own(self, layer: int, w: int, a: int, costs: Sequence[tuple[float, float]] | None = None) -> float:
        alone, falls = (self._alone if costs is None else costs)[layer], self._falls[layer]
        return self._scale * (alone[0] * falls[0] ** (4 - w) + alone[1] * falls[1] ** (4 - a))

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """With noise."""
        for policy in policies:
            yield _measured(self.damage(policy), self._noise, f"{self._seed} {policy}")

    @property
    def sensitivities(self) -> Few:
        """Measures what sensitivities are made of."""
        return Few(self, self._noise * _NOISE_OF_FEW, self._seed)

    def optimum(self, target: float) -> tuple[float, float]:
        """Speed-up of the fastest policy within a damage: of one that is, and what none exceeds."""
        slots = self.space.slots
        fastest, bound = self._improved(list(self.space.widest), target), 0.0
        # Prices around that of the target: a share of the damage for a share of the time.
        unit = target / self.space.uniform8_cost
        met: set[Pairs] = set()
        for number in range(_PRICES):
            price = unit * 10 ** (-1.5 + 3 * number / (_PRICES - 1))
            policy, least = self._cheapest(price)
            bound = max(bound, (least - target) / price)
            met.add(policy)
        within = [policy for policy in met if self.damage(policy) <= target]
        for policy in sorted(within, key=self.space.time_us)[:3]:
            fastest = min(fastest, self._improved(list(policy), target))
        assert len(slots) == len(self.shapes), "the dynamic programme goes from layer to layer"
        return self.space.uniform8_cost / fastest, self.space.uniform8_cost / bound

    def least_damage(self, gain: float) -> tuple[float, float]:
        """Damage of the least damaged policy with a speed-up: of one that has it, and what none is below."""
        space = self.space
        time, bound = space.cost_at(gain), 0.0
        met: set[Pairs] = {space.fastest}
        for number in range(4 * _PRICES):
            price = 10 ** (-3 + 8 * number / (4 * _PRICES - 1)) / space.uniform8_cost
            policy, least = self._cheapest(price)
            bound = max(bound, least - price * time)
            met.add(policy)
        return min(self.damage(policy) for policy in met if space.speedup(policy) >= gain), bound

    def _cheapest(self, price: float) -> tuple[Pairs, float]:
        """The policy with the least `damage + price * time`, by dynamic programming, and that sum."""
        best: list[tuple[float, Pairs, float]] = [(0.0, (), 0.0)]  # sum, layers so far, damage of the last alone
        for index, slot in enumerate(self.space.slots):
            strength = self._interaction[index]
            following = []
            for pair in slot.pairs:
                own = self._own(index, *pair)
                value, before = min(
                    (value + strength * math.sqrt(own * last), number) for number, (value, _, last) in enumerate(best)
                )
                following.append((value + own + price * slot.cost[pair], (*best[before][1], pair), own))
            best = following
        value, policy, _ = min(best)
        return policy, value

    def _improved(self, policy: list[tuple[int, int]], target: float) -> int:
        """Time after moves of one and two layers while one makes the policy faster."""
        while True:
            better = min(self._faster(policy, target), default=None)
            if better is None:
                return round(self.space.uniform8_cost / self.space.speedup(policy))
            for layer, pair in better[1]:
                policy[layer] = pair

    def _faster(
        self, policy: list[tuple[int, int]], target: float
    ) -> Iterator[tuple[int, tuple[tuple[int, tuple[int, int]], ...]]]:
        """Moves within the target: by how much the time changes, and what is changed."""
        damage, count = self.damage(tuple(policy)), len(policy)
        own = [self._own(layer, *pair) for layer, pair in enumerate(policy)]

        def meeting(layer: int, values: Sequence[float]) -> float:
            return self._interaction[layer] * math.sqrt(values[layer] * values[layer - 1]) if 0 < layer < count else 0.0

        singles = []
        for layer, slot in enumerate(self.space.slots):
            for pair in slot.pairs:
                if pair != policy[layer]:
                    moved = [*own[:layer], self._own(layer, *pair), *own[layer + 1 :]]
                    change = moved[layer] - own[layer]
                    change += sum(meeting(at, moved) - meeting(at, own) for at in (layer, layer + 1))
                    time = slot.cost[pair] - slot.cost[policy[layer]]
                    singles.append((layer, pair, time, change))
        room = target - damage
        for layer, pair, time, change in singles:
            if time < 0 and change <= room:
                yield time, ((layer, pair),)
        # Neighbours meet, so that only layers apart can be changed as if each were alone.
        for (i, p, t, c), (j, q, u, d) in itertools.combinations(singles, 2):
            if t + u < 0 and c + d <= room and j - i > 1:
                yield t + u, ((i, p), (j, q))


class Few:
    """The evaluator of sensitivities."""

    def __init__(self, problem: Problem, noise: float, seed: int) -> None:
        self._problem = problem
        self._noise = noise
        self._seed = seed

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """Damages on fewer samples."""
        for policy in policies:
            damage = self._problem.few_damage(policy)
            # What is small is measured well: samples shift all outputs by what there is to shift.
            yield _measured(damage, self._noise * min(1.0, damage), f"few {self._seed} {policy}")


def _measured(damage: float, noise: float, key: str) -> Measured:
    found = max(0.0, damage + random.Random(key).gauss(0, noise))
    return Measured(0.92 - 0.01 * found, found)


def _shapes(layers: int, numbers: random.Random) -> list[LayerShape]:
    return [
        LayerShape(
            f"l{index}", "conv2d", numbers.choice([64, 128, 256]), numbers.choice([288, 576, 1152, 2304]),
            numbers.choice([64, 196, 784]),
        )
        for index in range(layers)
    ]  # fmt: skip
