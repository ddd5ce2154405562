"""The memory cell and the wires of an array: everything that makes conductances differ from what was programmed.

The models and their formulas are in docs/cells.md; the schema is csrc/common/hardware.cpp. Part of `cimq.Hardware`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cimq import _C
from cimq.preset_files import read_preset, with_base

Numbers = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Programming:
    """Variation that programming leaves in a cell. A model takes the fields named with it and no others.

    Attributes:
        model: "none", "gaussian", "proportional", "polynomial", "lognormal" or "table".
        sigma_levels: gaussian: standard deviation in level steps, 0 to 16.
        sigma_microsiemens: gaussian: the same in microsiemens.
        sigma_ratio: proportional: standard deviation divided by the conductance.
        sigma_ln: lognormal: standard deviation of the logarithm; the programmed conductance is the median.
        coefficients_microsiemens: polynomial: sigma in microsiemens = sum of c[i] * x^i, not below 0, where x is the
            conductance in microsiemens, or conductance / `reference_microsiemens` if that is given.
        reference_microsiemens: polynomial: see above.
        coefficients_levels: polynomial: sigma in level steps = sum of c[i] * level^i, not below 0.
        means_levels: table: mean per level, level steps above level 0; None: as programmed.
        sigmas_levels: table: standard deviation per level, level steps.
        means_microsiemens: table: mean per level in microsiemens; None: as programmed.
        sigmas_microsiemens: table: standard deviation per level in microsiemens.
    """

    model: str = "none"
    sigma_levels: float = 0.0
    sigma_microsiemens: float | None = None
    sigma_ratio: float | None = None
    sigma_ln: float | None = None
    coefficients_microsiemens: Numbers | None = None
    reference_microsiemens: float | None = None
    coefficients_levels: Numbers | None = None
    means_levels: Numbers | None = None
    sigmas_levels: Numbers | None = None
    means_microsiemens: Numbers | None = None
    sigmas_microsiemens: Numbers | None = None


@dataclasses.dataclass(frozen=True)
class ReadNoise:
    """Noise that is new at every access of a column.

    Attributes:
        model: "none", "constant" or "proportional".
        sigma_levels: constant: standard deviation of one cell in level steps, 0 to 16.
        sigma_microsiemens: constant: the same in microsiemens.
        sigma_ratio: proportional: standard deviation divided by the cell's conductance.
    """

    model: str = "none"
    sigma_levels: float = 0.0
    sigma_microsiemens: float | None = None
    sigma_ratio: float | None = None


@dataclasses.dataclass(frozen=True)
class StuckAt:
    """Shares of cells that, whatever is programmed, conduct what level 0 (HRS) or the top level (LRS) conducts."""

    hrs_rate: float = 0.0
    lrs_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class Drift:
    """Conductances at the time of reading: G(t) = G(t0) * (t / t0)^-nu.

    Attributes:
        nu: Mean exponent.
        nu_sigma: Standard deviation of the exponent from cell to cell.
        t0_s: Time after programming to which the programming model belongs, seconds.
        time_s: Time after programming at which the cells are read, seconds; at least `t0_s`.
    """

    nu: float = 0.0
    nu_sigma: float = 0.0
    t0_s: float = 1.0
    time_s: float = 1.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """Memory cell. Give the conductance window as g_min/g_max or as hrs/lrs, or leave it out.

    Without a window level 0 conducts nothing and everything is in level steps. With one, level q conducts
    g_min + q * (g_max - g_min) / (2^cell_bits - 1). Effects act in this order: programming, stuck-at, drift, wires;
    read noise comes at every access.

    Attributes:
        g_min_microsiemens: Conductance of level 0.
        g_max_microsiemens: Conductance of the top level.
        hrs_ohm: The window as resistances: of level 0.
        lrs_ohm: Of the top level.
        programming: Variation that programming leaves.
        read: Noise of every access.
        stuck_at: Cells that cannot be programmed.
        drift: Change with time.

    Example:
        >>> Cell.preset("rram-wan2022").programming.model
        'polynomial'
    """

    g_min_microsiemens: float | None = None
    g_max_microsiemens: float | None = None
    hrs_ohm: float | None = None
    lrs_ohm: float | None = None
    programming: Programming = dataclasses.field(default_factory=Programming)
    read: ReadNoise = dataclasses.field(default_factory=ReadNoise)
    stuck_at: StuckAt = dataclasses.field(default_factory=StuckAt)
    drift: Drift = dataclasses.field(default_factory=Drift)

    @staticmethod
    def preset(name: str) -> Cell:
        """The cell of a hardware preset, for another machine: `hardware.replace(cell=Cell.preset("pcm-joshi2020"))`.

        Raises:
            ValueError: If there is no such preset; names the nearest.
        """
        machine = _C.canonical_hardware(json.dumps(with_base(read_preset(name))))
        return cell_from_plain(json.loads(machine)["cell"])


@dataclasses.dataclass(frozen=True)
class Wires:
    """Resistance of the lines of an array; needs the conductance window.

    Attributes:
        word_line_ohm: The piece of word line between neighbouring cells.
        bit_line_ohm: The piece of bit line between neighbouring cells.
        mean_activity: Share of the other rows whose cells conduct while a row is read: 1 if word lines of digit 0 are
            held at ground, less if their cells are cut off (a selected transistor per cell).
    """

    word_line_ohm: float = 0.0
    bit_line_ohm: float = 0.0
    mean_activity: float = 1.0


def cell_from_plain(value: Mapping[str, Any]) -> Cell:
    """The Cell of a complete nested mapping."""
    programming: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in value["programming"].items()
    }
    groups: dict[str, Any] = {
        "programming": Programming(**programming),
        "read": ReadNoise(**value["read"]),
        "stuck_at": StuckAt(**value["stuck_at"]),
        "drift": Drift(**value["drift"]),
    }
    return Cell(**{**value, **groups})
