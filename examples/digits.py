"""From a small trained network to a verified bundle, on scikit-learn's handwritten digits.

    python examples/digits.py --out runs/demo

Trains a CNN with batch normalisation and a residual addition, searches bits per layer for a small crossbar machine,
trains uniform 8-bit, uniform 4-bit and the found policy in the same way, exports and compiles a bundle, executes it
with the C++ executor on the whole test set, compares every layer with the trained model, and writes a report. The test
set is used once, at the end.

What the search finds depends on the seed and the processor: a faster policy is taken where it loses, trained, no more
than --max-accuracy-drop of the 180 images that confirm it (one of them at the default), and the fastest uniform one
that does else. Two bits everywhere are enough for images as easy as these, so that one bit may be chosen. The README
has what ten seeds gave on one processor.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import cimq
from cimq.quantization import layer_outputs
from cimq.report import record_measurements, write_report

# What a run leaves in its folder; a run into the same folder replaces it.
RESULT_FILES = (
    "evaluations.jsonl", "search.json", "plan.json", "shared.pt", "result.json", "policy.json", "report.html"
)  # fmt: skip
RESULT_FOLDERS = ("trained", "pareto")


class SmallNet(nn.Module):
    """A CNN for 8x8 images: five convolutions, one residual addition, one linear layer."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.down_bn = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(x)))
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + x)
        x = F.relu(self.down_bn(self.down(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return self.classify(self.pool(x).flatten(1))


def digit_sets(seed: int) -> dict[str, TensorDataset]:
    """Three disjoint sets, with the classes in equal shares: train 60 %, search-validation 20 %, test 20 %."""
    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed)
    return {name: TensorDataset(images[i], labels[i]) for name, i in (("train", train), ("val", val), ("test", test))}


def train_fp32(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """Plain training of an ordinary network; nothing of cimq in it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=epochs, steps_per_epoch=len(loader))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def train_with_policy(
    model: nn.Module, policy: cimq.Policy, hardware: cimq.Hardware, loader: DataLoader, epochs: int, seed: int
) -> nn.Module:
    """The same quantisation-aware training for every policy that is compared: one policy has one result."""
    # A batch of the loader would move its generator on, and the next policy would be calibrated with other batches.
    example, _ = loader.dataset[:1]
    prepared = cimq.prepare(copy.deepcopy(model), policy, hardware, example_inputs=example)
    cimq.calibrate(prepared, loader)
    cimq.finetune(prepared, loader, epochs=epochs, lr=0.02, teacher=model, seed=seed, progress=False)
    return prepared.eval()


def check_layers(bundle: cimq.bundle.Bundle, model: nn.Module, images: Tensor) -> tuple[Tensor, list[str]]:
    """Runs bundle and model on the same images and compares all results.

    Raises:
        SystemExit: If a value differs.
    """
    converted = cimq.convert(model, images[:1])
    with torch.no_grad():
        expected = {**layer_outputs(converted, images), "output": converted(images)}
    output, found = bundle.run_layers(images)
    found = {**found, "output": output}
    for name, values in expected.items():
        different = int((found[name] != values).sum())
        print(f"   {name:10s} {values.numel():>9,} values, {'equal' if not different else f'{different} differ'}")
        if different or found[name].dtype != values.dtype:
            raise SystemExit(f"the C++ executor and the trained model disagree in {name}")
    count = sum(values.numel() for values in expected.values())
    return output, [
        f"The C++ executor gave the same integers as the trained model in all {len(found) - 1} crossbar layers, and "
        f"the same outputs: {count:,} values on {len(images)} test images."
    ]


def say(step: str) -> None:
    print(f"== {step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything (default runs/demo)")
    parser.add_argument("--hardware", help="preset or file; default: `paper` with crossbars of 64 x 64")
    parser.add_argument("--evaluations", type=int, default=120, help="policies that the search measures")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the fp32 training")
    parser.add_argument("--finetune-epochs", type=int, default=12, help="epochs of training with a policy")
    parser.add_argument("--max-accuracy-drop", type=float, default=0.01, help="0.01 is one percentage point")
    parser.add_argument("--least-bits", type=int, default=1, help="fewest bits that a layer may get")
    parser.add_argument("--width", type=int, default=16, help="channels of the network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start, out, seed = time.perf_counter(), options.out, options.seed
    out.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        (out / name).unlink(missing_ok=True)
    for name in RESULT_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)

    sets = digit_sets(seed)
    say("data: scikit-learn's digits, " + ", ".join(f"{len(data)} {name}" for name, data in sets.items()))
    loader = DataLoader(
        sets["train"], batch_size=64, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed)
    )
    val_loader = DataLoader(sets["val"], batch_size=256)
    # Crossbars of the paper's size would hold whole layers of a network this small, whatever its bits.
    hardware = cimq.Hardware.preset("paper").replace(name="paper with 64 x 64 cells", rows=64, cols=64)
    if options.hardware:
        from cimq.hardware import resolve

        hardware = resolve(options.hardware)

    torch.manual_seed(seed)
    model = SmallNet(options.width)
    train_fp32(model, loader, options.epochs)
    say(f"fp32 network trained: {cimq.evaluate(model, val_loader, progress=False):.2%} on the validation set")

    say(f"search: {options.evaluations} policies on {hardware.name}, accuracy may fall {options.max_accuracy_drop:.1%}")
    result = cimq.search(
        model,
        loader,
        val_loader=val_loader,
        hardware=hardware,
        max_accuracy_drop=options.max_accuracy_drop,
        evaluations=options.evaluations,
        bits=(options.least_bits, 8),
        shared_epochs=options.finetune_epochs,
        finetune_epochs=max(1, options.finetune_epochs // 3),
        finetune_lr=0.02,
        seed=seed,
        out=out,
    )
    bits = ", ".join(f"{name} {pair.weight_bits}/{pair.act_bits}" for name, pair in result.policy.items())
    print(f"   found {result.speedup:.3f}x over uniform 8-bit; weight/activation bits: {bits}")
    print(f"   on the images that confirm it: {result.verdict}")
    uniform = [row for row in result.trained if row.name.startswith("uniform") and result.satisfies(row.accuracy)]
    fastest = max(uniform, key=lambda row: row.speedup)
    print(f"   fastest uniform policy that satisfies, trained in the same way: {fastest.name}, {fastest.speedup:.3f}x")

    policies = {name: result.baselines[name].policy for name in ("uniform 8-bit", "uniform 4-bit")}
    networks: dict[str, nn.Module] = {"fp32": model}
    for name, policy in policies.items():
        say(f"training {name}: {options.finetune_epochs} epochs, the fp32 network as teacher")
        networks[name] = train_with_policy(model, policy, hardware, loader, options.finetune_epochs, seed)
    # The network that the search trained and confirmed.
    policies["found policy"], networks["found policy"] = result.policy, result.model

    images, labels = sets["test"].tensors
    say("export and compile the found policy")
    sample = next(iter(val_loader))[0][:8]
    bundle = cimq.export(networks["found policy"], out / "model.cimq", sample_input=sample, overwrite=True)
    program = cimq.compile(out / "model.cimq")
    print(
        f"   {program.writes:,} crossbar writes, {program.mvms:,} MVMs, {program.latency.time_us:,.1f} us in the model"
    )

    say(f"execute the bundle in C++ on all {len(images)} test images and compare layer by layer")
    bundle = cimq.load_bundle(out / "model.cimq")
    output, checks = check_layers(bundle, networks["found policy"], images)

    say("accuracy on the test set")
    test_loader = DataLoader(sets["test"], batch_size=512)
    accuracies = {name: cimq.evaluate(network, test_loader, progress=False) for name, network in networks.items()}
    executed = float((output.argmax(1) == labels).float().mean())
    if executed != accuracies["found policy"]:
        raise SystemExit(f"the executed bundle has {executed}, the trained model {accuracies['found policy']}")
    for name, accuracy in accuracies.items():
        times = f"   {cimq.latency(result.shapes, policies[name], hardware).speedup:.3f}x" if name in policies else ""
        print(f"   {name:14s} {accuracy:7.2%}{times}")

    record_measurements(
        out,
        accuracies=accuracies,
        measured_on=f"the test set ({len(images)} images, used once, at the end)",
        command=shlex.join(["python", "examples/digits.py", *(sys.argv[1:] if arguments is None else arguments)]),
        checks=checks,
        bundle="model.cimq",
        versions={"numpy": np.__version__, "scikit-learn": sklearn.__version__},
    )
    page = write_report(out)
    say(f"done in {time.perf_counter() - start:.0f} s; look at {page}; the bundle is {out / 'model.cimq'}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the network is so small that a second thread costs more than it brings
    main()
