"""Quantisation-aware training in a loop of your own, on scikit-learn's handwritten digits.

    python examples/own_loop.py [--bits 4] [--recipe] [--out runs/own-loop]

Everything that cimq needs around an ordinary PyTorch loop: prepare, calibrate, param_groups, reestimate_bn, convert,
export. `--recipe` puts `cimq.finetune` in the place of the loop. Takes a few seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from digits import SmallNet, digit_sets, train_fp32
from torch import nn
from torch.utils.data import DataLoader

import cimq


def train(model: nn.Module, loader: DataLoader, epochs: int, lr: float, device: str) -> None:
    """An ordinary loop: the scales are parameters like the weights."""
    # Scales get a tenth of the rate and no weight decay.
    optimizer = torch.optim.SGD(cimq.param_groups(model, lr, weight_decay=1e-4), momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
            schedule.step()
    # Low-bit weights jump between values, which leaves the moving averages of batch normalisation off.
    cimq.reestimate_bn(model, loader)
    model.eval()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bits", type=int, default=4, help="of weights and activations; first and last layer have 8")
    parser.add_argument("--hardware", default="paper", help="preset or file")
    parser.add_argument("--fp32-epochs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--recipe", action="store_true", help="train with cimq.finetune, the fp32 network as teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/own-loop"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cuda trains on the GPU")
    options = parser.parse_args(arguments)

    torch.manual_seed(options.seed)
    sets = digit_sets(options.seed)
    loader = DataLoader(sets["train"], batch_size=64, shuffle=True, drop_last=True)
    test_loader = DataLoader(sets["test"], batch_size=512)
    model = SmallNet()
    train_fp32(model, loader, options.fp32_epochs)
    model.to(options.device)  # all of cimq follows; the loaders stay as they are

    prepared = cimq.prepare(model, hardware=options.hardware)  # a copy, 8 bits everywhere
    names = [name for name, _ in cimq.quantization.quant_layers(prepared)]
    cimq.set_policy(prepared, cimq.Policy.uniform(options.bits, options.bits).bind(names, first_last_bits=8))
    cimq.calibrate(prepared, loader)
    accuracies = {"fp32": cimq.evaluate(model, test_loader), "calibrated": cimq.evaluate(prepared, test_loader)}
    if options.recipe:
        cimq.finetune(prepared, loader, epochs=options.epochs, lr=options.lr, teacher=model, seed=options.seed)
        prepared.eval()
    else:
        train(prepared, loader, options.epochs, options.lr, options.device)
    accuracies["trained"] = cimq.evaluate(prepared, test_loader)

    images, labels = sets["test"].tensors
    integers = cimq.convert(prepared, sample_input=images[:1])  # fails if the two differ
    accuracies["converted"] = cimq.evaluate(integers, test_loader)
    bundle = cimq.export(integers, options.out / "model.cimq", sample_input=images[:8], overwrite=True)
    accuracies["executed in C++"] = float((bundle.run(images).argmax(1) == labels).float().mean())
    for name, accuracy in accuracies.items():
        print(f"{name:16s} {accuracy:7.2%}")
    print(f"bundle: {options.out / 'model.cimq'}, {cimq.latency(prepared).speedup:.3f}x over uniform 8-bit")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the network is so small that a second thread costs more than it brings
    main()
