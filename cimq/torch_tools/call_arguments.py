"""Which arguments of a model's forward are inputs, and which have one value: what torch.fx must know before it traces.

For torch.fx an argument is a symbolic value, of which `mask is None` is false and `if return_features` an error. An
argument that was not given when the model ran, or that was a flag, is therefore traced with its value.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn

_PLAIN = (type(None), bool, int, float, str)
_INPUT = object()


def signature_of(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Parameters of the forward by name, without *args and **kwargs."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in kinds}


def default_arguments(model: nn.Module) -> dict[str, Any]:
    """None, flags and numbers that arguments of the forward have by default."""
    return {name: p.default for name, p in signature_of(model).items() if isinstance(p.default, _PLAIN)}


@contextlib.contextmanager
def noting_arguments(model: nn.Module) -> Iterator[None]:
    """Notes on the model what its forward is called with while the context is open."""
    noted: dict[str, Any] = {}
    containers: set[str] = set()

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        containers.update(_containers(module, args, kwargs))
        for name, value in _bound(module, args, kwargs).items():
            if noted.setdefault(name, value) != value:
                noted[name] = _INPUT  # not the same in every call

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
    model.__dict__["_cimq_plain_arguments"] = {name: v for name, v in noted.items() if v is not _INPUT}
    model.__dict__["_cimq_inputs"] = tuple(name for name, v in noted.items() if v is _INPUT)
    model.__dict__["_cimq_containers"] = tuple(sorted(containers))


def fixed_arguments(model: nn.Module, sample_input: Any = None) -> dict[str, Any]:
    """Arguments of the forward that are no inputs, with their values: seen in calibration, or those of `sample_input`.

    What was not given has its default.
    """
    if sample_input is None:
        plain: dict[str, Any] = model.__dict__.get("_cimq_plain_arguments", {})
        inputs: tuple[str, ...] = model.__dict__.get("_cimq_inputs", ())
    else:
        args: Any = sample_input if isinstance(sample_input, (tuple, list)) else (sample_input,)
        named = sample_input if isinstance(sample_input, Mapping) else {}
        given = _bound(model, () if isinstance(sample_input, Mapping) else tuple(args), dict(named))
        plain = {name: value for name, value in given.items() if value is not _INPUT}
        inputs = tuple(name for name, value in given.items() if value is _INPUT)
    known = signature_of(model)
    fixed = default_arguments(model) | {name: value for name, value in plain.items() if name in known}
    return {name: value for name, value in fixed.items() if name not in inputs}


def container_inputs(model: nn.Module, sample_input: Any = None) -> set[str]:
    """Arguments of the forward that are no tensors but lists, dicts, ...: in calibration, or in `sample_input`."""
    if sample_input is None:
        return set(model.__dict__.get("_cimq_containers", ()))
    if isinstance(sample_input, Mapping):
        return _containers(model, (), dict(sample_input))
    return _containers(model, tuple(sample_input) if isinstance(sample_input, (tuple, list)) else (sample_input,), {})


def remaining_inputs(model: nn.Module, sample_input: Any, fixed: Mapping[str, Any]) -> Any:
    """What of a sample input a graph takes that was traced with `fixed` arguments."""
    if isinstance(sample_input, Mapping):
        return {name: value for name, value in sample_input.items() if name not in fixed}
    if not isinstance(sample_input, (tuple, list)):
        return sample_input
    given = inspect.signature(model.forward).bind(*sample_input).arguments
    if not any(name in fixed for name in given):
        return sample_input
    return {name: value for name, value in given.items() if name not in fixed}


def _containers(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[str]:
    try:
        given = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return set()
    return {name for name, value in given.items() if not isinstance(value, (Tensor, *_PLAIN))}


def _bound(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name; `_INPUT` for everything but None, flags and numbers."""
    try:
        given = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call itself will say so
        return {}
    return {name: value if isinstance(value, _PLAIN) else _INPUT for name, value in given.items()}


def without_fixed(graph: fx.Graph, model: nn.Module, fixed: Mapping[str, Any]) -> fx.Graph:
    """Takes the fixed arguments out of a graph that was traced with them, and the checks of them that torch.fx adds."""
    known = signature_of(model)
    for node in list(graph.nodes):
        name, _, number = str(node.target).rpartition("_")
        if node.op != "placeholder" or node.target in known or name not in fixed or not number.isdigit():
            continue
        for check in list(node.users):
            for inner in list(check.users):
                graph.erase_node(inner)
            graph.erase_node(check)
        graph.erase_node(node)
    return graph
