"""Quantisation-aware training of any classification network of torchvision on a folder of images.

    python examples/imagenet.py --data DIR --model resnet18 --pretrained --bits W4A4 --out runs/imagenet
    torchrun --standalone --nproc-per-node 8 examples/imagenet.py --data DIR --model resnet50 --weights FILE --amp bf16

DIR has ImageFolder layout: train/<class>/* and val/<class>/*, ImageNet or other images. Weights are a state_dict
(--weights) or torchvision's own, which are downloaded (--pretrained); the fp32 network is the teacher. The last linear
layer must have as many outputs as the folder has classes.

At the end: top-1 of fp32 and of the trained network on val, a bundle that the C++ executor runs, its latency, and
result.json, all in --out. `--batch-size` counts the images of all processes. --resume goes on after the last epoch.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from image_folder import MEAN, STD
from processes import calibrate_once, finish, start
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset

import cimq

try:
    import torchvision
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
except ImportError as error:
    raise SystemExit(f"examples/imagenet.py needs torchvision, the version that fits your torch: {error}") from None


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/* and val/<class>/*")
    parser.add_argument("--model", default="resnet18", help="name of a classification network of torchvision")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, help="fp32 state_dict of the network")
    weights.add_argument("--pretrained", action="store_true", help="weights of torchvision, downloaded")
    bits = parser.add_mutually_exclusive_group()
    bits.add_argument("--bits", default="W4A4", help="WxAy; first and last layer have 8")
    bits.add_argument("--policy", type=Path, help="bits per layer, as cimq.search writes them")
    parser.add_argument("--hardware", default="paper", help="preset or file")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=256, help="images of all processes together")
    parser.add_argument("--workers", type=int, default=4, help="processes that read images, for each training process")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--amp", choices=["none", "bf16", "fp16"], default="none")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--teacher", action=argparse.BooleanOptionalAction, default=None, help="default: with weights")
    parser.add_argument("--resume", action="store_true", help="goes on from the checkpoint in --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"))
    return parser.parse_args(given)


def data_sets(args: argparse.Namespace) -> tuple[Any, Any]:
    """Training images with random crops and flips, validation images with central ones."""
    for part in ("train", "val"):
        if not (args.data / part).is_dir():
            raise SystemExit(
                f"--data must hold train/<class>/* and val/<class>/*; there is no folder {args.data / part}"
            )
    to_tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    size = args.image_size
    augment = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), *to_tensor]
    central = [transforms.Resize(size * 256 // 224), transforms.CenterCrop(size), *to_tensor]
    try:
        train = ImageFolder(str(args.data / "train"), transforms.Compose(augment))
        val = ImageFolder(str(args.data / "val"), transforms.Compose(central))
    except FileNotFoundError as error:  # a class without images, or no class
        raise SystemExit(f"--data: {error}") from None
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise SystemExit(f"train and val must have the same classes; only one of them has {', '.join(odd[:5])}")
    return train, val


def build(args: argparse.Namespace, classes: int) -> nn.Module:
    """The fp32 network in evaluation."""
    known = torchvision.models.list_models(module=torchvision.models)
    if args.model not in known:
        near = difflib.get_close_matches(args.model, known, n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise SystemExit(f"--model: torchvision {torchvision.__version__} has no network {args.model!r}{hint}")
    if args.pretrained:
        model = torchvision.models.get_model(args.model, weights="DEFAULT")
    else:
        model = torchvision.models.get_model(args.model, weights=None, num_classes=classes)
    if args.weights is not None:
        load(model, args.weights, classes)
    head = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    outputs = head.weight.shape[0]
    if outputs != classes:
        raise SystemExit(f"the weights of {args.model} are for {outputs} classes, --data has {classes}")
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.eval()


def load(model: nn.Module, file: Path, classes: int) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SystemExit(f"--weights: there is no file {file}") from None
    if isinstance(state, dict):
        state = state.get("state_dict", state.get("model", state))
    if not isinstance(state, dict):
        raise SystemExit(f"--weights: {file} holds no state_dict but a {type(state).__name__}")
    wanted = model.state_dict()
    for key in wanted.keys() & state.keys():
        if state[key].shape != wanted[key].shape:
            shapes = f"{key} has shape {list(state[key].shape)}, {list(wanted[key].shape)} would fit"
            raise SystemExit(f"--weights: not for this network with the {classes} classes of --data: {shapes}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise SystemExit(f"--weights: {error}") from None


def policy(args: argparse.Namespace, names: list[str]) -> cimq.Policy:
    if args.policy is not None:
        return cimq.Policy.load(args.policy)
    match = re.fullmatch("W([1-8])A([1-8])", args.bits)
    if match is None:
        raise SystemExit(f"--bits must be WxAy with 1 to 8 bits, got {args.bits!r}")
    return cimq.Policy.uniform(int(match[1]), int(match[2])).bind(names, first_last_bits=8)


def top1(model: nn.Module, loader: DataLoader, world: int, device: torch.device) -> float:
    """On the images of all processes, each of which has its own share."""
    images = len(loader.dataset)  # type: ignore[arg-type]
    sums = torch.tensor([cimq.evaluate(model, loader) * images, images], dtype=torch.float64, device=device)
    if world > 1:
        dist.all_reduce(sums)
    return float(sums[0] / sums[1])


def export(model: nn.Module, sample: Tensor, out: Path) -> str | None:
    """Writes the bundle; the reason where the network has an operation that bundles do not hold."""
    try:
        bundle = cimq.export(model.cpu(), out / "model.cimq", sample, overwrite=True)
    except ValueError as error:
        return str(error)
    if not bundle.check().equal:
        raise SystemExit(f"executor and trained network differ: {out / 'model.cimq'}")
    return None


def main(arguments_given: list[str] | None = None) -> None:
    args = arguments(arguments_given)
    rank, world, device = start()
    if args.batch_size % world:
        raise SystemExit(f"--batch-size must be a multiple of the {world} processes, got {args.batch_size}")
    train, val = data_sets(args)
    if len(train) < args.batch_size or len(val) < world:
        raise SystemExit(f"--batch-size {args.batch_size}, {world} process(es): more than {len(train)} training images")
    torch.manual_seed(args.seed)
    model = build(args, len(train.classes)).to(device)
    options = {"batch_size": args.batch_size // world, "num_workers": args.workers, "pin_memory": device.type == "cuda"}
    sampler: DistributedSampler = DistributedSampler(train, world, rank, seed=args.seed)
    loader = DataLoader(train, sampler=sampler, drop_last=True, **options)
    share = DataLoader(Subset(val, range(rank, len(val), world)), **options)

    network = cimq.prepare(model, hardware=args.hardware)
    names = [name for name, _ in cimq.quantization.quant_layers(network)]
    cimq.set_policy(network, policy(args, names))
    calibrate_once(network, loader, rank, world)
    distributed: nn.Module = network
    if world > 1:
        distributed = DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)
    given = args.pretrained or args.weights is not None
    history = cimq.finetune(
        distributed,
        loader,
        epochs=args.epochs,
        lr=args.lr,
        val_loader=share,
        teacher=model if (given if args.teacher is None else args.teacher) else None,
        weight_decay=args.weight_decay,
        amp=None if args.amp == "none" else args.amp,
        checkpoint=args.out / "checkpoint.pt",
        resume=args.resume,
        seed=args.seed,
    )
    network.eval()
    accuracies = {name: top1(net, share, world, device) for name, net in {"fp32": model, "trained": network}.items()}
    if rank == 0:
        report(args, network, accuracies, history, torch.stack([val[index][0] for index in range(min(2, len(val)))]))
    del distributed
    finish(world)


def report(
    args: argparse.Namespace, network: nn.Module, accuracies: dict[str, float], history: list[Any], sample: Tensor
) -> None:
    torch.save(network.state_dict(), args.out / "trained.pt")
    cimq.quantization.get_policy(network).save(args.out / "policy.json")
    latency = cimq.latency(network)
    no_bundle = export(network, sample, args.out)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "versions": {"cimq": cimq.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__},
        "top1": accuracies,
        "losses": [epoch.loss for epoch in history],
        "time_us": latency.time_us,
        "speedup": latency.speedup,
        "no_bundle_because": no_bundle,
    }
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"top-1: fp32 {accuracies['fp32']:.2%}, trained {accuracies['trained']:.2%}")
    print(f"{latency.time_us / 1000:.2f} ms, {latency.speedup:.3f}x over uniform 8-bit")
    print(f"no bundle: {no_bundle}" if no_bundle else f"bundle: {args.out / 'model.cimq'}, equal to the network")


if __name__ == "__main__":
    main()
