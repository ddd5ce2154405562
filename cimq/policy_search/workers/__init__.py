"""Workers: who measures and trains policies, side by side.

A `Pool` answers calls of methods of tools that every worker has a copy of: in this process (`InProcess`), in local
processes (`LocalProcesses`), or on a cluster (`RayActors`). An answer is a function of its call alone, computed with
the same number of threads everywhere, so that it does not matter who answers, in which order, or how often.
"""

from __future__ import annotations

from cimq.policy_search.workers.pool import Call, InProcess, Pool

__all__ = ["Call", "InProcess", "Pool"]
