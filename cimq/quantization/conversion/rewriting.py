"""`convert`: the integer model that is exported, from a prepared one."""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from cimq.errors import CimqWarning, first_line
from cimq.quantization.conversion.converted import (
    CrossbarConv1d,
    CrossbarConv2d,
    CrossbarLayer,
    CrossbarLinear,
    Geometry,
)
from cimq.quantization.conversion.converted_attention import (
    CrossbarAttention,
    CrossbarMultiheadAttention,
    converted_core,
)
from cimq.quantization.conversion.fp32_layers import Affine, Conv2dF32, LinearF32
from cimq.quantization.conversion.functional_norms import replace_functional_norms
from cimq.quantization.conversion.graph_module import ConvertedModel
from cimq.quantization.conversion.installation import install
from cimq.quantization.exact import exact_mode, operations
from cimq.quantization.exact.hooks import hooked
from cimq.quantization.graph.arithmetic_forms import freeze_parameters
from cimq.quantization.graph.in_place import follow_in_place, keeps_type
from cimq.quantization.graph.normal_form import normalise
from cimq.quantization.graph.refusals import check_device, refuse_meta_values, refuse_parts_outside
from cimq.quantization.graph.tracing import LeafTracer, followers, trace, traceable_subclasses
from cimq.quantization.layers.attention import AttentionCore, QuantMultiheadAttention
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.numbering import quant_layers
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import QuantConv1d, QuantConv2d, QuantLinear
from cimq.torch_tools.batches import tensors_of
from cimq.torch_tools.call_arguments import container_inputs, fixed_arguments, remaining_inputs
from cimq.torch_tools.forward import run_sample
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.node_values import is_check_of_sizes, is_number
from cimq.torch_tools.norms import is_plain_norm
from cimq.torch_tools.parallel import innermost
from cimq.torch_tools.private_names import AnyBatchNorm
from cimq.torch_tools.recomputed import copied
from cimq.torch_tools.replaced_forwards import has_replaced_forward

# What a converted model is made of beside modules of PyTorch that have no form.
_FINISHED = (CrossbarLayer, Affine, Conv2dF32, LinearF32)
# Several operations as one module; `export` writes them out.
_SEVERAL = (CrossbarMultiheadAttention, CrossbarAttention)


def convert(model: nn.Module, sample_input: Any = None) -> nn.Module:
    """Makes the inference model: integer crossbar products, batch normalisation folded into multiplier and bias.

    The graph of the model is read with torch.fx; its operations get one form each (quantization/graph/normal_form.py).
    What has no such form stays as it stands, and one `CimqWarning` names it. Arguments of the forward that are not
    tensors (flags, None), and those that were not given, keep the value they have in `sample_input`, without it in
    calibration, and are no arguments of the result. A model that torch.fx cannot trace keeps its own forward, with its
    layers replaced; a warning says so.

    Args:
        model: A prepared and calibrated model; it is not changed. Of DistributedDataParallel, of a compiled
            model and of an AveragedModel the model inside.
        sample_input: An input, a tuple of inputs or a dict. If given, the result is checked against `model` on it.

    Returns:
        A model for inference whose outputs equal those of `model` in evaluation, bit for bit (float32). It lies
        on the device of `model`.

    Raises:
        ValueError: If the model is not prepared or not calibrated; if it has forward hooks and there is no
            `sample_input` to show that they change nothing; if only a part of it was prepared and what is around
            that computes with other bits (it is named); or if the results differ on `sample_input`, as they
            do for a model that is random in evaluation.

    Example:
        >>> import torch, cimq
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> q = cimq.prepare(net, cimq.Policy.uniform(4, 4), example_inputs=torch.rand(8, 4)).eval()
        >>> x = torch.rand(2, 4)
        >>> bool(torch.equal(cimq.convert(q)(x), q(x)))
        True
    """
    model = innermost(model)
    check_device(model, "convert")
    refuse_meta_values(sample_input, "convert", "sample_input")
    if any(isinstance(module, CrossbarLayer) for module in model.modules()):
        raise ValueError(f"convert: {type(model).__name__} is converted already; convert takes what prepare returned")
    for name, layer in quant_layers(model):
        layer.act_limits()
        if has_replaced_forward(layer):
            raise ValueError(
                f"convert: the forward of layer {name!r} was set on the object after prepare; give the layer a class "
                "with that forward, and prepare again"
            )
    lost_hooks = _lost_hooks(model)
    if lost_hooks and sample_input is None:
        raise ValueError(
            f"convert: the model has {lost_hooks}, which the converted model does not call; remove them, or give "
            "sample_input, on which convert checks that they change nothing"
        )
    work = copied(model).eval()
    pairs = exact_mode.folded_pairs(work)
    if isinstance(work, QuantMultiheadAttention):
        exact_mode.detach(work)
        attention = CrossbarMultiheadAttention(work)
        exact_mode.attach(attention, ())  # its softmax is that of evaluation
        return _checked(attention, model, sample_input)
    fixed = fixed_arguments(work, sample_input)
    if isinstance(work, QuantLayer):  # a graph needs something around its only layer
        exact_mode.detach(work)
        work, pairs, fixed = nn.Sequential(work), (), {}
        exact_mode.attach(work, ())
    subclasses = traceable_subclasses(work)
    tracer = LeafTracer(subclasses, container_inputs(work, sample_input))
    try:
        graph = trace(work, tracer, fixed)
        found = followers(work, graph) if pairs is None else pairs
        staying = follow_in_place(work, graph)
    except Exception as error:
        refuse_parts_outside(work, None)
        exact_mode.detach(work)
        norms = any(is_plain_norm(module) for module in work.modules())
        unfolded = ", batch normalisation is not folded" if norms and not pairs else ""
        warnings.warn(
            f"convert: torch.fx cannot trace {type(model).__name__} ({first_line(error)}); its forward is "
            f"kept with its layers replaced{unfolded}, and it cannot be exported",
            CimqWarning,
            stacklevel=2,
        )
        result = _replace_in_place(work, _foldable(work, pairs or ()))
    else:
        refuse_parts_outside(work, graph)
        exact_mode.detach(work)
        inputs = remaining_inputs(model, sample_input, fixed)
        result, left = _rewrite(work, graph, staying, _foldable(work, found), tracer.calls)
        if left:
            warnings.warn(
                f"convert: left as they stand, and not exportable: {', '.join(left)}", CimqWarning, stacklevel=2
            )
        return _checked(result, model, sample_input, inputs)
    return _checked(result, model, sample_input)


