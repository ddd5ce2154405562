"""Operations that overwrite their input, in a traced graph: who reads the input afterwards reads their result.

`follow_in_place` finds who reads the memory afterwards. Where all of them can be given the result, the operation may
become a pure one; else it stays and overwrites.
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

from torch import fx, nn

from cimq.torch_tools.node_values import SEVERAL, is_certainly_tensor, is_number, name_of
from cimq.torch_tools.symbolic import PURE_OPERATORS

# What gives its input itself in evaluation, and what gives a view of it (or, of some inputs, itself).
_SAME_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle)
_SAME = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "stochastic_depth"}
_VIEWS = SEVERAL | {
    "view", "view_as", "reshape", "reshape_as", "flatten", "ravel", "unflatten", "getitem", "__getitem__", "permute",
    "transpose", "swapaxes", "swapdims", "moveaxis", "movedim", "t", "adjoint", "squeeze", "unsqueeze", "expand",
    "expand_as", "broadcast_to", "narrow", "select", "diagonal", "unfold", "as_strided", "contiguous", "detach",
    "alias", "real", "imag", "conj", "resolve_conj", "resolve_neg", "view_as_real", "view_as_complex", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "positive", "pos", "atleast_1d", "atleast_2d",
    "atleast_3d", "sum_to_size", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "getattr", "int", "long",
}  # fmt: skip
_ASSIGNING_METHODS = {f"__{function.__name__}__" for function in PURE_OPERATORS} | {"__setitem__"}
_OVERLAPPING = {"broadcast_tensors", "meshgrid"}
_LIBRARIES = {"torch", "_operator", "operator", "builtins", "math"}


class CannotFollowError(Exception):
    """Why what a forward overwrites cannot be followed in its graph."""


def keeps_type(result: Any, overwritten: Any) -> None:
    """Guards an operation that stands for one in place: a sum in place has the type of what it is added to.

    Raises:
        TypeError: If the types differ.
    """
    if result.dtype != overwritten.dtype:
        raise TypeError(
            f"converted model: an operation in place on {overwritten.dtype} got an operand that makes it "
            f"{result.dtype}, which convert does not follow; cast the operand in the model's forward"
        )


def follow_in_place(root: nn.Module, graph: fx.Graph) -> set[fx.Node]:
    """Redirects later readers of what an operation overwrites to its result, so that it may become a pure one.

    Returns:
        Operations that must stay as they are: something else that may share the memory is read afterwards.

    Raises:
        CannotFollowError: For what is no certain tensor, and for what outlives the forward: parameters and buffers.
    """
    place = {node: index for index, node in enumerate(graph.nodes)}
    memory = _Memory(root, graph)
    staying = set()
    for node in list(graph.nodes):
        if not overwrites(root, node):
            continue
        source: Any = _overwritten(node)
        how = name_of(node) or str(node.target)
        if not is_certainly_tensor(root, source) or (node.target in PURE_OPERATORS and not _takes(node.args[1])):
            raise CannotFollowError(f"it overwrites by {how} what may be no tensor")
        related = memory.related(source)
        if any(member.op == "get_attr" for member in related):
            raise CannotFollowError(f"it overwrites a parameter, a buffer or a constant by {how}")
        same: Any = source
        while isinstance(same, fx.Node):
            for user in [user for user in same.users if user is not node and place.get(user, -1) > place[node]]:
                user.replace_input_with(same, node)
            same = _input(same) if _gives_itself(root, same) else None
        if any(
            place.get(user, -1) > place[node]
            for member in related
            if place[member] < place[node] and not memory.are_apart(source, member)
            for user in member.users
        ):
            staying.add(node)
            continue
        node.target = PURE_OPERATORS.get(node.target, node.target)
        if any(value is not source for value in node.all_input_nodes):
            with graph.inserting_after(node):
                graph.call_function(keeps_type, (node, source))
    return staying


class _Memory:
    """Which values of a graph may share memory: views, and what gives its input itself."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self.sharing = {node: how for node in graph.nodes if (how := _sharing(root, node))}

    def parents(self, node: fx.Node) -> list[fx.Node]:
        """The values that this one may be a view of."""
        how = self.sharing.get(node)
        if how == "all":
            return list(node.all_input_nodes)
        first = _overwritten(node) if how == "overwritten" else _input(node)
        return [first] if how is not None and isinstance(first, fx.Node) else []

    def related(self, start: fx.Node) -> set[fx.Node]:
        """All values that may share memory with this one, itself among them."""
        found: set[fx.Node] = set()
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += self.parents(node)
                waiting += [user for user in node.users if node in self.parents(user)]
        return found

    def are_apart(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether the two come from different parts of one split."""
        parts_of_a, parts_of_b = self._parts(a), self._parts(b)
        return any(
            part != parts_of_b[split] and (part < 0) == (parts_of_b[split] < 0)
            for split, part in parts_of_a.items()
            if split in parts_of_b
        )

    def _parts(self, node: fx.Node) -> dict[fx.Node, int]:
        """Splits on the way to a value, with the part that was taken."""
        parts: dict[fx.Node, int] = {}
        while parents := self.parents(node):
            (*_, parent) = parents
            index = node.args[1] if node.target is operator.getitem else None
            if isinstance(index, int) and name_of(parent) in SEVERAL - _OVERLAPPING:
                parts[parent] = index
            node = parent
        return parts


def overwrites(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node changes a tensor that it is given."""
    if node.kwargs.get("out") is not None:
        return True
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return getattr(module, "inplace", False) is True and not isinstance(module, _SAME_MODULES)
    if node.op not in ("call_method", "call_function"):
        return False
    name = name_of(node)
    if node.target in PURE_OPERATORS or name in _ASSIGNING_METHODS or node.target is operator.setitem:
        return True
    if name.endswith("_") and not name.endswith("__"):
        return True
    return node.op == "call_function" and _arguments(node).get("inplace") is True and name not in _SAME


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a Python function by name, with defaults; of a built-in function those given by name."""
    if not inspect.isfunction(node.target):
        return dict(node.kwargs)
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return dict(node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _overwritten(node: fx.Node) -> Any:
    return node.kwargs["out"] if node.kwargs.get("out") is not None else _input(node)


def _input(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


def _takes(operand: Any) -> bool:
    """Whether a tensor has an operator with an assignment for it: lists have too."""
    return isinstance(operand, (fx.Node, int, float, bool, complex))


def _gives_itself(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), _SAME_MODULES)
    return node.op == "call_function" and name_of(node) in _SAME and _arguments(node).get("training") is False


def _sharing(root: nn.Module, node: fx.Node) -> str | None:
    """What the result of a node may share memory with: its input, what it overwrites, all its inputs, or nothing."""
    if overwrites(root, node):
        return "overwritten"
    if _gives_itself(root, node):
        return "input"
    if node.op == "call_module":
        return "input" if isinstance(root.get_submodule(str(node.target)), _VIEW_MODULES) else None
    if node.op == "call_method":
        return "input" if node.target in _VIEWS else None
    if node.op != "call_function" or is_number(node):
        return None
    if (getattr(node.target, "__module__", None) or "").split(".")[0] not in _LIBRARIES:
        return "all"  # whatever it does
    if name_of(node) in _OVERLAPPING:
        return "all"
    return "input" if name_of(node) in _VIEWS else None
