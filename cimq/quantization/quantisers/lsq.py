"""LSQ (Esser et al., "Learned step size quantization", ICLR 2020): inputs and weights with a learned scale."""

from __future__ import annotations

import torch
from torch import Tensor

from cimq import ops
from cimq.quantization.quantisers.quantiser import Quantiser, one_or_several
from cimq.quantization.quantisers.scale_search import binary_scales, mse_scales


class Lsq(Quantiser):
    """x_hat = scale * clamp(rint(x / scale), low, high).

    Args:
        scale: Positive, [] or [O]; [1] is taken as [].
        low: Smallest integer.
        high: Largest integer; 0 with one bit and a sign, whose integers are -1 and 0.
        written: It is a weight that stays in the cells; else an input, or a matrix that is written for every sample:
            the factor of the scale's gradient then counts the values of one sample.

    Example:
        >>> q = Lsq(torch.tensor(0.5), -4, 3)
        >>> q.integers(torch.tensor([-1.0, 0.25, 0.75, 9.0])), q.fake(torch.tensor([0.7]))
        (tensor([-2,  0,  2,  3], dtype=torch.int8), tensor([0.5000]))
    """

    _binary = False

    def __init__(self, scale: Tensor, low: int, high: int, *, written: bool = False) -> None:
        self.scale = one_or_several(scale)
        self.low = low
        self.high = high
        self._written = written
        self._axis = None if self.scale.dim() == 0 else 0

    def fake(self, x: Tensor) -> Tensor:
        """The values on the grid; the operator has the gradients."""
        factor = None if self._written else self.grad_scale(x)
        if self.high == 0:  # {-1, 0}: the same as {0, 1} of -x, as rounding is symmetric
            return -ops.fake_quantize(-x, self.scale, 0, 1, grad_scale=factor)
        return ops.fake_quantize(
            x, self.scale, self.low, self.high, axis=self._axis, grad_scale=factor, binary=self._binary
        )

    def integers(self, x: Tensor) -> Tensor:
        """The integers."""
        if self.high == 0:
            return -ops.quantize(-x.float(), self.scale, 0, 1).to(torch.int8)
        return ops.quantize(x.float(), self.scale, self.low, self.high, axis=self._axis, binary=self._binary)

    @classmethod
    @torch.no_grad()
    def calibrate(
        cls, values: Tensor, low: int, high: int, method: str = "mse", moments: tuple[Tensor, Tensor] | None = None
    ) -> Lsq:
        """The quantiser for a sample, with a scale for each row.

        Args:
            values: Finite values [rows, n].
            low: Smallest integer.
            high: Largest integer.
            method: "mse": the smallest mean squared error; "minmax": nothing is clipped (of one row).
            moments: What cells hold for each integer, where they vary; see `weight_moments`.

        Example:
            >>> Lsq.calibrate(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 0, 3).scale
            tensor(1.)
        """
        if method == "mse":
            return cls(mse_scales(values, low, high, moments=moments), low, high)
        least, most = torch.stack(torch.aminmax(values)).tolist()
        largest = max(most / high if high else 0.0, least / low if low else 0.0)
        return cls(torch.tensor(largest if largest > 0 else 1.0, device=values.device), low, high)


class Binary(Lsq):
    """Weights of one bit: scale times the sign, where 0 counts as positive."""

    _binary = True

    @classmethod
    @torch.no_grad()
    def calibrate(
        cls,
        values: Tensor,
        low: int = -1,
        high: int = 1,
        method: str = "mse",
        moments: tuple[Tensor, Tensor] | None = None,
    ) -> Binary:
        """The quantiser for a sample [rows, n], by the mean squared error.

        Example:
            >>> Binary.calibrate(torch.tensor([[1.0, -3.0]])).scale
            tensor(2.)
        """
        return cls(binary_scales(values, moments), low, high)