def _foldable(model: nn.Module, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Pairs to fold, without linear layers that got [N, tokens, ...] in calibration: their channels are the tokens.

    And without layers that stay fp32.
    """

    def stays_apart(layer: Any) -> bool:
        return layer.left_fp32 or (isinstance(layer, QuantLinear) and layer._products > 1)

    return {layer: norm for layer, norm in pairs if not stays_apart(model.get_submodule(layer))}


def _checked(result: nn.Module, model: nn.Module, sample_input: Any, inputs: Any = None) -> nn.Module:
    """In evaluation, compared with `model` if there is a sample; `inputs` are what `result` takes of it."""
    result.eval()
    if sample_input is not None:
        _check(model, result, sample_input, sample_input if inputs is None else inputs)
    return result


def _rewrite(
    root: nn.Module,
    graph: fx.Graph,
    staying: Container[fx.Node],
    pairs: dict[str, str],
    calls: dict[str, dict[str, Any]],
) -> tuple[nn.Module, list[str]]:
    folded = {id(root.get_submodule(layer)): root.get_submodule(norm) for layer, norm in pairs.items()}
    skipped = {id(norm) for norm in folded.values()}
    made: dict[int, nn.Module] = {}
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        name = str(node.target)
        module = root.get_submodule(name)
        if id(module) in skipped:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
            continue
        if isinstance(module, (QuantConv2d, QuantConv1d)) and _pads_itself(module) and name not in calls:
            continue
        if id(module) not in made:
            new = _replacement(module, folded.get(id(module)), calls.get(name))
            if new is not None:
                made[id(module)] = new
    _erase_unused(graph, staying)  # parameters that the replaced products read
    root = install(root, made, graph)
    replace_functional_norms(root, graph)
    left = normalise(root, graph, _FINISHED + _SEVERAL, staying)
    _erase_unused(graph, staying)
    freeze_parameters(root, graph)
    for node in graph.nodes:
        if node.op == "call_module":  # what is still PyTorch's own computes with the defined operations inside
            module = root.get_submodule(str(node.target))
            if not isinstance(module, _FINISHED):
                if not isinstance(module, (QuantLayer, *_SEVERAL)):
                    _replace_in_place(module)
                exact_mode.attach(module, ())
    graph.lint()
    result = ConvertedModel(root, graph, type(root).__name__)
    # Calls among them that PyTorch does not define to the bit; quotients of numbers it does on the CPU alone.
    if left or any(map(_is_quotient, graph.nodes)):
        exact_mode.attach(result, ())
    return result, left


def _is_quotient(node: fx.Node) -> bool:
    """Whether it is x / number, and x no number itself."""
    return node.target is operator.truediv and not isinstance(node.args[1], fx.Node) and not is_number(node)


def _erase_unused(graph: fx.Graph, staying: Container[fx.Node]) -> None:
    for node in reversed(graph.nodes):
        node.type = None  # annotations as text would keep the module from being pickled
        if node.users or node.op not in ("call_function", "call_method", "get_attr"):
            continue
        needed = node in staying or is_check_of_sizes(node)
        if node.target is keeps_type:  # of a result that something else reads
            guarded = node.args[0]
            needed = isinstance(guarded, fx.Node) and len(guarded.users) > 1
        if not needed:
            graph.erase_node(node)


def _pads_itself(layer: QuantConv2d | QuantConv1d) -> bool:
    return layer._intercepts or layer.padding_mode != "zeros"


def _replacement(module: nn.Module, norm: nn.Module | None, call: dict[str, Any] | None) -> nn.Module | None:
    """What a module becomes; None if it stays."""
    if isinstance(module, QuantLayer) and module.left_fp32:
        return _left_fp32(module)
    if isinstance(module, (QuantMultiheadAttention, AttentionCore)) and _is_left_fp32(module):
        return None
    if isinstance(module, (QuantConv2d, QuantConv1d)):
        kind: Any = CrossbarConv2d if isinstance(module, QuantConv2d) else CrossbarConv1d
        if call is None:
            if _pads_itself(module):
                return None
            args = operations.conv2d_args if isinstance(module, QuantConv2d) else operations.conv1d_args
            geometry = args(module.kernel_size, module.stride, module.padding, module.dilation)
            return cast(nn.Module, kind(module, norm, Geometry(*geometry, module.groups)))
        return cast(nn.Module, kind(module, norm, Geometry(**call)))
    if isinstance(module, QuantMultiheadAttention):
        return CrossbarMultiheadAttention(module)
    if isinstance(module, AttentionCore) and isinstance(module.qk, QuantMatmul):
        return converted_core(module)
    if isinstance(module, QuantLinear):
        return None if module._intercepts and call is None else CrossbarLinear(module, norm)
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return Conv2dF32(module)
    if type(module) is nn.Linear:
        return LinearF32(module)
    if is_plain_norm(module):
        return Affine(module)
    return None


def _left_fp32(layer: QuantLayer) -> nn.Module | None:
    """A layer that calibration left in fp32, without what quantised layers add; None where its own forward runs."""
    if isinstance(layer, QuantConv2d) and not _pads_itself(layer):
        return Conv2dF32(layer)
    return LinearF32(layer) if isinstance(layer, QuantLinear) and not layer._intercepts else None


def _is_left_fp32(attention: nn.Module) -> bool:
    """Whether calibration left an attention, which is then called for nothing, in fp32."""
    return any(isinstance(layer, QuantLayer) and layer.left_fp32 for layer in attention.modules())


def _replace_in_place(root: nn.Module, pairs: Mapping[str, str] | None = None) -> nn.Module:
    """Without a graph: layers replaced one by one, everything else by the defined operations while it runs."""
    folded = {id(root.get_submodule(layer)): root.get_submodule(norm) for layer, norm in (pairs or {}).items()}
    replaced: dict[int, nn.Module] = {id(norm): nn.Identity() for norm in folded.values()}
    for _, module in root.named_modules():
        if id(module) in replaced:
            continue
        if isinstance(module, (QuantLayer, QuantMultiheadAttention, AttentionCore, AnyBatchNorm)):
            new = _replacement(module, folded.get(id(module)), None)
            if new is not None:
                replaced[id(module)] = new
    install(root, replaced)
    exact_mode.attach(root, ())
    return root


@torch.no_grad()
def _check(model: nn.Module, converted: nn.Module, sample_input: Any, inputs: Any) -> None:
    with in_evaluation(model):
        wanted = list(tensors_of(run_sample(model, sample_input)))
        got = list(tensors_of(run_sample(converted, inputs)))
    if len(wanted) != len(got) or not all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True)):
        lost_hooks = _lost_hooks(model)
        reason = (
            f"the converted model does not call {lost_hooks}; do they change values?"
            if lost_hooks
            else "does its forward do something random, keep state, or change its input?"
        )
        raise ValueError(
            f"convert: the converted model does not give what {type(model).__name__} gives in evaluation on "
            f"sample_input; {reason}"
        )


def _lost_hooks(model: nn.Module) -> str:
    """Which forward hooks of users a converted model does not call; empty if none: those of modules that are traced."""
    tracer = LeafTracer()
    names = hooked(model, lambda module, name: not tracer.is_leaf_module(module, name))
    return f"the forward hooks of {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else ""


@torch.no_grad()
def layer_outputs(converted: nn.Module, x: Any) -> dict[str, Tensor]:
    """The crossbar result Y of every converted layer, before zero point, multiplier and bias.

    Args:
        converted: What `convert` returned.
        x: An input, a tuple of inputs, or a dict.

    Returns:
        Layer name -> int32 (float32 where the hardware makes it inexact) in the layer's output shape. The second,
        third, ... call of a layer that is used several times is under "name#1", "name#2", ...

    Raises:
        ValueError: If there are no converted layers.
    """
    outputs: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    with _tapped(converted, outputs, calls):
        run_sample(converted, x)
    return outputs


@contextlib.contextmanager
def _tapped(converted: nn.Module, outputs: dict[str, Tensor], calls: dict[str, int]) -> Iterator[None]:
    layers = [module for module in converted.modules() if isinstance(module, CrossbarLayer)]
    if not layers:
        raise ValueError(f"layer_outputs: {type(converted).__name__} has no converted layers; call cimq.convert first")

    def tap(layer: CrossbarLayer, Y: Tensor) -> None:
        count = calls.get(layer.layer_name, 0)
        calls[layer.layer_name] = count + 1
        key = layer.layer_name if count == 0 else f"{layer.layer_name}#{count}"
        outputs[key] = Y

    for layer in layers:
        layer._tap = tap
    try:
        yield
    finally:
        for layer in layers:
            layer._tap = None
