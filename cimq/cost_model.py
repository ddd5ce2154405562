"""Closed-form latency of a network on a crossbar machine (tier 1).

One crossbar is re-written for every tile, everything serial, batch 1 (Pelke et al., DATE 2026,
doi 10.23919/date69613.2026.11539262):

    T = ceil(columns / cols) * ceil(rows_needed / rows)
    writes = R * T        mvms = R * I * T * ceil(a / d)
    time = writes * write_time + mvms * mvm_time

Counts are integers and time is added up in whole picoseconds, in C++ (csrc/compiler/latency).
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from cimq import _C
from cimq.errors import CimqWarning
from cimq.hardware import Hardware, resolve
from cimq.policy import MAX_BITS, LayerBits, Policy
from cimq.printable import printable
from cimq.structured_files import read_structured

_PS_PER_US = 1_000_000
_SIZES = ("outputs", "inputs", "invocations", "repeats")


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """A quantisable layer as the matrix that its crossbars hold.

    Attributes:
        name: Layer name in the model.
        kind: What it is, e.g. "Conv2d" or "Linear"; shown in reports.
        outputs: Outputs m of the matrix (of one group).
        inputs: Inputs n of the matrix, C_in*k_h*k_w for a convolution (of one group).
        invocations: Input vectors per inference: OH*OW, tokens, or 1.
        repeats: Matrices of this shape: groups, attention heads.

    Raises:
        ValueError: If a size is no positive integer; names the layer and the key.
    """

    name: str
    kind: str
    outputs: int
    inputs: int
    invocations: int
    repeats: int = 1

    def __post_init__(self) -> None:
        for key in _SIZES:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise ValueError(f"layer {self.name!r}: {key} must be a positive integer, got {value!r}")
            if not 1 <= int(value) < 2**63:
                raise ValueError(f"layer {self.name!r}: {key} must be an integer from 1 to 2^63 - 1, got {value}")
            object.__setattr__(self, key, int(value))


@dataclasses.dataclass(frozen=True)
class LayerLatency:
    """Cost of one layer. Times in microseconds; `tiles` is per matrix, the other counts include the repeats."""

    name: str
    kind: str
    weight_bits: int
    act_bits: int
    tiles: int
    writes: int
    mvms: int
    write_time_us: float
    mvm_time_us: float
    time_us: float


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """Latency of a network under a policy.

    Attributes:
        layers: Cost of every layer in module order.
        writes: Crossbars programmed in one inference.
        mvms: Crossbar activations in one inference.
        time_us: Time of one inference.
        write_time_us: Its part spent writing.
        mvm_time_us: Its part spent in MVMs.
        uniform8_time_us: Time of the same network with 8-bit weights and activations everywhere.
        speedup: uniform8_time_us / time_us.
        hardware: The machine.
    """

    layers: tuple[LayerLatency, ...]
    writes: int
    mvms: int
    time_us: float
    write_time_us: float
    mvm_time_us: float
    uniform8_time_us: float
    speedup: float
    hardware: Hardware

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the layers included."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["layers"] = [dataclasses.asdict(layer) for layer in self.layers]
        fields["hardware"] = self.hardware.to_dict()
        return fields

    def __str__(self) -> str:
        head = ["layer", "w", "a", "tiles", "writes", "MVMs", "time us", "share"]
        rows = [
            [
                layer.name,
                str(layer.weight_bits),
                str(layer.act_bits),
                f"{layer.tiles:,}",
                f"{layer.writes:,}",
                f"{layer.mvms:,}",
                f"{layer.time_us:,.1f}",
                f"{100 * layer.time_us / self.time_us:.1f} %",
            ]
            for layer in self.layers
        ]
        total = f"{self.time_us:,.1f} us, {self.speedup:.3f}x against uniform 8-bit ({self.uniform8_time_us:,.1f} us)"
        return f"{aligned_table([head, *rows])}\ntotal: {self.writes:,} writes, {self.mvms:,} MVMs, {total}"


def latency(
    model_or_bundle: torch.nn.Module | str | Path | Sequence[LayerShape],
    policy: Policy | str | Path | None = None,
    hardware: Hardware | str | Path | None = None,
    *,
    sample_input: Any = None,
) -> LatencyReport:
    """Closed-form latency of one inference.

    Args:
        model_or_bundle: A model, the folder of a bundle, or layer shapes in module order.
        policy: Bits per layer, or its file. None: those of the prepared model or the bundle.
        hardware: Machine, preset or file. None: that of the prepared model or the bundle, else "paper".
        sample_input: For a model that is not calibrated: an input [N, ...] (or a tuple, or a dict of keyword arguments)
            to run it with, to learn how often each layer runs; any N, counts are per sample.

    Returns:
        The report; its times are exact sums of whole picoseconds.

    Raises:
        ValueError: If the policy does not fit the layers, no policy is known, or a size is impossible.
        TypeError: If the first argument is none of the three.

    Example:
        >>> shapes = [LayerShape("fc", "Linear", outputs=10, inputs=512, invocations=1)]
        >>> report = latency(shapes, Policy.uniform(4, 4))
        >>> report.writes, report.mvms, report.time_us
        (2, 8, 123.2)
    """
    shapes, own_policy, own_hardware = _network(model_or_bundle, sample_input)
    if not shapes:
        raise ValueError("latency: there is no layer that could be on a crossbar")
    if isinstance(policy, (str, Path)):
        policy = Policy.load(policy)
    policy = policy if policy is not None else own_policy
    if policy is None:
        raise ValueError("latency: give a policy; neither layer shapes nor a model that is not prepared carry bits")
    if not isinstance(policy, Policy):
        raise TypeError(f"latency: policy must be a cimq.Policy or a file, got {type(policy).__name__}")
    machine = _closed_form_machine(hardware if hardware is not None else own_hardware or "paper")
    names = [shape.name for shape in shapes]
    return _report(shapes, list(policy.bind(names).values()), machine)


def cost_table(
    shapes: Sequence[LayerShape], hardware: Hardware | str | Path, bits: Sequence[int]
) -> list[dict[int, dict[int, float]]]:
    """Time in microseconds of every layer for every pair of bit widths.

    Args:
        shapes: Layers in module order.
        hardware: Machine, preset or file.
        bits: Bit widths, each 1 to 8.

    Returns:
        `table[layer][weight bits][activation bits]`.

    Raises:
        ValueError: For bits outside 1..8 or an impossible layer; names the layer.

    Example:
        >>> table = cost_table([LayerShape("fc", "Linear", 10, 512, 1)], "paper", [4, 8])
        >>> table[0][8][4]
        123.2
    """
    text, bits = _closed_form_machine(hardware).to_json(), [int(bit) for bit in bits]
    table = []
    for shape in shapes:
        times = iter(_C.tier1_table(text, _as_tuple(shape), bits))
        table.append({weight: {act: next(times) / _PS_PER_US for act in bits} for weight in bits})
    return table


def aligned_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as a table: `left` columns flush left, the others right, the first row underlined."""
    rows = [[printable(cell) for cell in row] for row in rows]  # names come from files
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _closed_form_machine(hardware: Hardware | str | Path) -> Hardware:
    machine = resolve(hardware)
    if machine.resources.crossbars != 1:
        count = (
            "unlimited crossbars" if machine.resources.crossbars is None else f"{machine.resources.crossbars} crossbars"
        )
        text = f"hardware {machine.name!r} has {count}, but the closed-form latency is that of one, re-written per tile"
        warnings.warn(text, CimqWarning, stacklevel=3)
    return machine


