"""Floating operands that hold integers: the vectors that narrow them find every wrong value, wherever it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cimq
from cimq import _C
from cimq.ops import crossbar_mvm

HARDWARE = cimq.Hardware.preset("paper-2b").replace(
    rows=16, adc={"bits": 4}
)  # loses something: its products are of bytes
LENGTHS = [*range(1, 36), 63, 64, 65, 127, 130]


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return crossbar_mvm(x, w, HARDWARE, weight_bits=4, act_bits=4, act_signed=True)


@pytest.mark.parametrize("length", LENGTHS)
def test_values_within_the_tolerance_are_their_integers(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    x = torch.randint(-8, 8, (3, length), generator=generator, dtype=torch.int8)
    w = torch.randint(-7, 8, (5, length), generator=generator, dtype=torch.int8)
    near = (torch.rand(3, length, generator=generator) - 0.5) * (2 * 0.999 / 1024)
    near[:, 0] = 1 / 1024
    assert torch.equal(product(x + near, w.float()), product(x, w).float())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 8.0, -9.0, 3.5, 1.002, 2.0**31, -1e30])
def test_a_wrong_value_is_found_wherever_it_stands(value: float) -> None:
    for length in (1, 17, 40):
        w = torch.ones(2, length)
        for at in range(length):
            x = torch.ones(1, length)
            x[0, at] = value
            with pytest.raises(ValueError, match=rf"x_q must hold integers in -8..7, got .* at flat index {at}$"):
                product(x, w)


@pytest.mark.parametrize("isa", _C.isa_available())
def test_every_instruction_set(isa: str, tmp_path: Path) -> None:
    """This file once more, as another process with another instruction set."""
    if "CIMQ_OPERANDS_AGAIN" in os.environ:
        pytest.skip("this is the other process")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    environment = os.environ | {"CIMQ_CPU_ISA": isa, "CIMQ_OPERANDS_AGAIN": "1"}
    # Not from here: the checkout's package may be another torch's.
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
