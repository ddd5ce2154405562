"""Networks, images and shared weights that benchmarks of the search work on."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from image_folder import BatchLoader, ImageTensors, last_of_each_class, read_folder
from models.resnet_cifar import ResNetCifar
from models.vgg_cifar import VggCifar
from torch import nn
from tqdm import tqdm

from cimq.atomic_files import write_text_atomically
from cimq.hardware import resolve
from cimq.policy_search.budget import SENSITIVITY_SHARE
from cimq.policy_search.data import HeldBatches, Splits
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.evaluators.without_training import WithoutTraining
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.uniform_front import uniform_grid
from cimq.policy_search.workbench import Workbench

HELD_PER_CLASS = 500
_BATCH = 250


def load_network(name: str, checkpoints: Path) -> nn.Module:
    """An fp32 network with its trained weights."""
    model: nn.Module = ResNetCifar(3, 10) if name == "resnet20" else VggCifar(10)
    model.load_state_dict(torch.load(checkpoints / f"{name}-cifar10jpeg-45k.pt", weights_only=True))
    return model.float().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


class Kept:
    """An evaluator whose measurements are kept in a file."""

    def __init__(self, evaluator: Any, file: Path) -> None:
        self._evaluator, self._file = evaluator, file
        self._known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        for policy in policies:
            if str(policy) not in self._known:
                self._known[str(policy)] = list(next(iter(self._evaluator.measure([policy]))))
                write_text_atomically(self._file, json.dumps(self._known))
            yield Measured(*self._known[str(policy)])


class Task:
    """A network with weights that were trained for all policies, and what policies do to it.

    Attributes:
        space: What the weights were trained for.
        spaces: What strategies choose from, by the bits of the first and the last layer: "8", "free".
        shared_s: Seconds that the training of the shared weights took; None where they were there already.
    """

    def __init__(self, args: argparse.Namespace, seed: int, folder: Path) -> None:
        self._folder = folder
        cache = args.out / "cache"
        images, labels, _ = read_folder(args.data / "train", cache)
        train, held = last_of_each_class(labels, HELD_PER_CLASS)
        held = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(seed))]
        sets = {"train": train, "search": held[: len(held) // 2], "confirm": held[len(held) // 2 :]}
        parts = {name: ImageTensors(images[order], labels[order]) for name, order in sets.items()}
        parts["test"] = ImageTensors(*read_folder(args.data / "test", cache)[:2])
        if args.images is not None:
            parts = {name: part.subset(_spread(len(part), args.images)) for name, part in parts.items()}
        self._loaders = {name: HeldBatches(BatchLoader(p, _BATCH)) for name, p in parts.items() if name != "train"}
        self._model = load_network(args.network, args.checkpoints)
        train_loader = BatchLoader(parts["train"], 128, train=True)
        self._steps = len(train_loader)
        splits = Splits(
            train_loader, self._loaders["search"], self._loaders["confirm"],
            (len(parts["search"]), len(parts["confirm"])),
        )  # fmt: skip
        settings = SearchSettings(
            hardware=resolve(args.hardware), max_accuracy_drop=0.0, min_speedup=None, strategy="thompson",
            objective="latency", evaluations=100, time_budget=None, seed=seed, out=folder, resume=True,
            workers=None, threads=None, shared_epochs=args.shared_epochs, shared_weights=None, train_batches=None,
            finetune_epochs=0, finetune_batches=None, finetune_lr=0.01, finalists=0, batch=8, bits=(2, 8),
            adc_bits=None, mappings=None, pipeline="closed_form", duplication=None,
            first_last_bits=8 if args.first_last == "8" else None,
            weight_multiple_of_cell=False, groups=(), exclude=(), calibration_batches=8, bn_batches=4,
            search_samples=len(parts["search"]), progress=True, rung_policies=0, pareto=0,
        )  # fmt: skip
        self._bench = Workbench(self._model, splits, settings, UserFunctions())
        self.space = self._bench.space
        fixed = SearchSpace(self.space.shapes, self.space.hardware, bits=self.space.bits, first_last_bits=8)
        self._fixed = self.space if args.first_last == "8" else fixed
        self.spaces = {"8": self._fixed, "free": self.space}
        if args.first_last != "both":
            self.spaces = {args.first_last: self.space}
        self.shared_s: float | None = None
        if args.shared_epochs > 0:
            self._train_shared(folder, args.shared_epochs)
        few = parts["search"].subset(torch.arange(math.ceil(SENSITIVITY_SHARE * len(parts["search"]))))
        self._evaluators = (
            self._bench.evaluator_on(self._loaders["search"]),
            self._bench.evaluator_on(HeldBatches(BatchLoader(few, _BATCH))),
        )
        self._kept: dict[str, Kept] = {}
        self._parts = parts

    def _train_shared(self, folder: Path, epochs: int) -> None:
        start = time.perf_counter()
        done = (folder / "shared.done").exists()
        with tqdm(total=epochs * self._steps, desc="shared weights", unit="step") as bar:
            self._bench.train_shared(epochs, folder / "shared.pt", lambda step: bar.update(step - bar.n))
        if not done:
            self.shared_s = time.perf_counter() - start
            (folder / "shared.done").touch()

    def evaluators(self) -> tuple[WithoutTraining, WithoutTraining]:
        """What ranks candidates, and the same on fewer samples."""
        return self._evaluators

    def count(self, name: str) -> int:
        """Images of a set."""
        return len(self._parts[name])

    def evaluator_on(self, name: str, images: range) -> WithoutTraining:
        """What measures on some images of a set."""
        return self._bench.evaluator_on(
            HeldBatches(BatchLoader(self._parts[name].subset(torch.tensor(images)), _BATCH))
        )

    def uniform(self) -> list[Pairs]:
        """All uniform policies with 8 bits in the first and the last layer, wider where that costs nothing."""
        return [self.space.canonical(policy) for policy in uniform_grid(self._fixed, 1000).values()]

    def uniform_of(self, weight_bits: int, act_bits: int) -> Pairs:
        """One of them."""
        return self.space.canonical(self._fixed.canonical(self._fixed.uniform(weight_bits, act_bits)))

    def fp32_accuracy(self) -> float:
        """On the test images."""
        return UserFunctions().accuracy(self._model, self._loaders["test"])

    def measured(self, name: str, policies: Sequence[Pairs]) -> list[Measured]:
        """Accuracy and divergence on a set, from a file where they are known already."""
        if name not in self._kept:
            evaluator = self._bench.evaluator_on(self._loaders[name])
            self._kept[name] = Kept(evaluator, self._folder / f"{name}.json")
        return list(self._kept[name].measure(policies))


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say what is measured on what; see front.py."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--network", choices=["resnet20", "vgg11"], default="resnet20")
    parser.add_argument(
        "--first-last", choices=["8", "free", "both"], default="8",
        help="bits of the first and the last layer; both: weights trained for free ones, searches with either",
    )  # fmt: skip
    parser.add_argument("--shared-epochs", type=int, default=3)
    parser.add_argument("--hardware", default="paper")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/front"))
    parser.add_argument("--images", type=int, default=None, help="use only so many images of each set (quick try)")


def seed_folder(args: argparse.Namespace, seed: int) -> Path:
    """Named after all that the files in it depend on: what is there is taken up, and not that of other settings."""
    inputs = [Path(args.hardware).stem, str(args.data.resolve()), str(args.checkpoints.resolve()), args.images]
    if Path(args.hardware).is_file():
        inputs.append(Path(args.hardware).read_text())
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:8]
    folder = args.out / f"{args.network}-{args.first_last}-{args.shared_epochs}epochs-seed{seed}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _spread(count: int, wanted: int) -> torch.Tensor:
    return torch.linspace(0, count - 1, min(count, wanted)).long()
