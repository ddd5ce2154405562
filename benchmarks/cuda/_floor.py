"""The least time of a call from counts and rates."""

from __future__ import annotations

KINDS = ("int8", "float32", "float64")


def floor_seconds(
    bytes_moved: int, operations: dict[str, int], bytes_per_s: float, rates: dict[str, float]
) -> tuple[float, str]:
    """The least time of a call, and which of memory and units sets it. Units and memory work side by side."""
    times = {"memory": bytes_moved / bytes_per_s}
    times |= {kind: operations[kind] / rates[kind] for kind in KINDS if operations.get(kind)}
    bound = max(times, key=lambda name: times[name])
    return times[bound], bound
