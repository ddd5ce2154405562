"""Every private name of torch that cimq uses, so that a release of torch that moves one breaks this file alone.

Each entry says what it is for and what would replace it. `tests/torch_tools/test_private_names.py` exercises all of
them with the torch that is installed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = [
    "ASSERTION",
    "FUNCTION_LIBRARIES",
    "IGNORED_ARGUMENTS",
    "UNSAFE_VIEW",
    "AnyAdaptiveMaxPool",
    "AnyBatchNorm",
    "AnyConstantPad",
    "AnyDropout",
    "AnyMaxPool",
    "AtenOverload",
    "StateDictModule",
    "WeakTensorKeyDictionary",
    "buffers_of",
    "children_of",
    "compiler_is_loaded",
    "convolves_by_itself",
    "drop_workers",
    "extension_device",
    "forward_hooks",
    "forward_pre_hooks",
    "has_dispatched_kernel",
    "has_own_convolution",
    "in_backward",
    "is_traced_constant",
    "padding_of",
    "parameters_of",
    "remove_hooks",
    "set_children",
    "suggest_memory_format",
    "tree_leaves",
    "tree_map",
    "uncompiled",
    "without_modes",
    "writes_to",
]

# ---- classes ----

# Batch normalisation of any number of dimensions, also of a subclass that is none of the public ones.
# Instead: the tuple of nn.BatchNorm1d, 2d, 3d and nn.SyncBatchNorm, once nobody derives from the base itself.
AnyBatchNorm = nn.modules.batchnorm._BatchNorm
# Poolings that may return indices beside the result, dropout and padding with a value, of any number of dimensions.
# Instead: tuples of the public classes.
AnyMaxPool = nn.modules.pooling._MaxPoolNd
AnyAdaptiveMaxPool = nn.modules.pooling._AdaptiveMaxPoolNd
AnyDropout = nn.modules.dropout._DropoutNd
AnyConstantPad = nn.modules.padding._ConstantPadNd
# What graphs of torch.export call. Instead: a public name of this class, which torch.export's documentation shows
# under this one.
AtenOverload = torch._ops.OpOverload
# `WeakTensorKeyDictionary`, imported above: a mapping by the identity of tensors that keeps none of them. Its module is
# not documented. Instead: weakref.WeakKeyDictionary, if tensors ever compare by identity.

# ---- functions and names of functions ----

# What torch.fx records for an assertion (`torch._assert(condition, message)`). Instead: a public function for it.
ASSERTION = torch._assert
# A `view` without checks, which shows the order of a tensor in memory. Instead: nothing; the name may go.
UNSAFE_VIEW = "_unsafe_view"
# `__module__` of functions that torch.fx records and that are torch's or Python's own: functions of
# torch.nn.functional that are written in C++ have the private one. Instead: a public name of that module.
FUNCTION_LIBRARIES = ("torch", "torch.nn.functional", "torch._C._nn", "_operator", "builtins", "math")
# Arguments of F.softmax and F.log_softmax that change no result. Instead: nothing; they may go.
IGNORED_ARGUMENTS = {"_stacklevel"}
# `suggest_memory_format`, imported above: the memory format of a result that has the one of its input. Instead: a
# public method of tensors, as C++ has it.
# `tree_leaves`, `tree_map`, imported above: tensors inside of whatever a model takes or returns, also in classes that
# were registered with torch. Instead: torch.utils.pytree, once every supported release has it.


def in_backward() -> bool:
    """Whether a backward pass is running on this thread. Instead: a public function of torch.autograd."""
    return bool(torch._C._current_graph_task_id() != -1)


def without_modes() -> contextlib.AbstractContextManager[Any]:
    """Inside, no TorchFunctionMode sees what is called. Instead: a public context of torch.overrides."""
    context: contextlib.AbstractContextManager[Any] = torch._C.DisableTorchFunction()
    return context


def has_dispatched_kernel(operator: str, key: str) -> bool:
    """Whether an operator ("library::name") has a kernel under a dispatch key. Instead: a query of torch.library."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operator, key))


