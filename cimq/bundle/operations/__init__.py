"""The operations that a bundle can hold: rows (`registry.Operation`) in files by subject, collected here.

Their other half, what the compiler and the executor know of them, is the table in csrc/compiler/ir/operators.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cimq.bundle.network import Node
from cimq.bundle.operations import arithmetic, arrange, elementwise, layers, normalization, pooling, resize, shape
from cimq.bundle.operations.registry import Call, Operation

_SUBJECTS = (layers, arithmetic, elementwise, normalization, pooling, resize, shape, arrange)
_ROWS: tuple[Operation, ...] = tuple(row for subject in _SUBJECTS for row in subject.ROWS)

OPERATIONS: dict[str, Operation] = {row.op: row for row in _ROWS}
"""By name."""

HANDLERS: dict[Any, Callable[[Call], list[Node]]] = {
    target: handler for row in _ROWS for target, handler in row.targets.items()
}
"""Modules and functions of a converted graph -> what makes their nodes."""

TAKING_CONSTANTS = frozenset(target for row in _ROWS if row.takes_constants for target in row.targets)
"""Those of them that may have parameters and buffers among their arguments."""

OF_CONSTANTS = frozenset(target for row in _ROWS if row.of_constants for target in row.targets)
"""Those of them that may have nothing else."""
