"""Tier 2: the time of a program on its machine, event by event (csrc/compiler/sim)."""

from __future__ import annotations

import dataclasses
from typing import Any

from cimq import _C
from cimq.text_table import aligned_table

PICOSECONDS_PER_MICROSECOND = 1e6


@dataclasses.dataclass(frozen=True)
class SimulatedLayer:
    """A crossbar layer on the machine.

    Attributes:
        name: The layer's name.
        begin_us: When its input is there and it is its turn.
        end_us: When its result is there.
        writes: Crossbars written for it in one sample.
        mvms: Crossbar activations, one per input digit.
        write_us: Time that crossbars spent on its writes, added up over crossbars.
        mvm_us: Likewise on its activations.
    """

    name: str
    begin_us: float
    end_us: float
    writes: int
    mvms: int
    write_us: float
    mvm_us: float


@dataclasses.dataclass(frozen=True)
class SimulatedTime:
    """Time of one sample, from the loaded network to the last result.

    Attributes:
        time_us: The whole.
        write_us: Its part spent writing, along the chain of instructions that waited for one another.
        mvm_us: The rest of it: multiplying.
        crossbars: Crossbars that the program uses.
        utilisation: Share of their time that was used.
        layers: The crossbar layers in order of execution.
    """

    time_us: float
    write_us: float
    mvm_us: float
    crossbars: int
    utilisation: float
    layers: tuple[SimulatedLayer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        head = ["layer", "writes", "MVMs", "begin us", "time us", "share"]
        rows = [
            [
                layer.name,
                f"{layer.writes:,}",
                f"{layer.mvms:,}",
                f"{layer.begin_us:,.1f}",
                f"{layer.end_us - layer.begin_us:,.1f}",
                f"{100 * (layer.end_us - layer.begin_us) / self.time_us:.1f} %",
            ]
            for layer in self.layers
        ]
        parts = f"{self.write_us:,.1f} us writing, {self.mvm_us:,.1f} us multiplying"
        used = f"{self.crossbars:,} crossbars, {100 * self.utilisation:.2f} % of their time used"
        return f"{aligned_table([head, *rows])}\ntotal: {self.time_us:,.1f} us ({parts}); {used}"


def simulate(program: str) -> SimulatedTime:
    """Times a program that has been verified.

    Args:
        program: The text of a program.jsonl.
    """
    result: dict[str, Any] = _C.simulate_program(program)

    def micro(picoseconds: int) -> float:
        return picoseconds / PICOSECONDS_PER_MICROSECOND

    layers = tuple(
        SimulatedLayer(name, micro(begin), micro(end), writes, mvms, micro(write), micro(mvm))
        for name, begin, end, writes, mvms, write, mvm in result["layers"]
    )
    busy = result["time_ps"] * result["crossbars"]
    return SimulatedTime(
        micro(result["time_ps"]),
        micro(result["write_ps"]),
        micro(result["mvm_ps"]),
        result["crossbars"],
        result["busy_ps"] / busy if busy else 0.0,
        layers,
    )
