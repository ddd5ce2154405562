"""What quantisation costs ResNet-20 on CIFAR-10 images, against the fp32 network fine-tuned in the same way.

    python benchmarks/training/resnet20.py --data DIR --checkpoint resnet20.pt fp32 W8A8 W4A4 W4A4:1 W3A3 W2A2

DIR has ImageFolder layout (train/<class>/*, test/<class>/*). A run is `fp32` or WxAy, with `@MACHINE` (a preset or a
file; default: the paper's) and `:seed` (default 0) behind it; every run starts from the checkpoint and gets the same
training: all training images with crops and flips, SGD with momentum, cosine, the checkpoint in fp32 as teacher (with
--feature-weight, that of every residual block too). The first and the last layer have 8 bits. The test images are
measured once per run, after its last epoch.

Through a converter that loses something, and through cells that vary, by a network that was trained for it (`@`) and by
one that was not (`--measure-on`: every trained network once more on that machine, on --chips chips where cells vary):

    python benchmarks/training/resnet20.py ... fp32 W4A4 --measure-on benchmarks/training/adc_8bit_128rows.yaml
    python benchmarks/training/resnet20.py ... W4A4 W4A4@rram-wan2022 --measure-on rram-wan2022

Every run has a folder below --out with its options, results and last checkpoint: an interrupted benchmark goes on where
it was, a finished run is not repeated. The table at the end has the runs that the command names.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import _common
from image_folder import BatchLoader, ImageTensors, read_folder
from models.resnet_cifar import BasicBlock, ResNetCifar

import cimq

# Options of `finetune`, by its names; and those that change a result besides.
_OF_FINETUNE = (
    "epochs", "lr", "weight_decay", "feature_weight", "feature_epochs", "distill_weight", "temperature",
    "gradient_scaling", "mixing", "bn_batches",
)  # fmt: skip
_OPTIONS = (*_OF_FINETUNE, "dampening", "crop_pixels", "batch_size", "amp", "images")
_RUN = re.compile(r"(?P<bits>fp32|W(?P<w>[1-8])A(?P<a>[1-8]))(?:@(?P<machine>[^:]+))?(?::(?P<seed>\d+))?")


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", help="fp32 or WxAy, optionally @MACHINE, optionally :seed")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="fp32 state_dict of ResNet-20")
    parser.add_argument("--out", type=Path, default=Path("runs/training"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--weight-decay", type=float, default=1e-4, help="of weights, not of scales")
    parser.add_argument("--dampening", type=float, default=None, help="of finetune; default: 1e-3 to 3 bits, 0 above")
    parser.add_argument("--feature-weight", type=float, default=0.0, help="of residual blocks beside the teacher's")
    parser.add_argument("--feature-epochs", type=int, help="in which it falls to nothing; default: it stays")
    parser.add_argument("--distill-weight", type=float, default=0.5, help="of finetune: share of the teacher's loss")
    parser.add_argument("--temperature", type=float, default=2.0, help="of finetune: of the teacher's loss")
    parser.add_argument("--gradient-scaling", type=float, default=0.0, help="of finetune")
    parser.add_argument("--mixing", type=float, default=0.0, help="of finetune: share of batches with mixed images")
    parser.add_argument("--crop-pixels", type=int, default=4, help="by which random crops move images at most")
    parser.add_argument("--bn-batches", type=int, default=50, help="of finetune: batches for the statistics at the end")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--amp", choices=["none", "bf16", "fp16"], default="bf16")
    parser.add_argument("--measure-on", metavar="MACHINE", help="preset or file: measures what was trained on it too")
    parser.add_argument("--chips", type=int, default=10, help="chips for --measure-on where cells vary")
    parser.add_argument("--images", type=int, default=None, help="use only so many train and test images (quick try)")
    return parser.parse_args()


def load_model(args: argparse.Namespace) -> ResNetCifar:
    model = ResNetCifar(3, 10)
    model.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def prepared(model: ResNetCifar, weight_bits: int, act_bits: int, loader: BatchLoader, machine: str) -> Any:
    network = cimq.prepare(model, hardware=machine)
    names = [name for name, _ in cimq.quantization.quant_layers(network)]
    cimq.set_policy(network, cimq.Policy.uniform(weight_bits, act_bits).bind(names, first_last_bits=8))
    cimq.calibrate(network, loader)
    return network


def train_one(name: str, args: argparse.Namespace, train: ImageTensors, test: ImageTensors) -> dict[str, Any]:
    match = _RUN.fullmatch(name)
    if match is None or (match["bits"] == "fp32" and match["machine"]):
        raise SystemExit(f"a run is fp32 or WxAy with 1 to 8 bits, optionally @MACHINE, optionally :seed; got {name!r}")
    machine, seed = match["machine"] or "paper", int(match["seed"] or 0)
    label = match["bits"] + (f"@{Path(machine).stem}" if machine != "paper" else "")
    folder = args.out / f"{label}-seed{seed}-{args.epochs}epochs"
    loader = BatchLoader(train, args.batch_size, train=True, crop_pixels=args.crop_pixels)
    torch.manual_seed(seed)
    teacher = load_model(args)
    network: Any = copy.deepcopy(teacher)
    quantised = match["bits"] != "fp32"
    result_file = folder / "result.json"
    if not (result_file.exists() and (args.measure_on is None or not quantised)):
        network = prepared(teacher, int(match["w"]), int(match["a"]), loader, machine) if quantised else network
    options = {name: getattr(args, name) for name in _OPTIONS}
    claim(folder, options)
    if not result_file.exists():
        start = time.perf_counter()
        history = fit(network, loader, teacher, args, folder, seed, int(match["w"] or 8))
        result = {
            "run": label,
            "seed": seed,
            **options,
            "loss": [round(epoch.loss, 4) for epoch in history],
            "top1": measure(network, test, args.chips)[0],
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "command": " ".join(["python", *sys.argv]),
        }
        torch.save(network.state_dict(), folder / "trained.pt")
        result_file.write_text(json.dumps({**result, "environment": _common.environment()}, indent=1) + "\n")
    row = dict(json.loads(result_file.read_text()))
    if args.measure_on is not None and quantised:
        row.update(elsewhere(network, folder, args, loader, test))
    return row


def claim(folder: Path, options: dict[str, Any]) -> None:
    """Makes the folder of a run, or sees that what it holds was made with the same options."""
    file = folder / "options.json"
    if not file.exists():
        if any(folder.glob("*")):
            raise SystemExit(
                f"{folder} holds a run without {file.name}, so that its options are not known: choose --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(options, indent=1) + "\n")
    before = json.loads(file.read_text())
    other = [f"--{name.replace('_', '-')} {before.get(name)}" for name in options if before.get(name) != options[name]]
    if other:
        raise SystemExit(f"{folder} holds a run with {', '.join(other)}: choose another --out, or remove it")


def fit(
    network: Any, loader: BatchLoader, teacher: Any, args: argparse.Namespace, folder: Path, seed: int, bits: int
) -> list[Any]:
    dampening = (1e-3 if bits <= 3 else 0.0) if args.dampening is None else args.dampening
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no quantised layers", category=cimq.CimqWarning)
        return cimq.finetune(
            network,
            loader,
            **{name: getattr(args, name) for name in _OF_FINETUNE},
            teacher=teacher,
            amp=None if args.amp == "none" else args.amp,
            dampening=dampening,
            distill_features=blocks(teacher) if args.feature_weight else (),
            checkpoint=folder / "last.pt",
            resume=True,
            seed=seed,
        )


def blocks(model: ResNetCifar) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, BasicBlock)]


def measure(network: Any, test: ImageTensors, chips: int) -> tuple[float, float | None]:
    """Top-1; where cells vary, the mean of the chips, and half of its 95 % interval."""
    batches = BatchLoader(test, 250)
    layers = [layer for layer in network.modules() if isinstance(layer, cimq.quantization.QuantLayer)]
    if not any(layer.hardware.varies for layer in layers):
        return cimq.evaluate(network, batches), None
    statistics = cimq.evaluate_chips(network, batches, chips=chips)
    return statistics.mean, (statistics.high - statistics.low) / 2


def elsewhere(
    network: Any, folder: Path, args: argparse.Namespace, loader: BatchLoader, test: ImageTensors
) -> dict[str, Any]:
    """The trained network on the machine of --measure-on: its weights and scales, ranges of converters from data."""
    file = folder / f"measured-{Path(args.measure_on).stem}.json"
    if not file.exists():
        network.load_state_dict(torch.load(folder / "trained.pt", weights_only=True))
        cimq.quantization.set_hardware(network, args.measure_on)
        if cimq.hardware.resolve(args.measure_on).adc.range in ("calibrated", "learned"):
            cimq.quantization.calibrate_converters(network, loader)
        top1, half = measure(network, test, args.chips)
        found = {"machine": Path(args.measure_on).stem, "top1_there": top1, "half_interval": half}
        file.write_text(json.dumps({**found, "command": " ".join(["python", *sys.argv])}, indent=1) + "\n")
    found = dict(json.loads(file.read_text()))
    found.pop("command")
    return found


def main() -> None:
    args = arguments()
    train_images, train_labels, _ = read_folder(args.data / "train", args.out / "cache")
    test_images, test_labels, _ = read_folder(args.data / "test", args.out / "cache")
    order = torch.randperm(len(train_labels), generator=torch.Generator().manual_seed(0))[: args.images]
    train = ImageTensors(train_images[order], train_labels[order])
    chosen = torch.randperm(len(test_labels), generator=torch.Generator().manual_seed(0))[: args.images]
    test = ImageTensors(test_images[chosen], test_labels[chosen])
    rows = []
    for name in args.runs:
        rows.append(train_one(name, args, train, test))
        print(f"{name}: {100 * rows[-1]['top1']:.2f} %, {rows[-1]['minutes']} min", file=sys.stderr, flush=True)
    reference = next((row["top1"] for row in rows if row["run"] == "fp32"), None)
    for row in rows:
        row["loss"] = row["loss"][-1]
        row["top1_loss_points"] = None if reference is None else 100 * (reference - row["top1"])
        row.pop("command"), row.pop("environment", None)
    _common.show(rows, args.json)


if __name__ == "__main__":
    main()
