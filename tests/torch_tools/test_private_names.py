"""Every entry of cimq/torch_tools/private_names.py does with the installed torch what it is there for."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

import cimq
from cimq.torch_tools import private_names as private

PACKAGE = Path(cimq.__file__).parent


def test_classes() -> None:
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, private.AnyBatchNorm)
    assert not issubclass(nn.InstanceNorm2d, private.AnyBatchNorm)
    for size in "123":
        assert issubclass(getattr(nn, f"MaxPool{size}d"), private.AnyMaxPool)
        assert issubclass(getattr(nn, f"AdaptiveMaxPool{size}d"), private.AnyAdaptiveMaxPool)
        assert issubclass(getattr(nn, f"Dropout{size}d"), private.AnyDropout)
        assert issubclass(getattr(nn, f"ConstantPad{size}d"), private.AnyConstantPad)
        assert issubclass(getattr(nn, f"ZeroPad{size}d"), private.AnyConstantPad)
        assert not issubclass(getattr(nn, f"AvgPool{size}d"), private.AnyMaxPool)
    assert issubclass(nn.Dropout, private.AnyDropout)
    assert issubclass(nn.AlphaDropout, private.AnyDropout)
    assert not issubclass(nn.ReflectionPad2d, private.AnyConstantPad)


def test_overloads_of_aten() -> None:
    graph = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)).graph
    targets = [node.target for node in graph.nodes if node.op == "call_function"]
    assert targets
    assert all(isinstance(target, private.AtenOverload) for target in targets)
    assert not isinstance(F.linear, private.AtenOverload)


class Recorded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[0] > 0, "no samples")
        y = F.softmax(F.avg_pool2d(x, 2), 1) + torch.relu(x).sum() + torch.tensor([2.0])
        return F.avg_pool2d(y, 1)


def test_what_torch_fx_records() -> None:
    traced = fx.symbolic_trace(Recorded())
    targets = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert private.ASSERTION in targets
    modules = {target.__module__ for target in targets if target not in (private.ASSERTION, getattr)}
    assert modules <= set(private.FUNCTION_LIBRARIES)
    assert F.avg_pool2d.__module__ in private.FUNCTION_LIBRARIES
    (softmax,) = [node for node in traced.graph.nodes if node.target is F.softmax]
    assert set(softmax.kwargs) - {"dim", "dtype"} <= private.IGNORED_ARGUMENTS
    constants = [name for name in vars(traced) if private.is_traced_constant(name)]
    assert constants or any(private.is_traced_constant(name) for name, _ in traced.named_buffers())
    assert not private.is_traced_constant("weight")


def test_a_view_without_checks() -> None:
    assert torch.equal(
        getattr(torch.ops.aten, private.UNSAFE_VIEW)(torch.arange(4), (2, 2)), torch.arange(4).view(2, 2)
    )


def test_the_format_of_a_result() -> None:
    image = torch.zeros(2, 3, 4, 5)
    assert private.suggest_memory_format(image) == torch.contiguous_format
    assert private.suggest_memory_format(image.to(memory_format=torch.channels_last)) == torch.channels_last


def test_tensors_inside_of_values() -> None:
    value = {"a": [torch.zeros(1), 3], "b": (torch.ones(1),)}
    assert [leaf for leaf in private.tree_leaves(value) if not isinstance(leaf, Tensor)] == [3]
    assert private.tree_map(lambda leaf: 0, value) == {"a": [0, 0], "b": (0,)}


def test_whether_a_backward_pass_is_running() -> None:
    seen = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda grad: seen.append(private.in_backward()))
    assert not private.in_backward()
    y.sum().backward()
    assert seen == [True]
    assert not private.in_backward()


def test_modes_do_not_see_what_is_called() -> None:
    seen = []

    class Sees(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Sees():
        F.relu(torch.ones(1))
        before = len(seen)
        with private.without_modes():
            F.relu(torch.ones(1))
    assert before > 0
    assert len(seen) == before


def test_whether_the_compiler_is_loaded() -> None:
    script = (
        "import torch\nfrom cimq.torch_tools import private_names as private\n"
        "before = private.compiler_is_loaded()\ntorch.compile(lambda x: x + 1, backend='eager')(torch.ones(1))\n"
        "print(before, private.compiler_is_loaded())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.split()[-2:] == ["False", "True"]


def test_compiled_modules() -> None:
    module = nn.Linear(2, 2)
    assert private.uncompiled(torch.compile(module, backend="eager")) is module
    assert private.uncompiled(module) is module


def test_how_often_a_tensor_was_written_to() -> None:
    x = torch.zeros(2)
    before = private.writes_to(x)
    x.add_(1)
    assert private.writes_to(x) == before + 1
    assert private.writes_to(None) == 0  # type: ignore[arg-type]


def test_mapping_by_tensors_keeps_none_of_them() -> None:
    x, same = torch.zeros(2), torch.zeros(2)
    known: Any = private.WeakTensorKeyDictionary()
    known[x] = 1
    assert known.get(x) == 1
    assert known.get(same) is None
    del x
    assert len(known) == 0


def test_kernels_of_an_operator() -> None:
    assert private.has_dispatched_kernel("cimq::fake_quantize", "CPU")
    assert not private.has_dispatched_kernel("cimq::fake_quantize", "XPU")


def test_name_of_a_device_that_another_package_brings() -> None:
    assert private.extension_device() == torch.device("privateuseone").type


def test_workers_that_persist_are_dropped() -> None:
    loader = DataLoader(TensorDataset(torch.arange(4)), num_workers=1, persistent_workers=True)
    first = iter(loader)
    next(first)
    private.drop_workers(loader)
    assert iter(loader) is not first


def test_children() -> None:
    module = nn.Sequential(nn.ReLU(), nn.Identity())
    children = private.children_of(module)
    children["0"] = children.pop("0")
    assert [name for name, _ in module.named_children()] == ["1", "0"]
    private.set_children(module, {"0": module[1], "1": None})
    assert [name for name, _ in module.named_children()] == ["0"]


def test_parameters_and_buffers() -> None:
    module = nn.BatchNorm1d(3, affine=False)
    assert private.parameters_of(module) == {"weight": None, "bias": None}
    buffers = private.buffers_of(module)
    assert set(buffers) == {"running_mean", "running_var", "num_batches_tracked"}
    buffers["running_mean"] = torch.ones(3)
    assert torch.equal(module.running_mean, torch.ones(3))


def test_hooks() -> None:
    module = nn.Identity()

    def before(module: nn.Module, args: Any) -> None:
        pass

    def after(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output)

    seen: list[Any] = []
    first = module.register_forward_pre_hook(before)
    second = module.register_forward_hook(after, always_call=True)
    assert private.forward_pre_hooks(module) == [before]
    assert private.forward_hooks(module) == [after]
    copied = copy.deepcopy(module)
    private.remove_hooks(copied, first.id, second.id)
    private.remove_hooks(copied, first.id, second.id)  # nothing is left to remove
    copied(1)
    assert (seen, private.forward_pre_hooks(copied), private.forward_hooks(copied)) == ([], [], [])
    module(1)
    assert seen == [1]


@pytest.mark.parametrize(("padding", "wanted"), [((1, 2), [2, 2, 1, 1]), ("same", [1, 2, 0, 1])])
def test_padding(padding: Any, wanted: list[int]) -> None:
    layer = nn.Conv2d(1, 1, (2, 4), padding=padding, padding_mode="reflect")
    assert list(private.padding_of(layer)) == wanted
    x = torch.rand(1, 1, 6, 7)
    assert torch.equal(F.conv2d(F.pad(x, private.padding_of(layer), "reflect"), layer.weight, layer.bias), layer(x))


def test_convolutions_with_a_part_of_their_own() -> None:
    class Own(nn.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(input, weight * 2, bias)

    class Plain(nn.Conv2d):
        pass

    assert private.convolves_by_itself(Own, nn.Conv2d)
    assert not private.convolves_by_itself(Plain, nn.Conv2d)
    layer = nn.Conv2d(1, 1, 1)
    assert not private.has_own_convolution(layer)
    layer._conv_forward = layer._conv_forward  # type: ignore[method-assign]
    assert private.has_own_convolution(layer)
    own = Own(1, 1, 1, bias=False)
    assert torch.equal(own(torch.ones(1, 1, 1, 1)), own.weight * 2)


class Lender(private.StateDictModule):
    """Its weight is saved elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.scale = nn.Parameter(torch.ones(1))
        self.read: list[str] = []

    def written(self, destination: MutableMapping[str, Any], prefix: str) -> None:
        del destination[f"{prefix}weight"]

    def missed(self, missing: list[str], state_dict: Mapping[str, Any], prefix: str) -> list[str]:
        return [key for key in missing if key != f"{prefix}weight"]

    def was_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        self.read.append(prefix)


