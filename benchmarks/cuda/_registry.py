"""All cases, and which operators have none."""

from __future__ import annotations

import _crossbar_cases
import _layer_cases
import _quantiser_cases
from _cases import Case, operators_of_cimq

CASES: dict[str, Case] = {
    case.name: case for module in (_quantiser_cases, _crossbar_cases, _layer_cases) for case in module.CASES
}


def operators_without_case() -> list[str]:
    covered = {case.operator for case in CASES.values()}
    return [name for name in operators_of_cimq() if name not in covered]
