"""The least time that the CUDA crossbar product can take, unit by unit, from counts and peak rates. Not a measurement.

    python benchmarks/ops/cuda_floor.py [--batch 16384 --inputs 1152 --outputs 512] [--chip h100|a100] [--json]

Counts what csrc/kernels/cuda/mvm_block.h does in its main kernel (8-bit cells, no clamps, pairs of columns subtracted
before conversion): matrix instructions, conversions, instructions of a warp, bytes of each memory.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass

BLOCK = 64  # rows and lines of a block
WARP = 32  # rows and lines of a warp
STEP = 32  # inputs of a matrix instruction
CHUNK = 256  # inputs of a stage
# Instructions of a warp, counted in `cuobjdump -sass` for sm_90: of a digit beside products and conversions, of a
# stage.
OF_DIGIT = 43
OF_STAGE = 400


@dataclass(frozen=True)
class Chip:
    """Peak rates: NVIDIA's data sheets, and the tables of throughput of the CUDA C++ Programming Guide."""

    multiprocessors: int
    ghz: float
    int8_products: int  # multiply-adds per clock and multiprocessor
    cache_tb_s: float  # second-level cache to multiprocessors, about: no data sheet has it
    memory_tb_s: float
    mma_share: float  # of the peak that mma.sync reaches; sm_90: Luo et al., arXiv 2402.13499
    floats: int = 64  # float32 operations per clock and multiprocessor


CHIPS = {
    "h100": Chip(132, 1.83, 4096, 5.5, 3.35, 0.62, 128),
    "a100": Chip(108, 1.41, 2048, 4.0, 1.56, 1.0),
}


def floors(
    chip: Chip, batch: int, inputs: int, outputs: int, *, digits: int, slices: int, rows: int
) -> dict[str, tuple[float, float]]:
    """Unit -> (count, microseconds)."""
    row_blocks, line_blocks = math.ceil(batch / BLOCK), math.ceil(outputs / BLOCK)
    tiles = [min(rows, inputs - first) for first in range(0, inputs, rows)]
    steps = sum(math.ceil(tile / STEP) for tile in tiles)
    stages = sum(math.ceil(tile / CHUNK) * (digits if tile > CHUNK else 1) for tile in tiles)
    warps = row_blocks * line_blocks * (BLOCK // WARP) ** 2
    tile_products = WARP * WARP // (16 * 8)
    products = warps * tile_products * steps * digits * slices
    conversions = warps * WARP * WARP * len(tiles) * digits * slices
    # A logical operation per product: four registers of activations for four tiles of lines.
    of_warps = (
        2 * products + 4 * conversions // 32 + warps * slices * (len(tiles) * digits * OF_DIGIT + stages * OF_STAGE)
    )
    stage_bytes = sum(
        math.ceil(tile / STEP) * STEP * (digits if tile > CHUNK else 1) for tile in tiles
    )  # of a row or line
    shared = row_blocks * line_blocks * slices * stage_bytes * (2 * BLOCK + (BLOCK // WARP) ** 2 * 2 * WARP)
    from_cache = row_blocks * line_blocks * slices * stage_bytes * 2 * BLOCK
    memory = batch * inputs + slices * outputs * inputs + batch * outputs * 4 * (2 * slices - 1)

    clocks = chip.multiprocessors * chip.ghz * 1e3  # of all multiprocessors, in a microsecond
    tensor = products * 16 * 8 * STEP / chip.int8_products / clocks
    return {
        "matrix instructions, peak": (products, tensor),
        "matrix instructions, mma.sync": (products, tensor / chip.mma_share),
        "conversions, float32 operations": (3 * conversions, 3 * conversions / chip.floats / clocks),
        "conversions, integer multiply-adds": (conversions, conversions / 64 / clocks),
        "instructions of warps": (of_warps, of_warps / 4 / clocks),
        "shared memory, bytes": (shared, shared / 128 / clocks),
        "second-level cache, bytes": (from_cache, from_cache / chip.cache_tb_s / 1e6),
        "memory, bytes": (memory, memory / chip.memory_tb_s / 1e6),
        "35 % of the int8 peak": (products, tensor / 0.35),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--inputs", type=int, default=1152)
    parser.add_argument("--outputs", type=int, default=512)
    parser.add_argument("--digits", type=int, default=8, help="activation bits / driver bits")
    parser.add_argument("--slices", type=int, default=2, help="weight bits / cell bits")
    parser.add_argument("--rows", type=int, default=256, help="inputs of a crossbar")
    parser.add_argument("--chip", choices=sorted(CHIPS), default="h100")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = floors(
        CHIPS[args.chip], args.batch, args.inputs, args.outputs, digits=args.digits, slices=args.slices, rows=args.rows
    )
    if args.json:
        print(json.dumps({unit: {"count": count, "us": us} for unit, (count, us) in found.items()}, indent=2))
        return
    for unit, (count, us) in found.items():
        print(f"{unit:<36}{count / 1e6:>10.1f} M {us:>8.0f} us")


if __name__ == "__main__":
    main()
