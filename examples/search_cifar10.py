"""A network for CIFAR-10 images: search, export, execute, report.

    python examples/search_cifar10.py --data DIR --checkpoint resnet20.pt --out runs/cifar10
    python examples/search_cifar10.py --data DIR --network vgg11 --checkpoint vgg11.pt --out runs/vgg11

DIR has ImageFolder layout: train/<class>/*.jpg and test/<class>/*.jpg. The last --held-out images of every class of
train measure and confirm candidates; the fp32 network should never have been trained on them. The test images are
looked at once, at the very end. The checkpoint is a state_dict of examples/models/resnet_cifar.py or vgg_cifar.py.

The table has fp32, uniform 8-bit, the fastest uniform policy that satisfies the constraint, and the found policy, all
as the search trained and confirmed them: nothing is trained again.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from image_folder import BatchLoader, ImageTensors, last_of_each_class, normalise, read_folder
from models.resnet_cifar import ResNetCifar
from models.vgg_cifar import VggCifar
from torch import Tensor, nn
from torch.utils.data import DataLoader

import cimq
from cimq.quantization import layer_outputs
from cimq.report import record_measurements, write_report

FILES = ("evaluations.jsonl", "search.json", "plan.json", "shared.pt", "result.json", "policy.json")
FOLDERS = ("trained", "pareto")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--network", choices=["resnet20", "vgg11"], default="resnet20")
    parser.add_argument("--checkpoint", type=Path, required=True, help="fp32 state_dict of the network")
    parser.add_argument("--held-out", type=int, default=500, help="images of every class that measure and confirm")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--hardware", default="paper", help="preset or file")
    parser.add_argument("--first-last-bits", default="8", help="of the first and the last layer; or free")
    parser.add_argument("--max-accuracy-drop", type=float, default=0.01, help="fraction below uniform 8-bit")
    parser.add_argument("--strategy", default="thompson")
    parser.add_argument("--evaluations", type=int, default=None, help="policies that the search measures")
    parser.add_argument("--time-budget", default=None, help="in place of --evaluations: 15m, 2h, ...")
    parser.add_argument("--workers", default=None, help="processes, or the address of a Ray cluster")
    parser.add_argument("--device", default="cpu", help="cuda searches on the GPU")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=None, help="use only so many train and test images (quick try)")
    parser.add_argument("--blocks", type=int, default=3, help="residual blocks per stage: 3 is ResNet-20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in --out")
    return parser.parse_args()


def load_data(args: argparse.Namespace) -> tuple[ImageTensors, ImageTensors, ImageTensors, list[str]]:
    """Train, held-out and test images."""
    cache = args.out / "cache"
    images, labels, classes = read_folder(args.data / "train", cache)
    test_images, test_labels, test_classes = read_folder(args.data / "test", cache)
    if test_classes != classes:
        raise ValueError(f"train and test must have the same classes, got {classes} and {test_classes}")
    generator = torch.Generator().manual_seed(args.seed)
    parts = last_of_each_class(labels, args.held_out)
    train, held = (part[torch.randperm(len(part), generator=generator)] for part in parts)
    train = train[: args.images]
    chosen = torch.randperm(len(test_labels), generator=generator)[: args.images]
    sets = [ImageTensors(images[part], labels[part]) for part in (train, held)]
    return sets[0], sets[1], ImageTensors(test_images[chosen], test_labels[chosen]), classes


def load_model(args: argparse.Namespace, classes: int) -> nn.Module:
    model: nn.Module = ResNetCifar(args.blocks, classes) if args.network == "resnet20" else VggCifar(classes)
    model.load_state_dict(torch.load(args.checkpoint, map_location="cpu", weights_only=True))
    # A quarter faster in training on CPUs than channels first.
    ordered = model.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ordered.to(args.device).eval()  # type: ignore[no-any-return]


def executor_equals_model(bundle: Path, network: nn.Module, images: Tensor) -> int:
    """Compares the C++ executor with the trained network layer by layer, value by value; returns how many values."""
    executor = cimq.load_bundle(bundle)
    converted, device = cimq.convert(network, sample_input=images[:1]), next(network.parameters()).device
    compared = 0
    for part in images.split(32):
        with torch.no_grad():
            expected, logits = layer_outputs(converted, part), converted(part.to(device))
        output, layers = executor.run_layers(part)
        for name, values in {**expected, "output": logits}.items():
            found = output if name == "output" else layers[name]
            if not torch.equal(found, values.cpu()):
                raise SystemExit(f"executor and trained network differ in {name} of {bundle}")
            compared += values.numel()
    return compared


def compared_networks(model: nn.Module, result: cimq.SearchResult) -> dict[str, nn.Module]:
    """fp32, the uniform policies worth comparing, and the found policy."""
    within = [row for row in result.trained if row.name.startswith("uniform") and result.satisfies(row.accuracy)]
    fastest = max(within, key=lambda row: row.speedup)
    uniform = dict.fromkeys(("uniform 8-bit", fastest.name))
    return {"fp32": model, **{name: result.trained_models[name] for name in uniform}, "found policy": result.model}


def table(accuracies: dict[str, float], costs: dict[str, Any], result: cimq.SearchResult) -> str:
    lines = ["| network | top-1 on test | time | speed-up |", "| --- | --- | --- | --- |"]
    for name, accuracy in accuracies.items():
        cost = costs.get(name)
        tail = f"{cost.time_us / 1000:.2f} ms | {cost.speedup:.3f}x" if cost else "- | -"
        lines.append(f"| {name} | {100 * accuracy:.2f} % | {tail} |")
    searched = f"Search: {len(result.evaluations)} evaluations, {result.seconds / 60:.1f} minutes. {result.verdict}"
    return "\n".join([*lines, "", searched, ""])


def main() -> None:
    args = arguments()
    start = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume:  # a run into the same folder replaces the last one
        for name in FILES:
            (args.out / name).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(args.out / name, ignore_errors=True)
    train, held, test, classes = load_data(args)
    model = load_model(args, len(classes))
    print(f"{len(train)} training, {len(held)} held-out, {len(test)} test images")

    print("searching")
    result = cimq.search(
        model,
        BatchLoader(train, args.batch_size, train=True),
        val_loader=DataLoader(held, batch_size=250),
        hardware=args.hardware,
        max_accuracy_drop=args.max_accuracy_drop,
        strategy=args.strategy,
        evaluations=args.evaluations,
        time_budget=args.time_budget,
        first_last_bits=None if args.first_last_bits == "free" else int(args.first_last_bits),
        workers=int(args.workers) if (args.workers or "").isdigit() else args.workers,
        search_samples=len(held) // 2,
        seed=args.seed,
        out=args.out,
        resume=args.resume,
    )
    print(result)

    print("measuring on the test images, once each")
    networks = compared_networks(model, result)
    accuracies = {name: cimq.evaluate(network, BatchLoader(test, 250)) for name, network in networks.items()}

    print("exporting, compiling and executing the found network")
    bundle = args.out / "model.cimq"
    sample = normalise(test.images[:8])  # stored in the bundle with the result of every layer
    cimq.export(result.model, bundle, sample_input=sample, overwrite=True)
    cimq.compile(bundle)
    images = normalise(test.images[:256])
    compared = executor_equals_model(bundle, result.model, images)
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
    policies = {row.name: row.policy for row in result.trained} | {"found policy": result.policy}
    costs = {name: cimq.latency(result.shapes, policies[name], args.hardware) for name in networks if name in policies}
    text = table(accuracies, costs, result)
    (args.out / "table.md").write_text(text)
    page = write_report(args.out)
    minutes = (time.perf_counter() - start) / 60
    print(text)
    print(f"report {page}, bundle {bundle}, table {args.out / 'table.md'}; {minutes:.1f} min")


if __name__ == "__main__":
    main()
