"""What policies cost as programs: the time and the energy that `cimq compile --pipeline` says, policy by policy.

Crossbars are shared out among layers, copies of layers take what others leave, layers overlap: the time of a program is
no sum over its layers. `cimq._C.PipelineCost` has it exactly; what knapsacks add up is fitted (`fitted_shares`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cimq import _C
from cimq.bundle.exporter import network_of
from cimq.bundle.programs import CLOSED_FORM, PIPELINED, RULES, STATIONARY
from cimq.cost_model import LayerShape
from cimq.cost_model.closed_form import as_tuple
from cimq.errors import CimqWarning
from cimq.hardware import Hardware
from cimq.policy import MAX_BITS
from cimq.policy_search.axes import Pairs, Row
from cimq.policy_search.fitted_shares import Terms, fitted_shares
from cimq.policy_search.prices import Part, Shares, check_energy

PIPELINES = (CLOSED_FORM, STATIONARY, PIPELINED)
# Policies whose costs are kept: asking again is a look-up.
_MOST_KEPT = 100_000
_PS_PER_US = 1e6
_FJ_PER_PJ = 1e3


def check_pipeline(pipeline: str, duplication: str | None) -> None:
    """Refuses what no program is compiled by.

    Raises:
        ValueError: For an unknown pipeline or rule, or a rule that the pipeline does not take.
    """
    if pipeline not in PIPELINES:
        raise ValueError(f"search: pipeline must be one of {', '.join(PIPELINES)}, got {pipeline!r}")
    if duplication is None:
        return
    if duplication not in RULES:
        raise ValueError(f"search: duplication must be None or one of {', '.join(RULES)}, got {duplication!r}")
    if pipeline == CLOSED_FORM:
        raise ValueError(f"search: the closed form has no copies of layers, got duplication={duplication!r}")
    if pipeline == STATIONARY and duplication == "any":
        raise ValueError("search: duplication 'any' compares programs: it needs pipeline='pipelined'")


class ProgramPrices:
    """Costs of the programs of a pipeline.

    Args:
        layers_json: The network as a bundle has it; its bits do not matter.
        shapes: Layers in the order of policies.
        hardware: The machine.
        pipeline: "stationary" or "pipelined".
        duplication: How copies of layers are chosen; None: as the compiler does.
        with_energy: Whether energies are asked for.

    Raises:
        ValueError: If the network has other crossbar layers, or the machine cannot have it compiled.

    Example:
        >>> prices = ProgramPrices(text, shapes, cimq.resolve("paper"), "pipelined")  # doctest: +SKIP
        >>> prices.time_ps(((8, 8), (4, 4)))  # doctest: +SKIP
        224000
    """

    sums = False

    def __init__(
        self,
        layers_json: str,
        shapes: Sequence[LayerShape],
        hardware: Hardware,
        pipeline: str,
        duplication: str | None = None,
        with_energy: bool = False,
    ) -> None:
        rule = duplication or ("any" if pipeline == PIPELINED else "none")  # as the compiler has it
        self._pipeline, self._rule = pipeline, rule
        self._programs = _C.PipelineCost(layers_json, hardware.to_json(), pipeline, rule)
        self._shapes, self._hardware = tuple(shapes), hardware
        names = [shape.name for shape in shapes]
        if sorted(self._programs.layers) != sorted(names):
            raise ValueError(
                f"search: pipeline {pipeline!r} compiles the crossbar layers {sorted(self._programs.layers)}, "
                f"the model has {sorted(names)}"
            )
        self._order = [names.index(name) for name in self._programs.layers]
        self._with_energy = with_energy
        self._known: dict[Pairs, tuple[int, int, str]] = {}
        # Shares come near to costs anyway: they are had without what makes the machine slow to simulate.
        self._around = self._programs
        if not self._programs.fast:
            warnings.warn(
                f"search: {hardware.name} describes a bus, a vector unit or a buffer: every policy is compiled and "
                f"simulated for pipeline={pipeline!r}, which takes a fraction of a second to seconds each",
                CimqWarning,
                stacklevel=4,
            )
            self._around = _C.PipelineCost(layers_json, _without_moving(hardware).to_json(), pipeline, rule)
        if with_energy:
            check_energy(self.energy_fj(((MAX_BITS, MAX_BITS),) * len(names)), hardware)
        places = {place: layer for layer, place in enumerate(self._order)}
        self._kinds = [self._programs.kinds(places[layer], with_energy) for layer in range(len(names))]

    @classmethod
    def of_model(
        cls,
        prepared: nn.Module,
        sample: object,
        shapes: Sequence[LayerShape],
        hardware: Hardware,
        pipeline: str,
        duplication: str | None,
        with_energy: bool,
    ) -> ProgramPrices:
        """Of a prepared and calibrated model, whose network is the one that `cimq.export` writes.

        Args:
            prepared: Is not changed.
            sample: Inputs of a batch, float32 [N, ...].

        Raises:
            ValueError: If the model cannot be exported; says why.
        """
        if not isinstance(sample, torch.Tensor):
            raise ValueError(
                f"search: pipeline {pipeline!r} needs the network as cimq.export writes it, which takes one tensor; "
                f"the batches have {type(sample).__name__} as inputs"
            )
        try:
            network = network_of(prepared, sample)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"search: pipeline {pipeline!r} needs the network as cimq.export writes it: {error}"
            ) from None
        return cls(network.layers_json(), shapes, hardware, pipeline, duplication, with_energy)

    def time_ps(self, pairs: Pairs) -> int:
        """Of one inference, as `cimq compile --pipeline` has it."""
        return self._cost(pairs)[0]

    def energy_fj(self, pairs: Pairs) -> int:
        """Of one inference, the same."""
        return self._cost(pairs)[1]

    def costs(self, pairs: Pairs) -> ProgramCosts:
        """All that is known of a policy."""
        eight = ((MAX_BITS, MAX_BITS),) * len(pairs)
        times = [self.time_ps(policy) / _PS_PER_US for policy in (pairs, eight)]
        energies: list[float | None] = [None, None]
        if self._with_energy:
            energies = [self.energy_fj(policy) / _FJ_PER_PJ for policy in (pairs, eight)]
        return ProgramCosts(self._pipeline, self._rule, self._cost(pairs)[2], *times, *energies)

    def shares(self, parts: Sequence[Part], counted: str) -> list[Shares]:
        """What comes near to costs of programs where it is added up, see `fitted_shares`."""
        terms = [self._terms(layers, options, counted) for layers, options in parts]
        place = 0 if counted == "time" else 1
        return fitted_shares(parts, terms, lambda policy: self._approximate(policy)[place])

    def _terms(self, layers: Sequence[int], options: Sequence[Row], counted: str) -> Terms:
        """The closed form of some layers; of it what writing takes, and what a crossbar takes for its input vectors."""
        text = self._hardware.to_json()
        found: Terms = {}
        for pair in options:
            tuples, bits = [as_tuple(self._shapes[layer]) for layer in layers], [pair] * len(layers)
            if counted == "energy":
                energies = _C.energy_layers(text, tuples, bits)
                found[pair] = (float(sum(map(sum, energies))), float(sum(energy[0] for energy in energies)))
            else:
                times = _C.tier1_layers(text, tuples, bits)
                writing, reading = sum(time[3] for time in times), sum(time[4] for time in times)
                vectors = sum(time[4] / time[0] for time in times)
                found[pair] = (float(writing + reading), float(writing), float(vectors))
        return found

    def kinds(self, layers: Sequence[int], rows: Sequence[Row]) -> dict[Row, Any] | None:
        """Only what programs cannot tell apart costs the same in every policy."""
        return {row: tuple(self._kind(layer, row) for layer in layers) for row in rows}

    def _kind(self, layer: int, pair: Row) -> int:
        kind: int = self._kinds[layer][pair[0] - 1][pair[1] - 1]
        return kind

    def _cost(self, pairs: Pairs) -> tuple[int, int, str]:
        known = self._known.get(pairs)
        if known is None:
            time, energy, chosen = self._programs.cost([pairs[layer] for layer in self._order])
            known = (time, energy or 0, chosen)
            if len(self._known) < _MOST_KEPT:
                self._known[pairs] = known
        return known

    def _approximate(self, pairs: Pairs) -> tuple[int, int]:
        if self._around is self._programs:
            return self._cost(pairs)[:2]
        time, energy, _ = self._around.cost([pairs[layer] for layer in self._order])
        return time, energy or 0


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """One inference of a policy's program.

    Attributes:
        pipeline: What it is compiled by.
        duplication: The rule by which copies of layers are chosen.
        chosen: What the pipeline "pipelined" takes, in words; else empty.
        time_us: As `cimq compile --pipeline` says.
        uniform8_time_us: That of 8 bits everywhere, by the same.
        energy_pj: The same of energy; None where the objective does not count it.
        uniform8_energy_pj: Likewise.
    """

    pipeline: str
    duplication: str
    chosen: str
    time_us: float
    uniform8_time_us: float
    energy_pj: float | None
    uniform8_energy_pj: float | None

    @property
    def speedup(self) -> float:
        """Time of 8 bits everywhere over that of the policy."""
        return self.uniform8_time_us / self.time_us

    @property
    def saving(self) -> float:
        """The same of energy; 1 where it is not counted."""
        if self.energy_pj is None or self.uniform8_energy_pj is None:
            return 1.0
        return self.uniform8_energy_pj / self.energy_pj

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def _without_moving(hardware: Hardware) -> Hardware:
    return hardware.replace(
        timing={"vector_time_us": None},
        resources={"bus_bytes_per_us": None, "buffer_bytes": None, "vector_lanes": None},
    )
