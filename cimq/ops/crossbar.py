"""Products on programmed crossbars: matrix-vector product and convolution, with straight-through gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cimq.hardware import Hardware, resolve
from cimq.ops.crossbar_call import CONV2D, MVM, CrossbarCall
from cimq.ops.geometry import four_paddings, pair
from cimq.ops.spec import crossbar_products


def crossbar_mvm(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware | str | Path,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    chips: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
    adc_grad: str = "identity",
) -> Tensor:
    """`x_q @ w_q.T` as a crossbar machine computes it: input digits, weight slices, row tiles, converters.

    With an ideal or lossless converter and no variation the result is the exact integer product. The same bits come
    out for every instruction set, number of threads and split of the batch; a chip (seed, number) has the same cells
    everywhere. The equations are in docs/numbers.md; `backend="reference"` runs them as written.

    Floating operands must hold integers (to 1/1024) and make the op differentiable straight through:
    `dx = dy @ w`, `dw = dy.T @ x`, summed over chips; the nominal operands, also where cells vary. With
    `adc_grad="clip"` partial sums whose code is clamped pass no gradient. `adc_lsb` has an LSQ gradient. The
    definitions are in docs/numbers.md, "Gradients".

    Args:
        x_q: Activations `[..., n]`, any integer type or floating; values of `act_bits` bits.
        w_q: Weights `[m, n]`, in `-(2^(w-1)-1) .. 2^(w-1)-1`, or -1 and +1 for one bit.
        hardware: Machine, name of a preset, file, or canonical JSON.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Activations are two's complement; else unsigned.
        chips: Number of chips to compute; None for one chip without the leading dimension.
        seed: Seed of all variation; chip k of a seed is always the same chip.
        backend: "auto"; "sliced" never takes the short cut for lossless converters (same result, for measurements);
            "reference_cpp" plain loops in C++; "reference" the specification in Python.
        layer: Number of the layer, which keeps the cells of layers apart.
        adc_lo: Lowest current of each weight slice `[n_w]`, integer level steps; for `adc.range` calibrated or learned.
            With `adc.granularity` "column" also `[n_w, m]`: of each slice and output.
        adc_lsb: Converter step, level steps; likewise, of the same shape. See `calibrate_adc`.
        first_access: Number of the first row's access. Read noise is new for every access: to split a batch and get
            the same bits, pass the number of rows before each part.
        adc_grad: "identity" or "clip": whether gradients pass conversions that the range clips.

    Returns:
        `[..., m]`, or `[chips, ..., m]`. For integer operands int32 where every converter step is one level (ideal,
        or granular with enough bits) and cells are exactly their levels, else float32. For floating operands float32,
        or float64 if one of them is.

    Raises:
        ValueError: For values outside their range (names the first), NaN, shapes that do not fit, a configuration
            whose sums could overflow (with the bound), unknown backends or presets.
        TypeError: For bool or complex operands.

    Example:
        >>> import torch, cimq
        >>> x = torch.tensor([[3, 0, 15]])
        >>> w = torch.tensor([[1, -7, 2], [0, 5, -1]])
        >>> cimq.ops.crossbar_mvm(x, w, "paper", weight_bits=4, act_bits=4)
        tensor([[ 33, -15]], dtype=torch.int32)
    """
    call = CrossbarCall(
        x_q, w_q, hardware_json(hardware), weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed,
        chips=chips, seed=seed, layer=layer, adc_lo=adc_lo, adc_lsb=adc_lsb, backend=backend,
        first_access=first_access, adc_grad=adc_grad,
    )  # fmt: skip
    out: Tensor = crossbar_products.crossbar_mvm(call) if backend == "reference" else MVM(call)
    return out


def crossbar_conv2d(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware | str | Path,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
    adc_grad: str = "identity",
) -> Tensor:
    """2-D convolution as a crossbar machine computes it; every group is a matrix, see `crossbar_mvm`.

    The inputs of a matrix run over channel, kernel row, kernel column. Padding applies the integer 0. The patches are
    made block by block, never all at once.

    Args:
        x_q: Activations `[N, C, H, W]`; integers of `act_bits` bits in any type.
        w_q: Weights `[O, C/groups, kh, kw]`.
        hardware: Machine, name of a preset, file, or canonical JSON.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Activations are two's complement; else unsigned.
        stride: One value or (vertical, horizontal).
        padding: One value, (vertical, horizontal), or (left, right, top, bottom) as `torch.nn.functional.pad` has it.
        dilation: One value or (vertical, horizontal).
        groups: Groups of channels.
        chips: Number of chips; None for one chip without the leading dimension.
        seed: Seed of all variation.
        backend: As in `crossbar_mvm`.
        layer: Number of the layer.
        adc_lo: As in `crossbar_mvm`; all groups share `[n_w]`, and each has its outputs' columns of `[n_w, O]`.
        adc_lsb: Likewise.
        first_access: Number of the first output position's access: (images before) * H' * W'. See `crossbar_mvm`.
        adc_grad: As in `crossbar_mvm`.

    Returns:
        `[N, O, H', W']`, or `[chips, N, O, H', W']`; types as in `crossbar_mvm`.

    Raises:
        ValueError: As `crossbar_mvm`, and for impossible geometry.
        TypeError: For bool or complex operands.

    Example:
        >>> import torch, cimq
        >>> x = torch.arange(16).reshape(1, 1, 4, 4)
        >>> w = torch.tensor([[[[1, 0], [0, -1]]]])
        >>> cimq.ops.crossbar_conv2d(x, w, "paper", weight_bits=2, act_bits=4).unique()
        tensor([-5], dtype=torch.int32)
    """
    call = CrossbarCall(
        x_q, w_q, hardware_json(hardware), weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed,
        stride=pair(stride, "stride"), padding=four_paddings(padding), dilation=pair(dilation, "dilation"),
        groups=groups, chips=chips, seed=seed, layer=layer, adc_lo=adc_lo, adc_lsb=adc_lsb, backend=backend,
        first_access=first_access, adc_grad=adc_grad,
    )  # fmt: skip
    out: Tensor = crossbar_products.crossbar_conv2d(call) if backend == "reference" else CONV2D(call)
    return out


def _resolved_json(hardware: str) -> str:
    return resolve(hardware).to_json()


# Reading a preset is nothing to trace.
_json_of_name: Callable[[str], str] = torch.compiler.assume_constant_result(_resolved_json)  # type: ignore[no-untyped-call]


def hardware_json(hardware: Hardware | str | Path) -> str:
    """Canonical JSON of a machine, which is how it crosses the dispatcher."""
    if isinstance(hardware, Hardware):
        return hardware.to_json()
    if isinstance(hardware, str) and hardware.startswith("{"):
        return hardware  # checked where it is parsed, once
    return _json_of_name(str(hardware))