def _report(shapes: Sequence[LayerShape], bits: Sequence[LayerBits], hardware: Hardware) -> LatencyReport:
    text, tuples = hardware.to_json(), [_as_tuple(shape) for shape in shapes]
    costs = _C.tier1_layers(text, tuples, [(pair.weight_bits, pair.act_bits) for pair in bits])
    reference = _C.tier1_layers(text, tuples, [(MAX_BITS, MAX_BITS)] * len(tuples))
    layers = tuple(
        LayerLatency(
            shape.name,
            shape.kind,
            pair.weight_bits,
            pair.act_bits,
            tiles,
            writes,
            mvms,
            write_ps / _PS_PER_US,
            mvm_ps / _PS_PER_US,
            (write_ps + mvm_ps) / _PS_PER_US,
        )
        for shape, pair, (tiles, writes, mvms, write_ps, mvm_ps) in zip(shapes, bits, costs, strict=True)
    )
    write_ps, mvm_ps = sum(cost[3] for cost in costs), sum(cost[4] for cost in costs)
    uniform8_ps = sum(cost[3] + cost[4] for cost in reference)
    return LatencyReport(
        layers,
        sum(cost[1] for cost in costs),
        sum(cost[2] for cost in costs),
        (write_ps + mvm_ps) / _PS_PER_US,
        write_ps / _PS_PER_US,
        mvm_ps / _PS_PER_US,
        uniform8_ps / _PS_PER_US,
        uniform8_ps / (write_ps + mvm_ps),
        hardware,
    )