def test_a_say_in_state_dicts() -> None:
    module = nn.Sequential(Lender(), nn.Linear(1, 1))
    state = module.state_dict()
    assert list(state) == ["0.scale", "1.weight", "1.bias"]
    module.load_state_dict(state)
    assert module[0].read == ["0."]
    del state["0.scale"], state["1.bias"]
    assert module.load_state_dict(state, strict=False).missing_keys == ["0.scale", "1.bias"]


_USES = [
    r"\btorch\._", r"\btorch\.[a-z_.]+\._", r"\bnn\.[a-z_.]+\._", r"\bfrom torch[a-z_.]* import _", r"\bfrom torch\._",
    r"\._(modules|parameters|buffers|forward_hooks|forward_pre_hooks|forward_hooks_always_called|backward_hooks)\b",
    r"_(load_from|save_to)_state_dict", r"\b_(conv_forward|orig_mod|iterator|version|tensor_constant|stacklevel)\b",
    r"\b_(reversed_padding_repeated_twice|qkv_same_embed_dim|unsafe_view)\b",
]  # fmt: skip


def test_no_other_file_uses_private_names() -> None:
    pattern = re.compile("|".join(f"(?:{use})" for use in _USES))
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "private_names.py"]
    assert len(files) > 100
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(re.sub(r"\b__[a-z_]+__", "", line))
    ]
    assert found == []


def test_every_entry_is_exercised_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in private.__all__ if f"private.{name}" not in text] == []
    others = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "private_names.py")
    used = set(re.findall(r"\b\w+\b", "\n".join(others)))
    assert [name for name in private.__all__ if name not in used] == []
