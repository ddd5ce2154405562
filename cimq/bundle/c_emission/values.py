"""Where the values of a network lie: places in one array of floats, taken again when a value is not read any more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def place_values(nodes: Sequence[Mapping[str, Any]], outside: set[str]) -> tuple[dict[str, int], int]:
    """First place that fits, in order of execution.

    Args:
        nodes: Nodes of layers.json.
        outside: Values that lie elsewhere: the input and the output of the network.

    Returns:
        Name -> its first element, and how many elements there are.

    Example:
        >>> chain = [{"name": n, "inputs": [i], "shape": [4]} for n, i in ("ax", "ba", "cb")]
        >>> place_values(chain, {"x"})
        ({'a': 0, 'b': 4, 'c': 0}, 8)
    """
    last_use = {name: index for index, node in enumerate(nodes) for name in node["inputs"]}
    places: dict[str, int] = {}
    alive: dict[str, int] = {}  # name -> size
    total = 0
    for index, node in enumerate(nodes):
        if node["name"] not in outside:
            size = math.prod(node["shape"])
            place = 0
            for name in sorted(alive, key=places.__getitem__):
                if place + size <= places[name]:
                    break
                place = max(place, places[name] + alive[name])
            places[node["name"]] = place
            alive[node["name"]] = size
            total = max(total, place + size)
        alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > index}
    return places, total