def _as_tuple(shape: LayerShape) -> tuple[str, int, int, int, int]:
    return shape.name, shape.outputs, shape.inputs, shape.invocations, shape.repeats


def _network(source: Any, sample_input: Any) -> tuple[list[LayerShape], Policy | None, Hardware | None]:
    """Shapes, and the policy and hardware that the source itself carries."""
    if isinstance(source, torch.nn.Module):
        return _from_model(source, sample_input)
    if isinstance(source, (str, Path)):
        return _from_bundle(Path(source))
    if isinstance(source, Sequence) and all(isinstance(shape, LayerShape) for shape in source):
        return list(source), None, None
    raise TypeError(f"latency takes a model, a bundle's folder or LayerShapes, got {type(source).__name__}")


def _from_model(model: torch.nn.Module, sample_input: Any) -> tuple[list[LayerShape], Policy | None, Hardware | None]:
    quantization: Any = import_module("cimq.quantization")  # it imports this module
    if not any(isinstance(module, quantization.QuantLayer) for module in model.modules()):
        if sample_input is None:
            raise ValueError(
                "latency: a model that is not prepared needs sample_input=, one input, to count its products"
            )
        # The bits do not matter for shapes; a copy is prepared, so that the caller's model stays as it is.
        return quantization.layer_shapes(quantization.prepare(model), sample_input), None, None
    shapes = quantization.layer_shapes(model, sample_input)
    machines = {layer.hardware for _, layer in quantization.quant_layers(model)}
    if len(machines) > 1:
        raise ValueError("latency: the layers of the model are for different machines; give hardware=")
    return shapes, quantization.get_policy(model), machines.pop()


def _from_bundle(folder: Path) -> tuple[list[LayerShape], Policy, Hardware]:
    if not folder.is_dir():
        raise FileNotFoundError(f"latency: bundle {folder} is not a folder")
    content = read_structured(folder / "layers.json", "bundle file")
    nodes = content.get("nodes") if isinstance(content, dict) else None
    if not isinstance(nodes, list):
        raise ValueError(f"bundle file {folder / 'layers.json'} must hold a list of nodes")
    found: list[tuple[int, LayerShape, LayerBits]] = []
    for node in nodes:
        if isinstance(node, dict) and str(node.get("op", "")).startswith("crossbar_"):
            found.append(_crossbar_node(node, folder))
    found.sort(key=lambda entry: entry[0])
    shapes = [shape for _, shape, _ in found]
    for name, count in Counter(shape.name for shape in shapes).items():
        if count > 1:
            raise ValueError(f"bundle file {folder / 'layers.json'}: layer {name!r} is given twice")
    if not shapes:
        raise ValueError(f"bundle file {folder / 'layers.json'}: there is no crossbar layer")
    hardware = Hardware.from_file(folder / "hardware.json")
    return shapes, Policy({shape.name: bits for _, shape, bits in found}), hardware


def _crossbar_node(node: dict[str, Any], folder: Path) -> tuple[int, LayerShape, LayerBits]:
    name = node.get("layer_name", node.get("name"))
    keys = ("layer_index", "outputs", "inputs_per_output", "invocations", "repeats", "weight_bits", "act_bits")
    for key in keys:
        if isinstance(node.get(key), bool) or not isinstance(node.get(key), int):
            where = f"bundle file {folder / 'layers.json'}, layer {name!r}"
            raise ValueError(f"{where}: {key} must be an integer, got {json.dumps(node.get(key))}")
    kind = "Conv2d" if node["op"] == "crossbar_conv2d" else "Linear"
    shape = LayerShape(
        str(name), kind, node["outputs"], node["inputs_per_output"], node["invocations"], node["repeats"]
    )
    return node["layer_index"], shape, LayerBits(node["weight_bits"], node["act_bits"])
