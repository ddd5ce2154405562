"""What quantisation costs ResNet-20 on CIFAR-10 images, against the fp32 network fine-tuned in the same way.

    python benchmarks/training/resnet20.py --data DIR --checkpoint resnet20.pt fp32 W8A8 W4A4 W4A4:1 W3A3 W2A2

DIR has ImageFolder layout (train/<class>/*, test/<class>/*). A run is `fp32` or WxAy, with `:seed` (default 0) behind
it; every run starts from the checkpoint and gets the same training: all training images with crops and flips, SGD with
momentum, cosine, the checkpoint in fp32 as teacher. The first and the last layer have 8 bits. The test images are
measured once per run, after its last epoch.

Every run has a folder below --out with its log and a checkpoint per epoch: an interrupted benchmark goes on where it
was. The table at the end is made of all results in --out.
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
from models.resnet_cifar import ResNetCifar

import cimq

_RUN = re.compile(r"(fp32|W([1-8])A([1-8]))(?::(\d+))?")


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", help="fp32 or WxAy, optionally :seed")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="fp32 state_dict of ResNet-20")
    parser.add_argument("--out", type=Path, default=Path("runs/training"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--amp", choices=["none", "bf16", "fp16"], default="bf16")
    parser.add_argument("--hardware", default="paper", help="preset or file: the machine that is trained for")
    parser.add_argument("--images", type=int, default=None, help="use only so many train and test images (quick try)")
    return parser.parse_args()


def load_model(args: argparse.Namespace) -> ResNetCifar:
    model = ResNetCifar(3, 10)
    model.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def prepared(model: ResNetCifar, weight_bits: int, act_bits: int, loader: BatchLoader, hardware: str) -> Any:
    names = [name for name, _ in cimq.prepare(model).named_modules() if hasattr(_, "weight_bits")]
    policy = cimq.Policy.uniform(weight_bits, act_bits).bind(names, first_last_bits=8)
    network = cimq.prepare(model, policy, hardware)
    cimq.calibrate(network, loader)
    return network


def run(name: str, args: argparse.Namespace, train: ImageTensors, test: ImageTensors) -> dict[str, Any]:
    match = _RUN.fullmatch(name)
    if match is None:
        raise SystemExit(f"a run is fp32 or WxAy with 1 to 8 bits, optionally :seed; got {name!r}")
    label, seed = match[1], int(match[4] or 0)
    folder = args.out / f"{label}-seed{seed}-{args.epochs}epochs"
    result_file = folder / "result.json"
    if result_file.exists():
        return dict(json.loads(result_file.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    teacher = load_model(args)
    loader = BatchLoader(train, args.batch_size, train=True)
    torch.manual_seed(seed)
    network: Any = copy.deepcopy(teacher)
    if label != "fp32":
        network = prepared(teacher, int(match[2]), int(match[3]), loader, args.hardware)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no quantised layers", category=cimq.CimqWarning)
        history = cimq.finetune(
            network,
            loader,
            epochs=args.epochs,
            lr=args.lr,
            teacher=teacher,
            amp=None if args.amp == "none" else args.amp,
            dampening=1e-3 if label != "fp32" and int(match[2]) <= 3 else 0.0,
            checkpoint=folder / "last.pt",
            resume=True,
            seed=seed,
        )
    result = {
        "run": label,
        "seed": seed,
        "epochs": args.epochs,
        "lr": args.lr,
        "loss": [round(epoch.loss, 4) for epoch in history],
        "top1": cimq.evaluate(network, BatchLoader(test, 250)),
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "command": " ".join(["python", *sys.argv]),
    }
    result_file.write_text(json.dumps({**result, "environment": _common.environment()}, indent=1) + "\n")
    return result


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
        rows.append(run(name, args, train, test))
        print(f"{name}: {100 * rows[-1]['top1']:.2f} %, {rows[-1]['minutes']} min", file=sys.stderr, flush=True)
    reference = next((row["top1"] for row in rows if row["run"] == "fp32"), None)
    for row in rows:
        row["loss"] = row["loss"][-1]
        row["top1_loss_points"] = None if reference is None else 100 * (reference - row["top1"])
        row.pop("command"), row.pop("environment", None)
    _common.show(rows, args.json)


if __name__ == "__main__":
    main()
