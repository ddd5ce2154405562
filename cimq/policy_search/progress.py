"""What the user sees while a search runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs


class Progress:
    """A bar over the evaluations, with the fastest feasible speed-up so far.

    Args:
        total: Evaluations that may come.
        shown: False shows nothing.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._bar = tqdm(total=total, desc="search", unit="policy", disable=not shown)
        self._fastest = 0.0

    def evaluated(self, evaluation: Evaluation) -> None:
        """Takes in one more evaluation."""
        self._bar.update(1)
        if evaluation.feasible:
            self._fastest = max(self._fastest, evaluation.speedup)
        if self._fastest:
            self._bar.set_postfix(fastest_feasible=f"{self._fastest:.3f}x", refresh=False)

    @contextmanager
    def training(self, policy: Pairs) -> Iterator[None]:
        """Says that a policy is being trained."""
        bits = f"{policy[0]}" if len(set(policy)) == 1 else f"{len(set(policy))} widths"
        self._bar.set_description(f"training {bits}")
        yield
        self._bar.set_description("search")

    def say(self, text: str) -> None:
        """Writes a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
