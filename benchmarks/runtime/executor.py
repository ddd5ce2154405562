"""The C++ executor on a whole test set: the same predictions as the trained model, and images a second.

    python benchmarks/runtime/executor.py --data DIR --checkpoints DIR --bits W8A8
    python benchmarks/runtime/executor.py --data DIR --checkpoints DIR --policy runs/cifar10/policy.json --threads 1

ResNet-20 (DIR as for benchmarks/policy_search/front.py) is prepared with the policy, calibrated, its batch statistics
re-estimated (nothing is trained: speed does not depend on it), exported, and run on all test images by PyTorch (the
prepared model) and by the executor; every output must be equal. Against it, in the same run and on the same images,
taking turns: onnxruntime on the same fp32 network that its own static quantiser made int8 (QDQ, per channel), and on
the fp32 network itself. A product of W8A8 with ideal converters is what both compute.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "policy_search"))
import _common
from _networks import load_network
from image_folder import BatchLoader, ImageTensors, normalise, read_folder

import cimq


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--bits", default="W8A8", help="of all layers")
    parser.add_argument("--policy", type=Path, default=None, help="file, in place of --bits")
    parser.add_argument("--hardware", default="paper")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for the decoded images")
    return parser.parse_args()


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Batches for onnxruntime's quantiser."""

    def __init__(self, batches: list[np.ndarray[Any, Any]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._left, None)
        return None if batch is None else {"x": batch}


def session(path: Path, threads: int) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: made.run(None, {"x": x})[0]


def onnx_models(model: torch.nn.Module, train: list[np.ndarray[Any, Any]], folder: Path) -> tuple[Path, Path]:
    """The fp32 network, and what onnxruntime's static quantiser makes of it."""
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    torch.onnx.export(
        model, (torch.from_numpy(train[0][:2]),), fp32, input_names=["x"], dynamo=False,
        dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    quantize_static(
        fp32, int8, Images(train), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return fp32, int8


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    test = ImageTensors(*read_folder(args.data / "test", args.cache)[:2])
    test = test.subset(torch.linspace(0, len(test) - 1, min(len(test), args.images)).long())
    train = ImageTensors(*read_folder(args.data / "train", args.cache)[:2]).subset(torch.arange(0, 50_000, 50))
    model = load_network("resnet20", args.checkpoints).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    widths = re.fullmatch(r"W(\d)A(\d)", args.bits)
    if widths is None:
        raise SystemExit(f"--bits must be as in W4A4, got {args.bits!r}")
    policy = cimq.Policy.load(args.policy) if args.policy else cimq.Policy.uniform(int(widths[1]), int(widths[2]))
    prepared = cimq.prepare(model, policy, args.hardware, example_inputs=normalise(test.images[:1])).eval()
    loader = BatchLoader(train, 125)
    cimq.calibrate(prepared, loader)
    cimq.reestimate_bn(prepared, loader)
    batches = [normalise(part).contiguous() for part in test.images.split(args.batch_size)]
    plain = [batch.numpy() for batch in batches]
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        cimq.export(prepared, folder / "net.cimq", sample_input=batches[0][:8])
        bundle = cimq.load_bundle(folder / "net.cimq", threads=args.threads)
        paths = onnx_models(model, [normalise(part).numpy() for part in train.images.split(125)], folder)
        fp32, int8 = (session(path, args.threads) for path in paths)
        runs: dict[str, Callable[[int], Any]] = {
            "cimq executor": lambda i: bundle.run(plain[i]),
            "onnxruntime int8": lambda i: int8(plain[i]),
            "onnxruntime fp32": lambda i: fp32(plain[i]),
        }
        found = torch.cat([torch.as_tensor(bundle.run(batch)) for batch in plain])
        wanted = torch.cat([prepared(batch) for batch in batches])
        if not torch.equal(found, wanted):
            different = int((found != wanted).any(1).sum())
            raise SystemExit(f"executor and PyTorch differ on {different} of {len(wanted)} images")
        seconds = dict.fromkeys(runs, float("inf"))
        for _ in range(args.rounds):
            for who, run in runs.items():
                start = time.perf_counter()
                for i in range(len(plain)):
                    run(i)
                seconds[who] = min(seconds[who], time.perf_counter() - start)
    right = {"cimq executor": float((found.argmax(1) == test.labels).float().mean())}
    rows = [
        {"what": who, "images/s": len(test) / took, "of onnxruntime int8": seconds["onnxruntime int8"] / took,
         "top-1": right.get(who)}
        for who, took in seconds.items()
    ]  # fmt: skip
    _common.show(rows, args.json)
    if not args.json:
        print(f"all outputs of {len(test)} images equal to PyTorch's prepared model; batches of {args.batch_size}")


if __name__ == "__main__":
    main()
