"""What converters and varying cells in the loop of a search are good for.

    python benchmarks/policy_search/analog.py --seeds 0 1 2 3 4
    python benchmarks/policy_search/analog.py --choose-adc-bits 4 8 --sigma-levels 0.1
    python benchmarks/policy_search/analog.py --network resnet20 --data DIR --checkpoints DIR --min-speedup 2.2

Two searches of one network for the same speed: one on the analog machine (--sigma-levels of programming noise,
converters of --adc-bits), one on the same machine with exact cells and converters. A policy takes the same time on
both. With --mappings the layers choose how weights are stored, too. With --choose-adc-bits the same energy takes the
place of the same speed (of the machine `isaac`), and the search on the analog machine chooses bits of converters for
every layer as well, of which the other, whose converters are exact, knows nothing: its policy has --adc-bits.

Both policies are then trained on the analog machine, in the same way from the same fp32 network, and measured on
--chips chips with images that nothing else has seen. `digits` is the network of examples/digits.py on scikit-learn's
images, another one for every seed; for ResNet-20, DIR of --data has ImageFolder layout, and the checkpoint (as for
front.py) had the last 500 images of every class of train held out.

The interval of the difference is Student's: over the chips for a seed, over the seeds for the mean of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import _common
import digits
from _networks import HELD_PER_CLASS, load_network
from image_folder import BatchLoader, ImageTensors, last_of_each_class, read_folder

import cimq


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--network", choices=["digits", "resnet20"], default="digits")
    parser.add_argument("--data", type=Path, default=None, help="of ResNet-20")
    parser.add_argument("--checkpoints", type=Path, default=None, help="of ResNet-20: folder of the fp32 state_dict")
    parser.add_argument(
        "--min-speedup", type=float, default=2.5, help="(or less energy) than uniform 8-bit, of both policies"
    )
    parser.add_argument("--adc-bits", type=int, default=8)
    parser.add_argument("--sigma-levels", type=float, default=0.3, help="programming noise, in level steps")
    parser.add_argument("--cell-bits", type=int, default=2)
    parser.add_argument("--mappings", nargs="+", default=None, help="that layers choose from (default: the machine's)")
    parser.add_argument(
        "--choose-adc-bits",
        type=int,
        nargs=2,
        default=None,
        metavar=("LOW", "HIGH"),
        help="for each layer, at an energy",
    )
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=None, help="of training each policy (digits 12, ResNet-20 1)")
    parser.add_argument("--shared-epochs", type=int, default=None, help="(digits 12, ResNet-20 1)")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--images", type=int, default=None, help="use only so many images of each set (quick try)")
    parser.add_argument("--out", type=Path, default=Path("runs/analog"))
    args = parser.parse_args()
    if args.network == "resnet20" and (args.data is None or args.checkpoints is None):
        parser.error("--network resnet20 needs --data and --checkpoints")
    return args


def machines(args: argparse.Namespace) -> dict[str, cimq.Hardware]:
    """The analog one and the same with exact cells and converters."""
    size = 64 if args.network == "digits" else 128
    preset = cimq.Hardware.preset("isaac" if args.choose_adc_bits else "paper")
    exact = preset.replace(name="exact", rows=size, cols=size, cell_bits=args.cell_bits)
    if args.choose_adc_bits:  # converters that lose nothing, so that their energy counts
        exact = exact.replace(adc={"bits": args.adc_bits, "range": "granular"}, resources={"crossbars": 1})
        if not exact.lossless:
            raise SystemExit(f"--adc-bits {args.adc_bits} lose something on {size} rows of {args.cell_bits}-bit cells")
    analog = exact.replace(
        name="analog",
        adc={"bits": args.adc_bits, "range": "calibrated"},
        cell={"programming": {"model": "gaussian", "sigma_levels": args.sigma_levels}},
    )
    return {"analog": analog, "exact": exact}


class Digits:
    """The network of examples/digits.py and its images."""

    epochs, shared_epochs, held_batch = 12, 12, 256

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        sets = digits.digit_sets(seed)
        self._train, self.held = sets["train"], DataLoader(sets["val"], batch_size=256)
        self.test = DataLoader(sets["test"], batch_size=512)
        self._seed = seed
        torch.manual_seed(seed)
        self.model: nn.Module = digits.SmallNet()
        digits.train_fp32(self.model, self.loader(), 30)

    def loader(self) -> Iterable[Any]:
        """Training batches: a new loader, for every use the same."""
        order = torch.Generator().manual_seed(self._seed)
        return DataLoader(self._train, batch_size=64, shuffle=True, drop_last=True, generator=order)


class ResNet20:
    """The checkpoint and CIFAR-10's images."""

    epochs, shared_epochs = 1, 1

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        cache = args.out / "cache"
        images, labels, _ = read_folder(args.data / "train", cache)
        train, held = last_of_each_class(labels, HELD_PER_CLASS)
        draw = torch.Generator().manual_seed(seed)
        train, held = (part[torch.randperm(len(part), generator=draw)[: args.images]] for part in (train, held))
        self._train = ImageTensors(images[train], labels[train])
        self.held = DataLoader(ImageTensors(images[held], labels[held]), batch_size=250)
        test = ImageTensors(*read_folder(args.data / "test", cache)[:2])
        if args.images is not None:
            test = test.subset(torch.linspace(0, len(test) - 1, args.images).long())
        self.test = DataLoader(test, batch_size=250)
        self.model = load_network("resnet20", args.checkpoints)

    def loader(self) -> Iterable[Any]:
        """Training batches."""
        return BatchLoader(self._train, 128, train=True)


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    task = Digits(args, seed) if args.network == "digits" else ResNet20(args, seed)
    found: dict[str, Any] = {}
    hardware = machines(args)
    for name, machine in hardware.items():
        result = cimq.search(
            task.model, task.loader(), val_loader=task.held, hardware=machine, min_speedup=args.min_speedup,
            mappings=args.mappings, adc_bits=args.choose_adc_bits if name == "analog" else None,
            objective="energy" if args.choose_adc_bits else "latency", evaluations=args.evaluations, seed=seed,
            shared_epochs=args.shared_epochs or task.shared_epochs,
            finetune_lr=0.02 if args.network == "digits" else 0.01,
        )  # fmt: skip
        found[name] = result
    chips: dict[str, tuple[float, ...]] = {}
    gains: dict[str, float] = {}
    for name, result in found.items():
        images = next(iter(task.test))[0][:8]
        torch.manual_seed(seed)
        prepared = cimq.prepare(task.model, result.policy, hardware["analog"], example_inputs=images)
        cimq.calibrate(prepared, task.loader())
        gains[name] = cimq.energy(prepared).saving if args.choose_adc_bits else cimq.latency(prepared).speedup
        epochs = args.epochs or task.epochs
        cimq.finetune(prepared, task.loader(), epochs=epochs, lr=0.02, teacher=task.model, seed=seed, progress=False)
        chips[name] = cimq.evaluate_chips(prepared.eval(), task.test, chips=args.chips, progress=False).values
    differences = [a - e for a, e in zip(chips["analog"], chips["exact"], strict=True)]
    changed = sum(a != e for a, e in zip(found["analog"].policy.rows(), found["exact"].policy.rows(), strict=True))
    row = {
        "seed": seed,
        "layers that differ": changed,
        **{f"gain, {name}": gain for name, gain in gains.items()},
        **{f"accuracy, {name}": sum(values) / len(values) for name, values in chips.items()},
        **interval(differences),
        "policies": {name: result.policy.to_dict() for name, result in found.items()},
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def interval(differences: list[float]) -> dict[str, float]:
    """Mean and the ends of its 95 % interval."""
    result = cimq.chip_statistics(differences)
    return {"difference": result.mean, "low": result.low, "high": result.high}


def main() -> None:
    args = arguments()
    rows = [one_seed(args, seed) for seed in args.seeds]
    if not args.json:
        rows = [{key: value for key, value in row.items() if key != "policies"} for row in rows]
    if len(rows) > 1:
        means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0] if isinstance(rows[0][key], float)}
        rows.append({**means, "seed": "all", **interval([row["difference"] for row in rows])})
    _common.show(rows, args.json)


if __name__ == "__main__":
    main()
