"""Values of small tensors in host memory, without waiting for the device at every use."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cimq.torch_tools.private_names import StateDictModule, WeakTensorKeyDictionary, writes_to


class _Copy(NamedTuple):
    written: int  # how often the tensor had been written to
    value: Tensor


_copies: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def on_host(tensor: Tensor) -> Tensor:
    """The values of a tensor on the CPU: of one that lies there the tensor itself, else a copy; not to be changed.

    A copy waits for the device, and is kept until the tensor is written to (in place, by whomever: torch counts) or is
    another one. What torch does not count are writes through `tensor.data`, by torch.distributed's collectives on the
    tensor itself, by replays of a captured graph, and by other libraries into its memory: call
    `torch.autograd.graph.increment_version(tensor)` after them. Of tensors made in `torch.inference_mode` it counts
    none, and of parameters not the steps of fused optimisers (`fused=True`); these are copied every time.

    Args:
        tensor: Small, and mostly the same: ranges of converters, a counter. A parameter is copied at every use.
    """
    if tensor.device.type == "cpu":
        return tensor.detach()
    if torch.compiler.is_compiling() or tensor.is_inference() or isinstance(tensor, nn.Parameter):
        return tensor.detach().cpu()
    known: _Copy | None = _copies.get(tensor)  # type: ignore[no-untyped-call]
    if known is None or known.written != writes_to(tensor):
        known = _Copy(writes_to(tensor), tensor.detach().cpu())
        _copies[tensor] = known
    return known.value


def note_on_host(tensor: Tensor, value: Tensor) -> None:
    """Notes what a tensor holds now, for whoever has just written that to it and knows it without asking the device."""
    if tensor.device.type != "cpu" and not tensor.is_inference():
        _copies[tensor] = _Copy(writes_to(tensor), value)


class ReadOnHost(StateDictModule):
    """A layer whose buffers are read by `on_host`."""

    def will_be_read(self) -> None:
        """Drops the copies: torch may swap the buffers for those that are read, but not what is weakly referred to.

        That is how a state is read under `torch.__future__.set_swap_module_params_on_conversion(True)`.
        """
        super().will_be_read()
        for tensor in self.buffers(recurse=False):
            _copies.pop(tensor, None)  # type: ignore[no-untyped-call]
