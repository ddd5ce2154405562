"""`cimq.latency` and `cimq.energy`: the closed forms of what holds layers: a model, a bundle, an ONNX file, shapes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cimq.bundle.loader import Bundle, BundleLayer
from cimq.bundle.network import CrossbarFacts
from cimq.bundle.onnx_import import read_onnx
from cimq.cost_model.closed_form import LatencyReport, closed_form, closed_form_machine
from cimq.cost_model.component_energy import EnergyReport, closed_form_energy
from cimq.cost_model.shapes import LayerShape, kind_of
from cimq.hardware import Hardware, resolve
from cimq.policy import Policy
from cimq.quantization import QuantLayer, get_policy, layer_shapes, prepare, quant_layers
from cimq.structured_files import read_structured


def latency(
    model_or_bundle: torch.nn.Module | Bundle | str | Path | Sequence[LayerShape],
    policy: Policy | str | Path | None = None,
    hardware: Hardware | str | Path | None = None,
    *,
    sample_input: Any = None,
) -> LatencyReport:
    """Closed-form latency of one inference.

    Args:
        model_or_bundle: A model, the folder of a bundle, an ONNX file (docs/onnx.md), what `cimq.load_bundle` or
            `cimq.load_onnx` returned, or layer shapes in module order.
        policy: Bits per layer, and what layers choose of the machine, or its file. None: those of the prepared model
            or the bundle.
        hardware: Machine, preset or file. None: that of the prepared model or the bundle, else "paper".
        sample_input: For a model that is not calibrated: an input [N, ...] (or a tuple, or a dict of keyword arguments)
            to run it with, to learn how often each layer runs; any N, counts are per sample.

    Returns:
        The report; its times are exact sums of whole picoseconds.

    Raises:
        ValueError: If the policy does not fit the layers, no policy is known, a size is impossible, or the machine
            cannot have what a layer chooses.
        TypeError: If the first argument is none of these.

    Example:
        >>> shapes = [LayerShape("fc", "linear", outputs=10, inputs=512, invocations=1)]
        >>> report = latency(shapes, Policy.uniform(4, 4))
        >>> report.writes, report.mvms, report.time_us
        (2, 8, 123.2)
    """
    shapes, bits, machine = _network("latency", model_or_bundle, policy, hardware, sample_input)
    return closed_form(shapes, bits.values(), closed_form_machine(machine), bits.machines())


def energy(
    model_or_bundle: torch.nn.Module | Bundle | str | Path | Sequence[LayerShape],
    policy: Policy | str | Path | None = None,
    hardware: Hardware | str | Path | None = None,
    *,
    sample_input: Any = None,
) -> EnergyReport:
    """Closed-form energy of one inference, by component: counted events times the energies of the machine.

    The energy of a conversion is scaled to the ADC bits that a layer chooses (docs/numbers.md).

    Args:
        model_or_bundle: As in `cimq.latency`.
        policy: As there.
        hardware: As there; its `energy` must describe at least one component (the presets "isaac" and "puma" do).
        sample_input: As there.

    Returns:
        The report; its energies are exact sums of whole femtojoules.

    Raises:
        ValueError: As `cimq.latency`, for a machine that describes no energy, and for a layer that chooses ADC bits
            whose energy is not known (outside 4 to 10).
        TypeError: As `cimq.latency`.

    Example:
        >>> shapes = [LayerShape("fc", "linear", outputs=10, inputs=512, invocations=1)]
        >>> report = energy(shapes, Policy.uniform(4, 4), Hardware(energy={"adc_energy_pj": 2.0}))
        >>> report.energy_pj, report.missing  # 4 digits, 2 row tiles, 10 pairs of columns
        (160.0, ('write', 'mvm', 'dac', 'digital', 'buffer', 'bus'))
    """
    shapes, bits, machine = _network("energy", model_or_bundle, policy, hardware, sample_input)
    return closed_form_energy(shapes, bits.values(), machine, bits.machines())


def _network(
    what: str, source: Any, policy: Policy | str | Path | None, hardware: Hardware | str | Path | None, sample: Any
) -> tuple[list[LayerShape], Policy, Hardware]:
    """Layers, their policy and the machine; those that the source carries where none are given."""
    if isinstance(source, torch.nn.Module):
        shapes, own_policy, own_hardware = _from_model(what, source, sample)
    elif isinstance(source, Bundle):
        shapes, own_policy, own_hardware = _from_loaded(source)
    elif isinstance(source, (str, Path)) and Path(source).suffix == ".onnx":
        shapes, own_policy, own_hardware = _from_onnx(Path(source))
    elif isinstance(source, (str, Path)):
        shapes, own_policy, own_hardware = _from_bundle(what, Path(source))
    elif isinstance(source, Sequence) and all(isinstance(shape, LayerShape) for shape in source):
        shapes, own_policy, own_hardware = list(source), None, None
    else:
        raise TypeError(
            f"{what} takes a model, a bundle or its folder, an ONNX file or LayerShapes, got {type(source).__name__}"
        )
    if not shapes:
        raise ValueError(f"{what}: there is no layer that could be on a crossbar")
    if isinstance(policy, (str, Path)):
        policy = Policy.load(policy)
    policy = policy if policy is not None else own_policy
    if policy is None:
        raise ValueError(f"{what}: give a policy; neither layer shapes nor a model that is not prepared carry bits")
    if not isinstance(policy, Policy):
        raise TypeError(f"{what}: policy must be a cimq.Policy or a file, got {type(policy).__name__}")
    machine = resolve(hardware if hardware is not None else own_hardware or "paper")
    return shapes, policy.bind([shape.name for shape in shapes]), machine


def _from_model(
    what: str, model: torch.nn.Module, sample_input: Any
) -> tuple[list[LayerShape], Policy | None, Hardware | None]:
    if not any(isinstance(module, QuantLayer) for module in model.modules()):
        if sample_input is None:
            raise ValueError(
                f"{what}: a model that is not prepared needs sample_input=, one input, to count its products"
            )
        # The bits do not matter for shapes; a copy is prepared, so that the caller's model stays as it is.
        return layer_shapes(prepare(model), sample_input), None, None
    shapes = layer_shapes(model, sample_input)
    machines = {layer.network_hardware for _, layer in quant_layers(model)}
    if len(machines) > 1:
        raise ValueError(f"{what}: the layers of the model are for different machines; give hardware=")
    return shapes, get_policy(model), machines.pop()


def _from_loaded(bundle: Bundle) -> tuple[list[LayerShape], Policy, Hardware]:
    shapes = [_shape(layer.name, layer.op, layer) for layer in bundle.layers]
    return shapes, bundle.policy, bundle.hardware


def _from_onnx(path: Path) -> tuple[list[LayerShape], Policy, None]:
    nodes = read_onnx(path).crossbar_nodes()
    facts = [(node.op, node.crossbar) for node in nodes if node.crossbar is not None]
    shapes = [_shape(entry.layer_name, op, entry) for op, entry in facts]
    return shapes, Policy({entry.layer_name: (entry.weight_bits, entry.act_bits) for _, entry in facts}), None


def _shape(name: str, op: str, layer: CrossbarFacts | BundleLayer) -> LayerShape:
    return LayerShape(name, kind_of(op), layer.outputs, layer.inputs_per_output, layer.invocations, layer.repeats)


def _from_bundle(what: str, folder: Path) -> tuple[list[LayerShape], Policy, Hardware]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{what}: bundle {folder} is not a folder")
    content = read_structured(folder / "layers.json", "bundle file")
    nodes = content.get("nodes") if isinstance(content, dict) else None
    if not isinstance(nodes, list):
        raise ValueError(f"bundle file {folder / 'layers.json'} must hold a list of nodes")
    found: list[tuple[int, LayerShape, tuple[Any, ...]]] = []
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
    return shapes, Policy({shape.name: row for _, shape, row in found}), hardware


def _crossbar_node(node: dict[str, Any], folder: Path) -> tuple[int, LayerShape, tuple[Any, ...]]:
    name = node.get("layer_name", node.get("name"))
    keys = ("layer_index", "outputs", "inputs_per_output", "invocations", "repeats", "weight_bits", "act_bits")
    for key in keys:
        if isinstance(node.get(key), bool) or not isinstance(node.get(key), int):
            where = f"bundle file {folder / 'layers.json'}, layer {name!r}"
            raise ValueError(f"{where}: {key} must be an integer, got {json.dumps(node.get(key))}")
    kind = kind_of(node["op"])
    shape = LayerShape(
        str(name), kind, node["outputs"], node["inputs_per_output"], node["invocations"], node["repeats"]
    )
    return (
        node["layer_index"],
        shape,
        (node["weight_bits"], node["act_bits"], node.get("adc_bits"), node.get("mapping")),
    )
