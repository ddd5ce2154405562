"""Evaluators measure policies; each is an object with one method, `measure`.

`WithoutTraining` ranks candidates and tells how sensitive layers are; `ShortTraining`, which gives a model as well,
judges the last few.
"""

from __future__ import annotations

from cimq.policy_search.evaluators.evaluator import Evaluator, Measured, Units

__all__ = ["Evaluator", "Measured", "Units"]