def extension_device() -> str:
    """Name of the device type that another package has brought, "privateuseone" before. Instead: a public getter."""
    return str(torch._C._get_privateuse1_backend_name())


def compiler_is_loaded() -> bool:
    """Whether torch.compile was used: importing it takes seconds. Instead: a function of torch.compiler."""
    return "torch._dynamo" in sys.modules


# ---- tensors, loaders, compiled modules ----


def writes_to(tensor: Tensor) -> int:
    """How often a tensor was written to; 0 for what does not count. Instead: a public counter of tensors."""
    return getattr(tensor, "_version", 0)


def drop_workers(loader: DataLoader[Any]) -> None:
    """The next iteration starts the loader's persistent workers anew. Instead: a public method of DataLoader."""
    loader._iterator = None


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that torch.compile was given; any other module itself. Instead: a function of torch.compiler."""
    inner: nn.Module = getattr(module, "_orig_mod", module)
    return inner


# ---- what a module holds; its public methods give copies, or leave out what is None ----


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children by name, to be changed in place. Instead: a public mapping of children."""
    return module._modules


def set_children(module: nn.Module, children: dict[str, nn.Module | None]) -> None:
    """Replaces all children, so that their order is that of `children`. Instead: public methods to order children."""
    module._modules = children


def parameters_of(module: nn.Module) -> Mapping[str, nn.Parameter | None]:
    """The module's own parameters by name; `getattr` would give a proxy while torch.fx traces.

    Instead: a public mapping of parameters.
    """
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """The module's own buffers by name, to be changed in place. Instead: a public mapping of buffers."""
    return module._buffers


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Hooks that see the module's output. Instead: a public list of hooks."""
    return list(module._forward_hooks.values())


def forward_pre_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Hooks that see the module's input. Instead: a public list of hooks."""
    return list(module._forward_pre_hooks.values())


def remove_hooks(module: nn.Module, before: int, after: int) -> None:
    """Removes a pre-hook and a hook by the id of their handles: a handle keeps a copied module from being pickled.

    Instead: handles that are copied and pickled with their module.
    """
    module._forward_pre_hooks.pop(before, None)
    module._forward_hooks.pop(after, None)
    module._forward_hooks_always_called.pop(after, None)


def is_traced_constant(name: str) -> bool:
    """Whether torch.fx has given this name to a constant that it met while it traced. Instead: a public prefix."""
    return name.startswith("_tensor_constant")


# ---- convolutions ----


def padding_of(convolution: Any) -> list[int]:
    """The padding of a convolution as `F.pad` takes it, worked out where it is "same".

    Instead: the same arithmetic here, from the public attributes.
    """
    padding: list[int] = convolution._reversed_padding_repeated_twice
    return padding


def convolves_by_itself(cls: Any, base: Any) -> bool:
    """Whether a subclass of nn.Conv1d or nn.Conv2d replaces the part of the forward that convolves.

    Instead: nothing; it is the private method that subclasses override.
    """
    return cls._conv_forward is not base._conv_forward


def has_own_convolution(module: nn.Module) -> bool:
    """Whether that part of the forward was replaced on the object. Instead: nothing, as above."""
    return "_conv_forward" in vars(module)


# ---- state_dict ----


class StateDictModule(nn.Module):
    """A module that has a say in what of it is written to a state_dict and read from one.

    Hooks (`register_state_dict_post_hook`, `register_load_state_dict_pre_hook`) would be public, but they belong to
    instances, and a layer becomes quantised by a change of its class. Instead: the same as public methods.
    """

    def written(self, destination: MutableMapping[str, Any], prefix: str) -> None:
        """Called when its own part of a state_dict is in `destination`."""

    def missed(self, missing: list[str], state_dict: Mapping[str, Any], prefix: str) -> list[str]:
        """The keys that count as missing, of those that `state_dict` lacks."""
        return missing

    def will_be_read(self) -> None:
        """Called before its own part of a state_dict is read."""

    def was_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Called when its own part of a state_dict has been read."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self.written(destination, prefix)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing: list[str] = []
        self.will_be_read()
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs)
        missing_keys.extend(self.missed(missing, state_dict, prefix))
        self.was_read(state_dict, prefix)
