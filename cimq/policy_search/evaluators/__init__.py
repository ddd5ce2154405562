"""Evaluators measure policies; each is an object with one method, `measure`.

`UntrainedAccuracy` ranks candidates, `OutputDistance` tells how sensitive layers are; `ShortTraining`, which gives a
model as well, judges the last few.
"""

from __future__ import annotations

from cimq.policy_search.evaluators.evaluator import Evaluator, Measure

__all__ = ["Evaluator", "Measure"]
