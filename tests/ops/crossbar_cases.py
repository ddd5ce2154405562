"""Random machines, widths and operands for the crossbar tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from cimq import Hardware
from cimq.ops.spec.mapping_rules import is_signed


@dataclass
class Case:
    hardware: Hardware
    weight_bits: int
    act_bits: int
    act_signed: bool
    seed: int
    adc_lo: Tensor | None = None
    adc_lsb: Tensor | None = None

    def options(self) -> dict[str, Any]:
        return {
            "weight_bits": self.weight_bits,
            "act_bits": self.act_bits,
            "act_signed": self.act_signed,
            "seed": self.seed,
            "adc_lo": self.adc_lo,
            "adc_lsb": self.adc_lsb,
        }

    def with_columns(self, outputs: int) -> Case:
        """Where the machine has them, ranges of its own for every output of a layer in place of those of the slices."""
        if self.adc_lsb is None or self.hardware.adc.granularity == "slice":
            return self
        generator = torch.Generator().manual_seed(self.seed + 2)
        shape = (len(self.adc_lsb), outputs)
        lo = torch.randint(-20, 20, shape, generator=generator, dtype=torch.int32)
        signed = is_signed(self.hardware)
        lsb = self.adc_lsb[:, None] * (0.2 + 2 * torch.rand(shape, generator=generator))
        lo = torch.zeros_like(lo) if signed else lo
        exact = {0: outputs, 1: (outputs + 1) // 2}.get(self.seed % 8, 0)  # all, the first half, or none
        lo[:, :exact], lsb[:, :exact] = 0, 1
        return replace(self, adc_lo=lo, adc_lsb=lsb)

    def columns(self, first: int, count: int) -> Case:
        """What the outputs first.. of a layer have of its ranges."""
        if self.adc_lo is None or self.adc_lsb is None or self.adc_lsb.dim() == 1:
            return self
        chosen = slice(first, first + count)
        return replace(self, adc_lo=self.adc_lo[:, chosen], adc_lsb=self.adc_lsb[:, chosen])

    def activations(self, *shape: int) -> Tensor:
        return activations(shape, self.act_bits, self.act_signed, self.seed)

    def weights(self, *shape: int) -> Tensor:
        return weights(shape, self.weight_bits, self.seed)


def activations(shape: tuple[int, ...], bits: int, signed: bool, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    lowest = -(2 ** (bits - 1)) if signed else 0
    x = torch.randint(lowest, lowest + 2**bits, shape, generator=generator)
    return x * (torch.rand(shape, generator=generator) < 0.7)  # zeros as after a ReLU


def weights(shape: tuple[int, ...], bits: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    if bits == 1:
        return torch.randint(0, 2, shape, generator=generator) * 2 - 1
    top = 2 ** (bits - 1) - 1
    return torch.randint(-top, top + 1, shape, generator=generator)


PROGRAMMING = [
    {"model": "none"},
    {"model": "proportional", "sigma_ratio": 0.1},
    {"model": "lognormal", "sigma_ln": 0.2},
    {"model": "polynomial", "coefficients_levels": [0.3, -0.02, 0.001]},
]


@st.composite
def cell_effects(draw: st.DrawFn, levels: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Any mix of what makes conductances differ from what was programmed: (cell, wires)."""
    cell: dict[str, Any] = {}
    wires: dict[str, float] = {}
    if draw(st.booleans()):
        table = {"model": "table", "sigmas_levels": [0.1] * levels, "means_levels": [1.05 * q for q in range(levels)]}
        cell["programming"] = draw(st.sampled_from([*PROGRAMMING, table]))
    if draw(st.booleans()):
        cell["stuck_at"] = {"hrs_rate": 0.1, "lrs_rate": 0.05}
    if draw(st.booleans()):
        cell["drift"] = {"nu": 0.05, "nu_sigma": draw(st.sampled_from([0.0, 0.02])), "t0_s": 1.0, "time_s": 1e4}
    if draw(st.booleans()):
        reads = [{"model": "constant", "sigma_levels": 0.2}, {"model": "proportional", "sigma_ratio": 0.05}]
        cell["read"] = draw(st.sampled_from(reads))
    if draw(st.booleans()):
        cell |= {"g_min_microsiemens": draw(st.sampled_from([0.0, 1.0, 15.0])), "g_max_microsiemens": 60.0}
        if draw(st.booleans()):
            wires = {"word_line_ohm": 5.0, "bit_line_ohm": 3.0, "mean_activity": 0.5}
    return cell, wires


