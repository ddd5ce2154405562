"""First-order wire resistance against an exact solution of the resistive network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cimq import Hardware

Matrix = npt.NDArray[np.float64]

PAPER = Hardware.preset("paper").replace(sign_magnitude=True)  # five-bit weights in one slice


def effective_conductances(g: Matrix, word_ohm: float, bit_ohm: float) -> Matrix:
    """What every cell contributes at its column's converter per volt on its row, by nodal analysis.

    Row 0 is next to the converters (virtual ground below it), column 0 next to the drivers.
    """
    rows, columns = g.shape
    count = rows * columns
    node = np.arange(count).reshape(rows, columns)
    laplacian = np.zeros((2 * count, 2 * count))  # word-line nodes, then bit-line nodes

    def connect(a: int, b: int | None, conductance: float) -> None:
        laplacian[a, a] += conductance
        if b is not None:
            laplacian[b, b] += conductance
            laplacian[a, b] -= conductance
            laplacian[b, a] -= conductance

    for k in range(rows):
        for j in range(columns):
            connect(node[k, j], count + node[k, j], g[k, j])
            connect(node[k, j], node[k, j - 1] if j else None, 1 / word_ohm)
            connect(count + node[k, j], count + node[k - 1, j] if k else None, 1 / bit_ohm)
    effective = np.zeros_like(g)
    for k in range(rows):
        current = np.zeros(2 * count)
        current[node[k, 0]] = 1 / word_ohm  # one volt behind the first piece of word line
        voltage = np.linalg.solve(laplacian, current)
        effective[k] = voltage[count + node[0]] / bit_ohm
    return effective


def programmed(weights: torch.Tensor, hardware: Hardware) -> Matrix:
    """Conductances [inputs, 2 * outputs] in level steps, columns as they lie in the array."""
    levels = torch.ops.cimq.programmed_levels(weights, hardware.to_json(), 5)[0].double() / 256
    return levels.permute(2, 1, 0).reshape(weights.shape[1], -1).numpy()


@pytest.mark.parametrize(("word_ohm", "bit_ohm"), [(0.2, 0.2), (0.5, 1e-6), (1e-6, 0.5)])
def test_small_resistances_agree_with_the_network(word_ohm: float, bit_ohm: float) -> None:
    window = {"g_min_microsiemens": 10.0, "g_max_microsiemens": 310.0}  # 20 microsiemens per level
    wires = {"word_line_ohm": word_ohm, "bit_line_ohm": bit_ohm}
    machine = PAPER.replace(cell=window, wires=wires)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-15, 16, (6, 16), generator=generator)
    got = programmed(weights, machine)
    plain = programmed(weights, machine.replace(wires=None))
    step = 20e-6
    exact = effective_conductances(plain * step, word_ohm, bit_ohm) / step
    # One cell's loss is attributed differently (what a row loses to the others, and they to it, are equal in sum):
    # compare column currents for random inputs.
    x = torch.randint(0, 2, (50, 16), generator=generator).numpy()
    currents, expected, without = x @ got, x @ exact, x @ plain
    error = np.abs(currents - expected).max()
    loss = np.abs(expected - without).max()
    assert loss > 0.1  # there is something to model
    assert error < 0.05 * loss + 16 * 0.5 / 256


def test_the_error_is_of_second_order() -> None:
    weights = torch.full((8, 24), 15)
    errors = []
    for ohm in (1.0, 4.0):
        window = {"g_min_microsiemens": 0.0, "g_max_microsiemens": 300.0}
        machine = PAPER.replace(cell=window, wires={"word_line_ohm": ohm, "bit_line_ohm": ohm})
        plain = programmed(weights, machine.replace(wires=None))
        exact = effective_conductances(np.maximum(plain, 1e-9) * 20e-6, ohm, ohm) / 20e-6
        currents, expected, without = (matrix.sum(0)[::2] for matrix in (programmed(weights, machine), exact, plain))
        errors.append(np.abs(currents - expected).max() / np.abs(expected - without).max())
    # Relative to the loss, the error grows at most in proportion to the resistance.
    assert errors[0] < 0.1
    assert errors[1] < 5 * errors[0] + 0.02


def test_activity_scales_what_other_rows_do() -> None:
    weights = torch.full((1, 32), 15)
    window = {"g_min_microsiemens": 0.0, "g_max_microsiemens": 150.0}
    currents = []
    for activity in (0.0, 0.5, 1.0):
        wires = {"bit_line_ohm": 2.0, "mean_activity": activity}
        currents.append(programmed(weights, PAPER.replace(cell=window, wires=wires))[:, 0].sum())
    assert currents[0] > currents[1] > currents[2]
    # Alone, row k sees k + 1 pieces of wire and nothing else.
    alone = sum(15 / (1 + 2.0 * (k + 1) * 150e-6) for k in range(32))
    assert currents[0] == pytest.approx(alone, abs=32 * 0.5 / 256)


def test_wires_alone_make_results_fractional_and_chips_equal() -> None:
    from cimq.ops import crossbar_mvm

    machine = PAPER.replace(cell={"g_min_microsiemens": 1.0, "g_max_microsiemens": 100.0}, wires={"bit_line_ohm": 1.0})
    assert machine.fractional
    assert not machine.varies
    assert not machine.lossless
    x, w = torch.randint(0, 16, (4, 40)), torch.randint(-7, 8, (6, 40))
    y = crossbar_mvm(x, w, machine, weight_bits=4, act_bits=4, chips=2)
    assert y.dtype == torch.float32
    assert torch.equal(y[0], y[1])
    assert not torch.equal(y[0], (x @ w.T).float())
    assert torch.equal(y[0], crossbar_mvm(x, w, machine, weight_bits=4, act_bits=4, backend="reference"))
