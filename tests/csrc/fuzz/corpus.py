"""The inputs that the fuzzing of readers begins with: exported bundles, each as one file.

python tests/csrc/fuzz/corpus.py DIR

Small networks on several machines, and one for every operation that bundles know. The format is that of BundleInput
(bundle_input.h): for each file its number in the list, its length in four bytes, its content.
"""

from __future__ import annotations

import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bundle"))
import torch
from attention_nets import TOKENS, WIDTH, Encoder, Fused
from bundle_nets import HARDWARE, Residual, converted, images, randomise, write_handmade
from operation_nets import Around, cases

import cimq

_HEADER = Path(__file__).with_name("bundle_input.h").read_text(encoding="utf-8")
NAMES = re.findall(r'"([^"]+)"', _HEADER[_HEADER.index("kFuzzedFiles =") :].split(";")[0])


def packed(bundle: Path, program: str | None = None) -> bytes:
    """One input of a bundle folder, with another program than its own."""
    parts = []
    for number, name in enumerate(NAMES):
        if (bundle / name).exists():
            content = (bundle / name).read_bytes()
            if name == "program.jsonl" and program is not None:
                content = program.encode()
            parts.append(struct.pack("<BI", number, len(content)) + content)
    return b"".join(parts)


def with_each_program(bundle: Path) -> Iterator[tuple[str, bytes]]:
    """A bundle with its own program, and with those of the other pipelines."""
    yield bundle.name, packed(bundle)
    program = bundle.parent / "program.jsonl"
    for pipeline in ("stationary", "pipelined"):
        cimq.compile(bundle, pipeline=pipeline, out=program)
        yield f"{bundle.name} {pipeline}", packed(bundle, program.read_text(encoding="utf-8"))


def inputs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and inputs."""
    handmade = write_handmade(folder / "handmade")
    cimq.compile(handmade)
    yield "handmade", packed(handmade)
    x = images(1, 3, 4, 4)
    for name, hardware in HARDWARE.items():
        bundle = folder / f"residual {name}"
        machine = hardware.replace(resources={"crossbars": 40})
        cimq.export(converted(randomise(Residual()), x, machine), bundle, sample_input=x)
        yield from with_each_program(bundle)
    for net in (Fused, Encoder):
        x = images(1, TOKENS, WIDTH)
        bundle = folder / f"attention {net.__name__}"
        cimq.export(converted(randomise(net()), x, HARDWARE["lossy"]), bundle, sample_input=x)
        yield from with_each_program(bundle)
    x = images(1, 3, 4, 4)
    bundle = folder / "layers with machines of their own"
    policy = cimq.Policy.uniform(4, 4, 4, "offset")
    cimq.export(converted(randomise(Residual()), x, HARDWARE["lossy"], policy), bundle, sample_input=x)
    yield bundle.name, packed(bundle)
    for name, (operation, shape) in cases().items():
        x = images(1, *shape)
        bundle = folder / re.sub(r"\W+", " ", name)
        cimq.export(converted(randomise(Around(operation, shape)), x, HARDWARE["ideal"]), bundle, sample_input=x)
        yield bundle.name, packed(bundle)


def main() -> None:
    to = Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in inputs(Path(folder)):
            (to / name.replace(" ", "_")).write_bytes(content)
            sizes.append(len(content))
    print(f"{len(sizes)} inputs, {min(sizes)} to {max(sizes)} bytes")


if __name__ == "__main__":
    main()
