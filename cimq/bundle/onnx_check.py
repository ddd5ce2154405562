"""Checks model.onnx against the converted model with onnxruntime as users open it: a default session, all it optimises.

A crossbar layer of the file is exact while its sums stay below 2^24 (see onnx_model), so that a network of such layers
and of exact operations must give the values of the executor from end to end. Layers with larger sums, layers left in
float32, averages and smooth activations differ in the last bits, and a value that lies at the edge of a quantisation
step may then fall into the next one: for them no small bound holds from end to end. Hence two runs:

1. Every crossbar layer is given the input that the converted model computed, so that both quantise the same values.
   What may differ then is rounding alone, and is bounded by the standard estimate for a sum of K products in float32
   (Higham, Accuracy and Stability of Numerical Algorithms, 3.1): |difference| <= u * (K + 8) * sum |x_q| |w_q| |m| for
   a layer, u = 2^-24, passed on through the operations after it. Every node of the network must keep its bound; since
   the nodes between two layers are compared as well, this covers the wiring.
2. The shipped model from end to end. Where every node is exact its output must keep the bound of rounding the output
   once; elsewhere its deviation is recorded in the manifest.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
from torch import Tensor, fx

from cimq.bundle import onnx_model
from cimq.bundle.fx_graphs import values_of
from cimq.bundle.network import Network, Node
from cimq.bundle.operations import OPERATIONS
from cimq.bundle.operations.registry import UNIT_ROUNDOFF, Operand
from cimq.mapping import weight_range

_U = UNIT_ROUNDOFF
_SAMPLES = 4
_EXACT_SUM = 2.0**24  # float32 holds every integer up to here


@dataclasses.dataclass(frozen=True)
class OnnxCheck:
    """Outcome of a check; all deviations are largest absolute differences.

    Attributes:
        samples: Samples compared.
        node_deviation: Of any node, each crossbar layer given the same input.
        node_bound: Bound of the node that came closest to its own.
        output_deviation: Of the output, each crossbar layer given the same input.
        output_bound: Bound of the output.
        end_to_end_deviation: Of the output of the shipped model.
        exact: Whether every node is exact, so that the shipped model had to give the same values.
        hardware_deviation: Of the output on its hardware from the digital network (zero where conversion is exact).
    """

    samples: int
    node_deviation: float
    node_bound: float
    output_deviation: float
    output_bound: float
    end_to_end_deviation: float
    exact: bool
    hardware_deviation: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the manifest."""
        return dataclasses.asdict(self) | {"runtime": "onnxruntime", "runtime_version": _runtime().__version__}


def check(
    network: Network, model: onnx.ModelProto, digital: fx.GraphModule, x: Tensor, on_hardware: Tensor
) -> OnnxCheck:
    """Compares `model` with the converted model.

    Args:
        network: The network that `model` was built from.
        model: What `onnx_model.build` made.
        digital: The converted model with exact conversion (ideal converter, no variation).
        x: Sample input.
        on_hardware: Output of the network on its hardware for `x`.

    Raises:
        ValueError: If a node leaves its bound (names the node), or an exact network other values from end to end. That
            means a fault in the export or in onnxruntime, not in the model.
    """
    x = x[:_SAMPLES]
    values = {name: value.numpy() for name, value in values_of(digital, x).items()}
    feeds = {network.input_name: x.numpy()}
    for node in network.crossbar_nodes():
        for suffix, source in zip((onnx_model.FORCED, onnx_model.FORCED_OPERAND), node.inputs, strict=False):
            feeds[node.name + suffix] = _value(network, values, source)
    names = [node.name for node in network.nodes]
    results = dict(zip(names, _session(onnx_model.build(network, forced=True)).run(names, feeds), strict=True))

    results[network.input_name] = feeds[network.input_name]
    bounds: dict[str, float] = {network.input_name: 0.0}
    sizes: dict[str, float] = {network.input_name: _size(feeds[network.input_name])}
    worst = (0.0, 0.0, 0.0)  # share of the bound, deviation, bound
    largest = 0.0
    for node in network.nodes:
        bounds[node.name] = bound = _bound(node, bounds, sizes, results)
        sizes[node.name] = _size(results[node.name])
        if node.name not in values:  # a helper node that the converted model computes in one step
            continue
        deviation = _difference(results[node.name], values[node.name])
        largest = max(largest, deviation)
        if deviation > bound:
            raise ValueError(
                f"export: model.onnx differs from the converted model at node {node.name!r} by {deviation:.3g}, more "
                f"than the rounding bound {bound:.3g}"
            )
        share = deviation / bound if bound > 0 else 0.0
        if share >= worst[0]:
            worst = (share, deviation, bound)
    end_to_end = _session(model).run([network.output], {network.input_name: x.numpy()})[0]
    expected = values[network.output]
    deviation = _difference(end_to_end, expected)
    exact = all(_exact(node) for node in network.nodes)
    if exact and deviation > 4 * _U * _size(expected):
        raise ValueError(
            f"export: model.onnx in a default session of onnxruntime {_runtime().__version__} differs from the "
            f"converted model by {deviation:.3g}, though every operation is exact; check=False skips this"
        )
    return OnnxCheck(
        samples=len(x),
        node_deviation=largest,
        node_bound=worst[2],
        output_deviation=_difference(results[network.output], expected),
        output_bound=bounds[network.output],
        end_to_end_deviation=deviation,
        exact=exact,
        hardware_deviation=_difference(on_hardware[:_SAMPLES].numpy(), expected),
    )


