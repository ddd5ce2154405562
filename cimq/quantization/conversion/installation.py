"""Converted layers in the place of those of a prepared model, and what of the old ones a graph still reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from cimq.torch_tools.private_names import children_of

# Values of Python that a model may look up on a layer, and what `prepare` adds to them.
_PLAIN = (int, float, bool, str, type(None))
_OF_TRAINING = {"adc_grad", "left_fp32", "training_hardware", "channels_last", "act_offsets", "noise_step"}


def show_attributes(new: nn.Module, old: nn.Module) -> None:
    """Gives `new` the plain public attributes of `old` that it has not: a model may read the geometry of its layers."""
    for name, value in vars(old).items():
        known = name.startswith("_") or name in _OF_TRAINING or hasattr(new, name)
        if not known and _is_plain(value):
            setattr(new, name, value)


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, (tuple, list)) else isinstance(value, _PLAIN)


def install(root: nn.Module, made: Mapping[int, nn.Module], graph: fx.Graph | None = None) -> nn.Module:
    """Puts modules in the place of others in `root`, wherever they occur.

    What the graph reads inside of a replaced module, a submodule or a parameter, goes with the new one: layers of a
    class with a forward of its own may have such.

    Args:
        root: Is changed.
        made: id of the old module -> the new one.
        graph: A graph of `root`, whose names follow.

    Returns:
        The root, which may be a new module too.
    """
    places = [(name, module) for name, module in root.named_modules(remove_duplicate=False) if id(module) in made]
    nodes = [] if graph is None else [node for node in graph.nodes if node.op in ("call_module", "get_attr")]
    for name, old in places:
        for node in nodes:
            target = str(node.target)
            if name and target.startswith(f"{name}."):
                node.target = f"{name}.{_keep(made[id(old)], old, target[len(name) + 1 :])}"
    for name, old in places:
        holder, _, leaf = name.rpartition(".")
        if not name:
            root = made[id(old)]
        elif leaf in children_of(_module_at(root, holder)):  # else inside of a replaced one, and not read any more
            root.set_submodule(name, made[id(old)])
    return root


def _module_at(root: nn.Module, name: str) -> nn.Module:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return nn.Module()


def _keep(new: nn.Module, old: nn.Module, path: str) -> str:
    """Keeps what is at `path` inside of `old` in `new`; the path there."""
    first, dot, rest = path.partition(".")
    if first in children_of(old):
        children_of(new).setdefault(first, children_of(old)[first])
        return path
    value: Any = getattr(old, first)
    name = first
    while hasattr(new, name) and getattr(new, name) is not value:  # its weight is that of integers, its bias folded
        name += "_before"
    if isinstance(value, nn.Parameter):
        new.register_parameter(name, value)
    elif isinstance(value, Tensor):
        new.register_buffer(name, value)
    else:
        setattr(new, name, value)
    return name + dot + rest
