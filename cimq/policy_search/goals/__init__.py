"""What a search is for: the fastest policy within an accuracy, or the most accurate within a cost."""

from __future__ import annotations

from cimq.policy_search.goals.fastest import Fastest
from cimq.policy_search.goals.goal import Aim, Goal
from cimq.policy_search.goals.most_accurate import MostAccurate

__all__ = ["Aim", "Fastest", "Goal", "MostAccurate"]