def _runtime() -> Any:
    import onnxruntime

    return onnxruntime


def _session(model: onnx.ModelProto) -> Any:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # all else as it comes: what users will run
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _size(value: Any) -> float:
    return float(np.max(np.abs(value), initial=0.0))


def _difference(a: Any, b: Any) -> float:
    return float(np.max(np.abs(a.astype(np.float64) - b), initial=0.0))


def _value(network: Network, values: dict[str, Any], name: str) -> Any:
    """A value of the converted model; also that of a reshape which the model does inside of a layer."""
    if name in values:
        return values[name]
    node = next(node for node in network.nodes if node.name == name)
    before = values[node.inputs[0]]
    return before.reshape(len(before), *node.shape)


def _largest_sums(node: Node) -> Any:
    """float64 [O]: what sum |x_q| |w_q| can be."""
    assert node.crossbar is not None
    facts = node.crossbar
    if "weight" in node.tensors:
        weight = node.tensors["weight"].double().abs().flatten(1).sum(1).numpy()
    else:  # written at run time
        weight = np.full(facts.outputs, float(facts.inputs_per_output * weight_range(facts.weight_bits)[1]))
    return weight * max(2 ** (facts.act_bits - int(facts.act_signed)), -facts.act_zero)


def _exact(node: Node) -> bool:
    if node.crossbar is not None:
        return bool(np.max(_largest_sums(node), initial=0.0) <= _EXACT_SUM)
    return OPERATIONS[node.op].exact


def _bound(node: Node, bounds: dict[str, float], sizes: dict[str, float], values: dict[str, Any]) -> float:
    """Bound of the difference at a node, given those of its inputs and the largest magnitudes that occur."""
    if node.crossbar is not None:
        multiplier = node.tensors["multiplier"].double().abs().numpy()
        bias = node.tensors["bias"].double().abs().numpy() if "bias" in node.tensors else 0.0
        roundings = 8 if _exact(node) else node.crossbar.inputs_per_output + 8
        return float(_U * roundings * np.max(_largest_sums(node) * multiplier + bias))
    if node.op in ("conv2d_f32", "linear_f32"):
        weight = node.tensors["weight"].double().numpy()
        rows_max = float(np.abs(weight).reshape(len(weight), -1).sum(1).max())
        bias_max = float(node.tensors["bias"].abs().max()) if "bias" in node.tensors else 0.0
        (x,) = node.inputs
        rounding = _U * (weight[0].size + 8) * (rows_max * sizes[x] + bias_max)
        return float(rows_max * bounds[x] + rounding)
    bound = OPERATIONS[node.op].bound
    assert bound is not None
    return bound(node, [Operand(sizes[name], bounds[name], values[name]) for name in node.inputs])
