"""Read noise as written-out integers: the specification that csrc/kernels/noise/read_noise.h is tested against.

For one access of a converted column, V = sum over its cells of digit^2 * v(cell), and in 1/256 level

    noise = (isqrt(V << 16) * z + 2^(shift - 1)) >> shift,   shift = 8 + sample_bits

where z is a Gaussian sample of standard deviation unit * 2^sample_bits (docs/cells.md). Philox, the quantile table and
the square root are written here again, in NumPy and plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cimq.hardware import Hardware
from cimq.ops.spec.mapping_rules import LEVEL_UNIT, IntArray, level_window

_ROOT_BITS = 8
_MAX_SAMPLE_BITS = 30
_MAX_SAMPLE = 1 << 17
_NODE_BITS = 12
_SUB_BITS = 5
_PURPOSE_READ = 3
_LARGEST_Z = 7.0


@dataclass(frozen=True)
class ReadNoise:
    """Read noise of one layer on one chip.

    Attributes:
        proportional: Variances are those of the conductances; else one per cell.
        shift: Of the variances, proportional noise.
        sample_bits: Fraction bits of z.
        nodes: Quantile table of z, [2, nodes].
        seed: Seed of the variation.
        chip: Number of the chip.
        layer: Number of the layer.
        first_output: Number of the matrix's first output within its layer.
    """

    proportional: bool
    shift: int
    sample_bits: int
    nodes: IntArray
    seed: int
    chip: int
    layer: int
    first_output: int

    def variances(self, conductances: IntArray) -> IntArray:
        """v of cells, given what they conduct in 1/256 level."""
        if not self.proportional:
            return np.ones_like(conductances)
        half = 1 << (self.shift - 1) if self.shift else 0
        return (conductances**2 + half) >> self.shift

    def noise(
        self, variance: IntArray, accesses: IntArray, *, tile: int, digit: int, weight_slice: int, polarity: int | None
    ) -> IntArray:
        """Noise in 1/256 level of the columns [B, m] whose V is `variance`.

        Args:
            variance: V.
            accesses: Number of the access of each row [B].
            tile: Row tile.
            digit: Input digit.
            weight_slice: Weight slice.
            polarity: Column of a pair that is converted on its own; None where there is one converter per output.
        """
        outputs = np.arange(variance.shape[1]) + self.first_output
        columns = outputs if polarity is None else 2 * outputs + polarity
        key = _philox(
            [accesses & 0xFFFFFFFF, (accesses >> 32) | (_PURPOSE_READ << 24), self.layer, self.chip],
            [self.seed & 0xFFFFFFFF, (self.seed >> 32) & 0xFFFFFFFF],
        )
        key = [word[:, None] for word in key]
        words = _philox([columns[None, :] >> 2, tile, digit | (weight_slice << 8), key[3]], key[:2])
        chosen = np.choose(np.broadcast_to(columns[None, :] & 3, variance.shape), words)
        z = _sample(self.nodes, chosen)
        root = np.array([math.isqrt(int(v) << (2 * _ROOT_BITS)) for v in variance.ravel()], np.int64)
        shift = _ROOT_BITS + self.sample_bits
        return (root.reshape(variance.shape) * z + (1 << (shift - 1))) >> shift


def read_noise(
    hardware: Hardware,
    *,
    tile_inputs: int,
    largest_digit: int,
    cells_per_column: int,
    largest_conductance: int,
    seed: int,
    chip: int,
    layer: int,
    first_output: int,
) -> ReadNoise | None:
    """The read noise of a layer, None where the machine has none.

    Args:
        hardware: Machine.
        tile_inputs: Inputs of the layer's largest tile.
        largest_digit: Largest value of an input digit.
        cells_per_column: Cells of an input that a converter sees: 2 for a pair that is subtracted before, else 1.
        largest_conductance: Bound of a cell's conductance in 1/256 level.
        seed: Seed of the variation.
        chip: Number of the chip.
        layer: Number of the layer.
        first_output: Number of the matrix's first output within its layer.
    """
    read = hardware.cell.read
    if read.model == "none":
        return None
    shift = 0
    if read.model == "proportional":
        # The smallest shift with which 16-bit variances and their 32-bit sum fit.
        bound = min(32767, (2**31 - 1) // (tile_inputs * largest_digit**2))
        while cells_per_column * ((largest_conductance**2 + ((1 << shift) >> 1)) >> shift) > bound:
            shift += 1
        unit = float(read.sigma_ratio or 0.0) * math.sqrt(2.0**shift)
    elif read.sigma_microsiemens is not None:
        step = level_window(hardware)[1]
        unit = read.sigma_microsiemens / step * LEVEL_UNIT
    else:
        unit = read.sigma_levels * LEVEL_UNIT
    if unit == 0.0:
        return None
    bits = 0
    while bits < _MAX_SAMPLE_BITS and _LARGEST_Z * unit * 2.0 ** (bits + 1) <= _MAX_SAMPLE:
        bits += 1
    nodes = gaussian_nodes(unit * 2.0**bits)
    return ReadNoise(read.model == "proportional", shift, bits, nodes, seed, chip, layer, first_output)


def gaussian_nodes(sigma: float) -> IntArray:
    """Quantile table [2, nodes] of a Gaussian: lower half, upper half; cells get finer towards the tails."""
    count = 27 * (1 << _SUB_BITS) + 1
    normal = NormalDist()
    lower = []
    for index in range(count):
        shift = 0 if index < 2 << _SUB_BITS else (index >> _SUB_BITS) - 1
        position = (index - (shift << _SUB_BITS)) << shift
        value = sigma * normal.inv_cdf(min(0.5, (position + 0.5) / 2.0**32))
        lower.append(round(max(-float(_MAX_SAMPLE), value) * 2**_NODE_BITS))
    return np.array([lower, [-node for node in lower]], np.int64)


def _sample(nodes: IntArray, words: IntArray) -> IntArray:
    """Samples for uniform words: an index and a linear interpolation in integers."""
    upper = words >> 31
    v = np.where(upper == 1, 0xFFFFFFFF - words, words)
    top = np.frexp(np.maximum(v, 1).astype(np.float64))[1] - 1
    shift = np.maximum(top - _SUB_BITS, 0)
    index = (shift << _SUB_BITS) + (v >> shift)
    start, end = nodes[upper, index], nodes[upper, index + 1]
    value = start + (((end - start) * (v & ((1 << shift) - 1))) >> shift)
    samples: IntArray = (value + (1 << (_NODE_BITS - 1))) >> _NODE_BITS
    return samples


def _philox(counter: Sequence[IntArray | int], key: Sequence[IntArray | int]) -> list[IntArray]:
    """Philox4x32-10 (Salmon et al., SC 2011) on arrays of 32-bit words."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(word).astype(np.uint64) for word in counter]
    k = [np.asarray(word).astype(np.uint64) for word in key]
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        half = np.uint64(32)
        c = [(second >> half) ^ c[1] ^ k[0], second & low, (first >> half) ^ c[3] ^ k[1], first & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return [word.astype(np.int64) for word in np.broadcast_arrays(*c)]
