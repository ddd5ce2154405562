"""The schemas of the crossbar operators, which C++ makes from one list of arguments, written out."""

from __future__ import annotations

import pytest
import torch

import cimq.ops  # noqa: F401  (registers the operators)

CONV = "int[] stride=1, int[] padding=0, int[] dilation=1, int groups=1, "
DRAW = "int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, "
FIRST = "str hardware, int weight_bits, int act_bits, bool act_signed=False, "
FORWARD = 'str backend="auto", int first_access=0, str adc_grad="identity") -> Tensor'
BACKWARD = 'int first_access=0, str adc_grad="identity", bool[3] wanted=[True, True, True]) -> (Tensor, Tensor, Tensor)'
COUNTS = "int first_access=0) -> (Tensor, Tensor, Tensor, Tensor)"

SCHEMAS = {
    "crossbar_mvm": "(Tensor x_q, Tensor w_q, " + FIRST + DRAW + FORWARD,
    "crossbar_conv2d": "(Tensor x_q, Tensor w_q, " + FIRST + CONV + DRAW + FORWARD,
    "crossbar_mvm_backward": "(Tensor grad, Tensor x_q, Tensor w_q, " + FIRST + DRAW + BACKWARD,
    "crossbar_conv2d_backward": "(Tensor grad, Tensor x_q, Tensor w_q, " + FIRST + CONV + DRAW + BACKWARD,
    "crossbar_mvm_conversions": "(Tensor x_q, Tensor w_q, " + FIRST + DRAW + COUNTS,
    "crossbar_conv2d_conversions": "(Tensor x_q, Tensor w_q, " + FIRST + CONV + DRAW + COUNTS,
    "programmed_levels": (
        "(Tensor w_q, str hardware, int weight_bits, int seed=0, int chip=0, int layer=0, int first_output=0) -> Tensor"
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_flat_and_as_written(name: str) -> None:
    assert str(getattr(torch.ops.cimq, name).default._schema) == f"cimq::{name}{SCHEMAS[name]}"
