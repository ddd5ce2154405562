"""`CrossbarCall` and the registered schemas say the same."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cimq.ops import crossbar_call, crossbar_conv2d, crossbar_diagnostics, crossbar_mvm
from cimq.ops.crossbar_call import CONV2D, GEOMETRY, MVM, CrossbarCall, CrossbarOperator, WantedGradients

FIELDS = {field.name: field for field in dataclasses.fields(CrossbarCall)}
OPERATORS = [value for value in vars(crossbar_call).values() if isinstance(value, CrossbarOperator)]
IDS = [operator.name for operator in OPERATORS]


def schema_of(operator: CrossbarOperator) -> Any:
    return getattr(torch.ops.cimq, operator.name).default._schema


def default_of(name: str) -> Any:
    if name == "wanted":
        return list(WantedGradients())
    default = FIELDS[name].default if name in FIELDS else dataclasses.MISSING
    return list(default) if isinstance(default, tuple) else default


@pytest.mark.parametrize("operator", OPERATORS, ids=IDS)
def test_order_and_defaults_are_those_of_the_schema(operator: CrossbarOperator) -> None:
    arguments = schema_of(operator).arguments
    assert tuple(argument.name for argument in arguments) == operator.arguments
    for argument in arguments:
        default = default_of(argument.name)
        assert argument.has_default_value() == (default is not dataclasses.MISSING), argument.name
        if argument.has_default_value():
            assert argument.default_value == default, argument.name


def test_every_crossbar_operator_is_listed() -> None:
    names = {name.removeprefix("cimq::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("cimq::")}
    assert {name for name in names if name.startswith("crossbar_")} == set(IDS)


@pytest.mark.parametrize("operator", [operator for operator in OPERATORS if operator.is_backward], ids=lambda o: o.name)
def test_a_backward_operator_gives_a_gradient_for_every_slot(operator: CrossbarOperator) -> None:
    assert len(schema_of(operator).returns) == len(WantedGradients._fields)
    assert set(WantedGradients._fields) <= set(operator.fields)


@pytest.mark.parametrize(
    ("function", "without"),
    [(crossbar_mvm, set(GEOMETRY)), (crossbar_conv2d, set()), (crossbar_diagnostics, {"backend", "adc_grad"})],
)
def test_public_functions_have_every_option(function: Callable[..., Any], without: set[str]) -> None:
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(FIELDS) - without
    for name in set(parameters) - set(GEOMETRY):  # geometry may be given by one number
        missing = parameters[name].default is inspect.Parameter.empty
        assert missing == (FIELDS[name].default is dataclasses.MISSING), name
        assert missing or parameters[name].default == FIELDS[name].default, name


def test_arguments_that_the_dispatcher_leaves_out_have_their_defaults() -> None:
    x, w = torch.ones(1, 2), torch.ones(3, 2)
    call = CrossbarCall(**MVM.bound((x, w, "{}", 4), {"act_bits": 5}))
    assert (call.weight_bits, call.act_bits, call.seed, call.stride) == (4, 5, 0, (1, 1))
    assert not call.is_convolution
    with pytest.raises(TypeError, match="stride_of_nothing"):
        CrossbarCall(**CONV2D.bound((x, w, "{}", 4, 4), {"stride_of_nothing": 1}))
