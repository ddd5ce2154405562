"""What a case of an operator is: its operands, what it must move and compute, and what its results must equal.

A case belongs to one operator and is measured at one size; a second, small size is for checks. Bytes are the least that
any kernel moves: every operand is read once, every result written once. Operations are those of the definition
(docs/numbers.md), each product, sum, comparison or division as one, in three kinds: of int8, float32 and float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import cimq.ops  # noqa: F401  (registers the operators and their shapes)


@dataclass(frozen=True)
class Operands:
    """Arguments of one call, on the CPU, and the operations that it takes.

    Attributes:
        arguments: As the operator takes them.
        shape: For people.
        operations: Kind -> number; kinds of which there are none may be left out.
    """

    arguments: tuple[Any, ...]
    shape: str
    operations: dict[str, int] = field(default_factory=dict)


# (arguments, results of the CPU) -> for each result how far the device's may be from it; None: the same bits.
Slack = Callable[[Sequence[Any], Sequence[Tensor]], Sequence[Tensor | None]]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: Unique.
        operator: `cimq::` name without the namespace.
        kernels: Functions of csrc/kernels/cuda that compute it, as far as they exist.
        make: Operands; the argument asks for the small size.
        slack: None where all results must have the bits of the CPU's.
    """

    name: str
    operator: str
    kernels: tuple[str, ...]
    make: Callable[[bool], Operands]
    slack: Slack | None = None

    def call(self, arguments: Sequence[Any]) -> list[Tensor]:
        """The results of the operator as a list."""
        results = getattr(torch.ops.cimq, self.operator).default(*arguments)
        return [results] if isinstance(results, Tensor) else list(results)


def moved(arguments: Sequence[Any], device: torch.device | str) -> tuple[Any, ...]:
    """The arguments with their tensors on a device."""
    return tuple(value.to(device) if isinstance(value, Tensor) else value for value in arguments)


def least_bytes(arguments: Sequence[Any], results: Iterable[Tensor]) -> int:
    """Every tensor once."""
    tensors = [*(value for value in arguments if isinstance(value, Tensor)), *results]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_of(case: Case, operands: Operands) -> int:
    """`least_bytes` from shapes alone; nothing is computed."""
    arguments = moved(operands.arguments, "meta")
    return least_bytes(arguments, case.call(arguments))


def differences(case: Case, operands: Operands, device: torch.device | str) -> list[str]:
    """Runs the case on the device and on the CPU; how the results differ, in words."""
    expected = case.call(operands.arguments)
    found = [result.cpu() for result in case.call(moved(operands.arguments, device))]
    if len(found) != len(expected):
        return [f"{len(found)} results, the CPU gives {len(expected)}"]
    allowed: Sequence[Tensor | None] = [None] * len(expected)
    if case.slack is not None:
        allowed = case.slack(operands.arguments, expected)
    faults = []
    for index, (ours, theirs, slack) in enumerate(zip(found, expected, allowed, strict=True)):
        fault = _difference(ours, theirs, slack)
        if fault:
            faults.append(f"result {index}: {fault}")
    return faults


def _difference(found: Tensor, expected: Tensor, slack: Tensor | None) -> str:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"{found.dtype} {list(found.shape)}, the CPU gives {expected.dtype} {list(expected.shape)}"
    # NaN has no bits of its own; zeros have a sign.
    same = (found == expected) & (torch.signbit(found) == torch.signbit(expected))
    if found.is_floating_point():
        same |= found.isnan() & expected.isnan()
    if slack is not None:
        same |= (found.double() - expected.double()).abs() <= slack
    wrong = int((~same).sum())
    if wrong == 0:
        return ""
    first = int((~same).flatten().nonzero()[0])
    values = f"{found.flatten()[first].item()!r} and not {expected.flatten()[first].item()!r}"
    return f"{wrong} of {found.numel()} values differ, the first, number {first}, is {values}"


def digest(results: Iterable[Tensor]) -> str:
    """SHA-256 of the values of the results."""
    found = hashlib.sha256()
    for result in results:
        found.update(result.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def operators_of_cimq() -> list[str]:
    """All operators that have a kernel for tensors of the CPU, without those of a gradient alone."""
    names = (name for name in torch._C._dispatch_get_all_op_names() if name.startswith("cimq::"))
    return sorted(
        name.removeprefix("cimq::") for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    )
