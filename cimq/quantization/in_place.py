"""Operations that overwrite their input, in a traced graph: who reads the input afterwards reads their result."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import fx, nn

# What gives its input itself in evaluation, and what gives a view of it.
_SAME_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_VIEW_MODULES = (nn.Flatten, nn.Unflatten)
_VIEWS = {
    "view", "view_as", "reshape", "flatten", "unflatten", "getitem", "chunk", "split", "permute", "transpose",
    "squeeze", "unsqueeze", "expand", "expand_as", "narrow", "select", "unbind", "contiguous", "detach", "movedim",
}  # fmt: skip


def follow_in_place(root: nn.Module, graph: fx.Graph) -> set[fx.Node]:
    """Redirects later readers of what an operation overwrites to its result, so that it may become a pure one.

    Returns:
        Operations that must stay as they are: they overwrite a part or a view of something that is read afterwards.
    """
    place = {node: index for index, node in enumerate(graph.nodes)}
    staying = set()
    for node in list(graph.nodes):
        if not _overwrites(root, node):
            continue
        source = _input(node)
        while isinstance(source, fx.Node):
            later = [user for user in source.users if user is not node and place[user] > place[node]]
            for user in later:
                user.replace_input_with(source, node)
            if not _gives_itself(root, source):
                break
            source = _input(source)
        base: Any = source
        while isinstance(base, fx.Node) and _gives_view(root, base):
            inner = _input(base)
            if isinstance(inner, fx.Node) and any(place[user] > place[node] for user in inner.users):
                staying.add(node)
            base = inner
    return staying


def _input(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


def _overwrites(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return getattr(module, "inplace", False) is True and not isinstance(module, _SAME_MODULES)
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__")
    if node.op != "call_function" or not callable(node.target):
        return False
    name = getattr(node.target, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        return True
    if node.kwargs.get("inplace") is True:
        return True
    if len(node.args) < 2 or not inspect.isfunction(node.target):
        return False
    try:
        return inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get("inplace") is True
    except TypeError:
        return False


def _gives_itself(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), _SAME_MODULES)
    return node.op == "call_function" and node.target in (torch.nn.functional.dropout, torch.nn.functional.dropout2d)


def _gives_view(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), _VIEW_MODULES)
    if node.op == "call_method":
        return node.target in _VIEWS
    return node.op == "call_function" and getattr(node.target, "__name__", "") in _VIEWS
