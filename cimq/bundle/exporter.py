"""Writing bundles."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from cimq.bundle import onnx_check, onnx_model
from cimq.bundle.attention_graph import written_out
from cimq.bundle.batch_first import batch_kept_first
from cimq.bundle.contents import write_network
from cimq.bundle.folder import new_bundle, write_manifest
from cimq.bundle.fx_reader import read_network
from cimq.bundle.loader import Bundle, load_bundle
from cimq.bundle.network import Network
from cimq.bundle.programs import latency_entry
from cimq.errors import CimqWarning
from cimq.hardware import Cell, Hardware, Wires
from cimq.quantization import convert, layer_outputs, quant_layers
from cimq.quantization.conversion.converted import CrossbarLayer
from cimq.quantization.graph.refusals import check_device, refuse_meta_values
from cimq.torch_tools.devices import devices_of
from cimq.torch_tools.parallel import unwrapped

# The bounds are for bundles of others; this one comes from a model that has just run here.
_UNBOUNDED = {"max_working_bytes": 2**64 - 1, "max_operations": 2**64 - 1}


def export(
    model: nn.Module,
    path: str | Path,
    sample_input: Tensor,
    *,
    overwrite: bool = False,
    check: bool = True,
) -> Bundle:
    """Writes a deployment bundle: the network, its weights, policy, machine, program, and expected results.

    The bundle is written beside `path` under a temporary name and renamed, so that it is there completely or not at
    all. Before that it is loaded and executed, and every layer must equal the model, value by value.

    Args:
        model: A prepared model (it is converted) or what `cimq.convert` returned; on the CPU, or
            another device, whose copy on the CPU is then written.
        path: Folder to make, by convention NAME.cimq; with the suffix .zip, one file.
        sample_input: float32 [B, ...], B >= 1: traces the model and is stored with its results for `Bundle.check`.
            A few samples are enough.
        overwrite: Replace a bundle that is there.
        check: Check model.onnx with onnxruntime (`manifest["onnx"]` has the outcome).

    Returns:
        The bundle, loaded.

    Raises:
        TypeError: If `model` or `sample_input` is of another type.
        ValueError: If the model is not prepared, an operation has no form in a bundle (it is named), the input is not
            finite, or model.onnx leaves its rounding bound.
        FileExistsError: If `path` exists and `overwrite` is false, or it is no bundle.

    Example:
        >>> import torch, cimq
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> x = torch.rand(8, 4)
        >>> q = cimq.prepare(net, cimq.Policy.uniform(4, 4), example_inputs=x).eval()
        >>> bundle = cimq.export(q, "net.cimq", x)    # doctest: +SKIP
        >>> bool(torch.equal(bundle.run(x), q(x)))    # doctest: +SKIP
        True
    """
    target = Path(path)
    x = _checked_input(sample_input)
    converted, network = _read(model, x)
    hardware = _hardware(converted)
    with new_bundle(target, overwrite) as folder:
        extra = _write_files(folder, converted, network, hardware, x, check)
        names = [file.name for file in folder.iterdir()]
        write_manifest(folder, names, extra)
        report = load_bundle(folder, **_UNBOUNDED).check()
        if not report.equal:
            raise RuntimeError(f"export: the executor does not reproduce the model, nothing was written:\n{report}")
    return load_bundle(target, **_UNBOUNDED)


def network_of(model: nn.Module, sample_input: Tensor) -> Network:
    """The network that `export` would write of a model; writes nothing.

    Args:
        model: As for `export`.
        sample_input: As there; one sample is enough.

    Raises:
        TypeError: As `export`.
        ValueError: As there, for what does not depend on the values of results.
    """
    x = _checked_input(sample_input[:1] if isinstance(sample_input, Tensor) and sample_input.dim() else sample_input)
    return _read(model, x)[1]


def _read(model: nn.Module, x: Tensor) -> tuple[fx.GraphModule, Network]:
    """The converted model as it is written, and its network."""
    converted = _converted(model, x)
    if isinstance(converted, fx.GraphModule):
        converted = batch_kept_first(written_out(converted, x))
    network = read_network(converted, x)
    if not network.crossbar_nodes():
        raise ValueError("export: the model has no crossbar layer")
    assert isinstance(converted, fx.GraphModule)  # read_network refuses anything else
    return converted, network


def _checked_input(sample_input: Any) -> Tensor:
    if not isinstance(sample_input, Tensor):
        raise TypeError(f"export: sample_input must be a tensor, got {type(sample_input).__name__}")
    if sample_input.dtype != torch.float32:
        raise TypeError(f"export: sample_input must be float32, got {sample_input.dtype}")
    if sample_input.dim() < 2 or sample_input.shape[0] < 1:
        raise ValueError(f"export: sample_input must be [B, ...] with B >= 1, got {[*sample_input.shape]}")
    refuse_meta_values(sample_input, "export", "sample_input")
    if not bool(torch.isfinite(sample_input).all()):
        raise ValueError("export: sample_input must be finite")
    return sample_input.detach().cpu().contiguous()


def _converted(model: Any, x: Tensor) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"export: model must be a torch.nn.Module, got {type(model).__name__}")
    model = unwrapped(model)
    if set(devices_of(model)) - {torch.device("cpu")}:
        check_device(model, "export")
        model = copy.deepcopy(model).cpu()
    network: nn.Module = model
    if any(isinstance(module, CrossbarLayer) for module in network.modules()):
        return network
    quant_layers(network)  # refuses a model that is not prepared
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        converted = convert(network, sample_input=x)
    reasons = []
    for warning in said:
        if issubclass(warning.category, CimqWarning) and str(warning.message).startswith("convert: "):
            reasons.append(str(warning.message).removeprefix("convert: "))  # what it left alone is refused by name
        else:
            warnings.warn(warning.message, stacklevel=3)
    if not isinstance(converted, fx.GraphModule) and reasons:
        raise ValueError(f"export: {type(network).__name__} has no torch.fx graph: {'; '.join(reasons)}")
    return converted


def _hardware(converted: nn.Module) -> Hardware:
    machines = {module.network_hardware for module in converted.modules() if isinstance(module, CrossbarLayer)}
    if len(machines) != 1:
        raise ValueError(f"export: all layers must be on one machine, got {sorted(m.name for m in machines)}")
    return machines.pop()


def _write_files(
    folder: Path, converted: fx.GraphModule, network: Network, hardware: Hardware, x: Tensor, check: bool
) -> dict[str, Any]:
    with torch.no_grad():
        output = converted(x)
    layers = layer_outputs(converted, x)
    program = write_network(folder, network, hardware)
    expected = {"input": x, "output": output} | {f"layer.{name}": value for name, value in layers.items()}
    save_file({name: value.contiguous().clone() for name, value in expected.items()}, folder / "expected.safetensors")

    facts = {"cimq.hardware": hardware.name, "cimq.digital": "converter and cell variation are not part of this file"}
    model = onnx_model.build(network, metadata=facts)
    onnx.save_model(model, folder / "model.onnx")
    extra: dict[str, Any] = {"latency": latency_entry(program)}
    if check:
        outcome = onnx_check.check(network, model, _digital(converted, hardware), x, output)
        extra["onnx"] = {"opset": onnx_model.OPSET} | outcome.to_dict()
    return extra


def _digital(converted: fx.GraphModule, hardware: Hardware) -> fx.GraphModule:
    """The converted model with exact conversion: what model.onnx can express."""
    adc = dataclasses.replace(hardware.adc, bits=None, range="full_scale", granularity="slice")
    ideal = hardware.replace(adc=adc, cell=Cell(), wires=Wires())
    digital = copy.deepcopy(converted)
    for module in digital.modules():
        if isinstance(module, CrossbarLayer):
            module.hardware = ideal
            module.adc_lo = module.adc_lsb = None
    return digital
