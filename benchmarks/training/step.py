"""Time of a training step of ResNet-20 with quantisation, beside fp32 and beside Brevitas.

    python benchmarks/training/step.py [--threads 2] [--json]     # pip install "cimq[bench]" adds Brevitas

A step is forward, backward and SGD with momentum on a batch of random 32x32 images. The converter of the machine loses
nothing, so that cimq multiplies integers where the processor can (docs/performance.md, "Training"). First and last
layer have 8 bits.

Brevitas gets the same network with QuantConv2d and QuantLinear in the place of its layers: inputs and weights on the
same grids, a learned scale per output channel and per input, as cimq has them. Its scales of activations come from
statistics in the first steps; what is timed are the steps after those. BREVITAS_JIT=1 compiles its quantisers with
TorchScript; here that was slower than its default. Where Brevitas is not installed the table says so.

The alternatives take turns, a step each. ms: median. of_fp32: step over the fp32 step of the same round and format;
over_cimq: Brevitas over cimq with the same bits; both are medians over the rounds. On a machine that has other work
`--clock processor` counts the processor time of all threads instead of the time of day.
"""

from __future__ import annotations

import copy
import importlib.metadata
import re
import statistics
import sys
import time
import warnings
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import _common
from models.resnet_cifar import ResNetCifar

import cimq

FORMATS = ("float32", "channels_last", "bf16")  # bf16: autocast, channels_last
WARM_UP = 6  # Brevitas collects statistics in two steps, TorchScript, if asked for, compiles in the next
Bits = tuple[int, int]


def arguments() -> Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--bits", nargs="+", default=["W8A8", "W4A4", "W2A2"], help="WxAy, 2 to 8 bits")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=3, help="blocks per stage: 3 is ResNet-20")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    args = parser.parse_args()
    for name in args.bits:
        if not re.fullmatch("W[2-8]A[2-8]", name):
            parser.error(f"--bits must be WxAy with 2 to 8 bits, got {name!r}")
    return args


def with_cimq(model: nn.Module, bits: Bits, images: Tensor) -> nn.Module:
    network = cimq.prepare(model)
    names = [name for name, _ in cimq.quantization.quant_layers(network)]
    cimq.set_policy(network, cimq.Policy.uniform(*bits).bind(names, first_last_bits=8))
    cimq.calibrate(network, [images])
    return network.train()


def with_brevitas(model: nn.Module, bits: Bits, images: Tensor) -> nn.Module:
    """Copies the model with Brevitas's layers; statistics become learned scales in the first two steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of TorchScript on Brevitas's type annotations
        from brevitas import nn as qnn
        from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Uint8ActPerTensorFloat

    class LearnedPerChannel(Int8WeightPerChannelFloat):  # type: ignore[misc]
        scaling_impl_type = "parameter_from_stats"

    network = copy.deepcopy(model)
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for index, (name, layer) in enumerate(layers):
        weight_bits, act_bits = (8, 8) if index in (0, len(layers) - 1) else bits
        options = {
            "bias": layer.bias is not None,
            "weight_quant": LearnedPerChannel,
            "weight_bit_width": weight_bits,
            "input_quant": Uint8ActPerTensorFloat if index else Int8ActPerTensorFloat,  # images have a sign
            "input_bit_width": act_bits,
            "input_collect_stats_steps": 2,
        }
        if isinstance(layer, nn.Conv2d):
            geometry = {"stride": layer.stride, "padding": layer.padding}
            new = qnn.QuantConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, **geometry, **options)
        else:
            new = qnn.QuantLinear(layer.in_features, layer.out_features, **options)
        new.weight.data.copy_(layer.weight.data)
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, new)
    return network.train()


def training_step(network: nn.Module, images: Tensor, labels: Tensor, kind: str) -> Callable[[], float]:
    """A step of the network, as a function that returns the loss."""
    if kind != "float32":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bf16"):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def check(name: str, network: nn.Module, step: Callable[[], float]) -> None:
    """Warms up, and looks whether weights and scales are learned and the loss is a number."""
    for _ in range(WARM_UP):
        loss = step()
    if not torch.isfinite(torch.tensor(loss)):
        raise SystemExit(f"{name}: the loss is {loss}")
    # In bf16 the sum that is the gradient of a scale may round to zero.
    lowest = -1 if name.endswith("bf16") else 0
    still = [key for key, value in network.named_parameters() if value.grad is None or value.grad.abs().max() <= lowest]
    if still:
        raise SystemExit(f"{name}: no gradient of {', '.join(still)}")


def quantisers(network: nn.Module) -> int:
    """Learned scales of weights and activations (one entry per layer, whatever its shape)."""
    return sum("scale" in key or "scaling" in key for key, _ in network.named_parameters())


def timed(steps: dict[Any, Callable[[], float]], rounds: int, clock: Callable[[], float]) -> dict[Any, list[float]]:
    seconds: dict[Any, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    return seconds


def ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def main() -> None:
    args = arguments()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = ResNetCifar(args.blocks)
    images, labels = torch.randn(args.batch_size, 3, 32, 32), torch.randint(10, (args.batch_size,))
    cimq.reestimate_bn(model, [images])  # calibration sees the activations that training will have
    makers = {"cimq": with_cimq, "brevitas": with_brevitas}
    absent = ""
    try:
        peer = f"brevitas {importlib.metadata.version('brevitas')}"
        with_brevitas(ResNetCifar(1), (8, 8), images)
    except ImportError as error:
        absent = str(error)
        del makers["brevitas"]

    rows: list[dict[str, Any]] = []
    for kind in args.formats:
        steps: dict[tuple[str, str], Callable[[], float]] = {}
        for library, bits in [("fp32", ""), *((library, bits) for bits in args.bits for library in makers)]:
            if library == "fp32":
                network: nn.Module = copy.deepcopy(model)
            else:
                network = makers[library](model, (int(bits[1]), int(bits[3])), images)
                if quantisers(network) != 2 * (6 * args.blocks + 2):
                    raise SystemExit(f"{library}: {quantisers(network)} scales in {6 * args.blocks + 2} layers")
            steps[library, bits] = training_step(network, images, labels, kind)
            check(f"{library} {bits} {kind}", network, steps[library, bits])
        seconds = timed(steps, args.rounds, time.process_time if args.clock == "processor" else time.perf_counter)
        for (library, bits), times in seconds.items():
            ours = seconds.get(("cimq", bits))
            rows.append(
                {
                    "network": f"{peer} {bits}" if library == "brevitas" else f"{library} {bits}".strip(),
                    "format": kind,
                    "ms": 1e3 * statistics.median(times),
                    "of_fp32": ratio(times, seconds["fp32", ""]),
                    "over_cimq": ratio(times, ours) if library == "brevitas" and ours else None,
                }
            )
    if absent:
        rows.append({**dict.fromkeys(rows[0]), "network": f"brevitas: not installed, skipped ({absent})"})
    _common.show(rows, args.json)


if __name__ == "__main__":
    main()
