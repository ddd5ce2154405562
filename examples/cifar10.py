"""ResNet-20 on a folder of CIFAR-10 images: search, train, export, execute, report.

    python examples/cifar10.py --data DIR --checkpoint resnet20.pt --out runs/cifar10

DIR has ImageFolder layout: train/<class>/*.jpg and test/<class>/*.jpg. The search-validation images are taken from
train; the test images are looked at once, at the very end. The checkpoint is a state_dict of
examples/models/resnet_cifar.py; if it was trained on all of train, it knows the search-validation images by heart: fp32
and 8 bits look better on them than on the test images, so fewer bits seem to lose more than they do (hence the default
of two points for --max-accuracy-drop), and the table of test accuracies is what counts.

The table has fp32, uniform 8-bit, uniform 4-bit and the found policy. The three quantised networks start from the same
checkpoint and get the same training (--epochs, seed, learning rate).
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from image_folder import BatchLoader, ImageTensors, normalise, read_folder
from models.resnet_cifar import ResNetCifar
from torch import Tensor
from torch.utils.data import DataLoader

import cimq
from cimq.quantization import layer_outputs
from cimq.report import record_measurements, write_report


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--checkpoint", type=Path, required=True, help="fp32 state_dict of ResNet-20")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--hardware", default="paper", help="preset or file")
    parser.add_argument("--max-accuracy-drop", type=float, default=0.02, help="fraction below uniform 8-bit")
    parser.add_argument("--evaluations", type=int, default=100, help="policies that the search measures")
    parser.add_argument("--epochs", type=int, default=2, help="training of the networks in the table")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--finalist-images", type=int, default=15000, help="training images for each finalist")
    parser.add_argument("--finalists", type=int, default=3, help="policies that the search trains at most")
    parser.add_argument("--images", type=int, default=None, help="use only so many train and test images (quick try)")
    parser.add_argument("--blocks", type=int, default=3, help="residual blocks per stage: 3 is ResNet-20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in --out")
    return parser.parse_args()


def load_data(args: argparse.Namespace) -> tuple[ImageTensors, ImageTensors, ImageTensors, list[str]]:
    """Train, search-validation (10 % of train, seeded) and test images."""
    cache = args.out / "cache"
    images, labels, classes = read_folder(args.data / "train", cache)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(args.seed))[: args.images]
    held = max(1, len(order) // 10)
    train, validation = (ImageTensors(images[part], labels[part]) for part in (order[held:], order[:held]))
    test_images, test_labels, test_classes = read_folder(args.data / "test", cache)
    if test_classes != classes:
        raise ValueError(f"train and test must have the same classes, got {classes} and {test_classes}")
    chosen = torch.randperm(len(test_labels), generator=torch.Generator().manual_seed(args.seed))[: args.images]
    return train, validation, ImageTensors(test_images[chosen], test_labels[chosen]), classes


def load_model(checkpoint: Path, blocks: int, classes: int) -> ResNetCifar:
    model = ResNetCifar(blocks, classes)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    # A quarter faster in training on CPUs than channels first.
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def train_policy(
    model: ResNetCifar, policy: Any, train: ImageTensors, args: argparse.Namespace, checkpoint: Path
) -> torch.nn.Module:
    """The training that every quantised row of the table gets; `checkpoint` is written after every epoch."""
    prepared = cimq.prepare(model, policy, args.hardware)
    loader = BatchLoader(train, args.batch_size, train=True)
    torch.manual_seed(args.seed)
    cimq.calibrate(prepared, loader)
    cimq.finetune(
        prepared,
        loader,
        epochs=args.epochs,
        lr=args.lr,
        seed=args.seed,
        teacher=model,
        checkpoint=checkpoint,
        resume=args.resume,
    )
    return prepared.eval()


def executor_equals_model(bundle: Path, network: torch.nn.Module, images: Tensor) -> int:
    """Compares the C++ executor with the trained network layer by layer, value by value; returns how many values."""
    executor = cimq.load_bundle(bundle)
    converted = cimq.convert(network, sample_input=images[:1])
    compared = 0
    for part in images.split(32):
        with torch.no_grad():
            expected, logits = layer_outputs(converted, part), converted(part)
        output, layers = executor.run_layers(part)
        for name, values in {**expected, "output": logits}.items():
            found = output if name == "output" else layers[name]
            if not torch.equal(found, values):
                raise SystemExit(f"executor and trained network differ in {name} of {bundle}")
            compared += values.numel()
    return compared


def table(accuracies: dict[str, float], costs: dict[str, Any], evaluations: int, minutes: float) -> str:
    lines = ["| network | top-1 on test | time | speed-up |", "| --- | --- | --- | --- |"]
    for name, accuracy in accuracies.items():
        cost = costs.get(name)
        tail = f"{cost.time_us / 1000:.2f} ms | {cost.speedup:.3f}x" if cost else "- | -"
        lines.append(f"| {name} | {100 * accuracy:.2f} % | {tail} |")
    return "\n".join([*lines, "", f"Search: {evaluations} evaluations, {minutes:.1f} minutes.", ""])


def main() -> None:
    args = arguments()
    start = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume:
        for name in ("evaluations.jsonl", "search.json", "result.json", "policy.json"):
            (args.out / name).unlink(missing_ok=True)  # a run into the same folder replaces the last one
    train, validation, test, classes = load_data(args)
    model = load_model(args.checkpoint, args.blocks, len(classes))
    print(f"{len(train)} training, {len(validation)} search-validation, {len(test)} test images")

    print("searching")
    shown = torch.randperm(len(train), generator=torch.Generator().manual_seed(args.seed))[: args.finalist_images]
    result = cimq.search(
        model,
        BatchLoader(train.subset(shown), args.batch_size, train=True),
        val_loader=DataLoader(validation, batch_size=250),
        hardware=args.hardware,
        max_accuracy_drop=args.max_accuracy_drop,
        evaluations=args.evaluations,
        finalists=args.finalists,
        finetune_lr=args.lr,
        seed=args.seed,
        out=args.out,
        resume=args.resume,
    )
    print(result)

    names = list(result.policy)
    policies = {
        "uniform 8-bit": cimq.Policy.uniform(8, 8).bind(names),
        "uniform 4-bit": cimq.Policy.uniform(4, 4).bind(names, first_last_bits=8),
        "found policy": result.policy,
    }
    trained = {}
    for name, policy in policies.items():
        print(f"training {name}: {args.epochs} epochs")
        checkpoint = args.out / f"{name.replace(' ', '-')}.pt"
        trained[name] = train_policy(model, policy, train, args, checkpoint)

    print("measuring on the test images, once each")
    batches = BatchLoader(test, 250)
    accuracies = {name: cimq.evaluate(network, batches) for name, network in {"fp32": model, **trained}.items()}

    print("exporting, compiling and executing the found network")
    bundle = args.out / "model.cimq"
    sample = normalise(test.images[:8])  # stored in the bundle with the result of every layer
    cimq.export(trained["found policy"], bundle, sample_input=sample, overwrite=True)
    cimq.compile(bundle)
    images = normalise(test.images[:256])
    compared = executor_equals_model(bundle, trained["found policy"], images)
    check = (
        f"The C++ executor gave the same values as the trained network in every layer: {compared:,} on {len(images)} "
        "test images."
    )
    print(check)

    record_measurements(
        args.out,
        accuracies=accuracies,
        measured_on=f"the test set ({len(test)} images, used once, at the end)",
        command=shlex.join(["python", *sys.argv]),
        checks=[check],
        bundle=bundle.name,
    )
    costs = {name: cimq.latency(result.shapes, policy, args.hardware) for name, policy in policies.items()}
    text = table(accuracies, costs, len(result.evaluations), result.seconds / 60)
    (args.out / "table.md").write_text(text)
    page = write_report(args.out)
    minutes = (time.perf_counter() - start) / 60
    print(text)
    print(f"report {page}, bundle {bundle}, table {args.out / 'table.md'}; {minutes:.1f} min")


if __name__ == "__main__":
    main()
