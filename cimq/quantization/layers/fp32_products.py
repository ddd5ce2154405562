"""Products that stay in fp32 though nobody asked for it: seen while calibration runs the model, and said once.

`prepare` finds products by the class of a module and by torch.fx. A forward that torch.fx cannot trace hides those that
it makes by function calls; here they are seen as they happen.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cimq.errors import CimqWarning
from cimq.quantization.layers.hosts import CALLED_PRODUCTS
from cimq.torch_tools.batches import tensors_of

_RANDOM = {torch.rand, torch.randn, torch.randint, torch.normal, torch.bernoulli, torch.rand_like, torch.randn_like}
_MOST_NAMES = 20


def note_known(module: nn.Module, calls: Iterable[str] | None = None) -> None:
    """Notes that the user knows about products in fp32: all inside `module`, or these calls of its own forward."""
    module.__dict__["_cimq_known_fp32"] = None if calls is None else frozenset(calls)


class Fp32Products(TorchFunctionMode):
    """While active, counts the products that the modules of a model make by function calls, by module and function.

    Left out are products inside of quantised layers (`paused`), those that `note_known` has noted, and those of
    constants: parameters, buffers and what is computed from them alone, such as tables of positions.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = {id(module): name for name, module in model.named_modules()}
        self.counts: Counter[tuple[str, str]] = Counter()  # the most of all batches
        self._batch: Counter[tuple[str, str]] = Counter()
        self._running: list[nn.Module] = []
        self._paused = False
        self._hooks: list[Any] = []
        self._constants: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        for module in model.modules():
            for value in (*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values()):
                if isinstance(value, Tensor):
                    self._constants[id(value)] = value

    def __enter__(self) -> Fp32Products:
        for module in self.model.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                self._hooks += [
                    module.register_forward_pre_hook(self._start, prepend=True),
                    module.register_forward_hook(self._end, always_call=True),
                ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _start(self, module: nn.Module, args: Any) -> None:
        if not self._running:
            self._batch = Counter()
        self._running.append(module)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        while self._running and self._running.pop() is not module:
            pass  # a module that raised an error which its caller caught
        if not self._running:
            self.counts |= self._batch

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is computed inside is a quantised layer's own."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not self._running:
            return func(*args, **kwargs)
        given = [value for value in tensors_of((args, kwargs)) if id(value) not in self._constants]
        name = CALLED_PRODUCTS.get(func)
        if name is not None and given and not self._known(name):
            self._batch[self.names[id(self._running[-1])], name] += 1
        result = func(*args, **kwargs)
        if not given and func not in _RANDOM:
            for made in tensors_of(result):
                self._constants[id(made)] = made
        elif args and id(args[0]) in self._constants and _writes(func):
            del self._constants[id(args[0])]
        return result

    def _known(self, name: str) -> bool:
        for module in self._running:
            if module.__dict__.get("_cimq_known_fp32", ()) is None:
                return True
        return name in self._running[-1].__dict__.get("_cimq_known_fp32", ())

    def warn(self, stacklevel: int) -> None:
        """One warning that names modules and functions, if there is anything to say."""
        found: dict[str, list[str]] = {}
        for (module, function), count in self.counts.items():
            found.setdefault(module or "the model", []).append(f"{function} x{count}")
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule) and "_cimq_known_fp32" not in module.__dict__:
                holder = name.rpartition(".")[0]
                if not isinstance(self.model.get_submodule(holder), torch.jit.ScriptModule):
                    found[name] = ["all of it (TorchScript)"]
        if not found:
            return
        some = "; ".join(f"{module}: {', '.join(what)}" for module, what in list(found.items())[:_MOST_NAMES])
        more = f"; ... ({len(found)} modules in all)" if len(found) > _MOST_NAMES else ""
        warnings.warn(
            f"calibrate: these products stay fp32 (calls per run of the model): {some}{more}. To put them on "
            "crossbars, call nn.Linear, nn.Conv2d or nn.MultiheadAttention modules, or make F.linear, F.conv2d and "
            "F.scaled_dot_product_attention calls in a forward that torch.fx can trace",
            CimqWarning,
            stacklevel=stacklevel + 1,
        )


def _writes(func: Any) -> bool:
    """Whether a function changes its first argument."""
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE


_IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__"}