@st.composite
def cases(draw: st.DrawFn, noise: bool | None = None, adc: bool = False) -> Case:
    """`noise`: with or without, None for either; `adc`: never an ideal converter."""
    mapping = draw(st.sampled_from(["differential_column", "differential_row", "offset"]))
    fields: dict[str, Any] = {
        "mapping": mapping,
        "rows": draw(st.sampled_from([2, 5, 16, 64])),
        "cell_bits": draw(st.integers(1, 8)),
        "dac_bits": draw(st.one_of(st.just(1), st.integers(1, 8))),
        "sign_magnitude": mapping != "offset" and draw(st.booleans()),
    }
    placement = draw(st.sampled_from(["differential", "per_column"]))
    adc_range = draw(st.sampled_from(["full_scale", "granular", "calibrated", "learned"]))
    signed = (mapping == "differential_column" and placement == "differential") or mapping == "differential_row"
    some_bits = st.integers(2 if signed else 1, 16)
    bits = draw(some_bits if adc else st.one_of(st.none(), some_bits))
    from_data = adc_range in ("calibrated", "learned")
    granularity = draw(st.sampled_from(["slice", "column"])) if from_data else "slice"
    fields["adc"] = {"bits": bits, "range": adc_range, "placement": placement, "granularity": granularity}
    if draw(st.booleans()) if noise is None else noise:
        sigma = draw(st.sampled_from([0.05, 0.5, 3.0]))
        fields["cell_bits"] = min(fields["cell_bits"], 6)  # what 16 bits hold in 1/256 level
        fields["cell"] = {"programming": {"model": "gaussian", "sigma_levels": sigma}}
    if noise is not False and draw(st.integers(0, 2)) == 0:
        fields["cell_bits"] = min(fields["cell_bits"], 5)
        fields["dac_bits"] = min(fields["dac_bits"], 4)
        effects = draw(cell_effects(2 ** fields["cell_bits"]))
        fields["cell"], fields["wires"] = {**fields.get("cell", {}), **effects[0]}, effects[1]
    case = Case(
        hardware=Hardware.preset("paper").replace(**fields),
        weight_bits=draw(st.integers(1, 8)),
        act_bits=draw(st.integers(1, 8)),
        act_signed=draw(st.booleans()),
        seed=draw(st.integers(0, 2**40)),
    )
    if bits is not None and from_data:
        slices = case.hardware.weight_slices(case.weight_bits)
        lsb = draw(st.lists(st.floats(0.25, 40.0, width=32), min_size=slices, max_size=slices))
        lo = draw(st.lists(st.integers(-20, 20), min_size=slices, max_size=slices))
        case.adc_lsb = torch.tensor(lsb)
        case.adc_lo = torch.tensor([0] * slices if is_signed(case.hardware) else lo)
    # A sum that could overflow is refused, which has a test of its own.
    assume((bits or 1) + case.act_bits + case.weight_bits <= 27)
    return case


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Images that hold the kernel at least once; groups up to depthwise."""
    groups = draw(st.integers(1, 3))
    small = st.integers(1, 2)
    shape = {
        "x": (draw(st.integers(1, 2)), groups * draw(small), draw(st.integers(1, 7)), draw(st.integers(1, 7))),
        "outputs": groups * draw(small),
        "kernel": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "stride": (draw(small), draw(small)),
        "dilation": (draw(small), draw(small)),
        "padding": tuple(draw(st.integers(0, 2)) for _ in range(4)),
        "groups": groups,
    }
    left, right, top, bottom = shape["padding"]
    assume(shape["x"][2] + top + bottom > shape["dilation"][0] * (shape["kernel"][0] - 1))
    assume(shape["x"][3] + left + right > shape["dilation"][1] * (shape["kernel"][1] - 1))
    return shape
