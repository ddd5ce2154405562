"""Groups of fields of a machine's description beside its cells: converters, times, resources, energies, areas.

Units are in the field names; `cimq.hardware` checks what they hold.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Adc:
    """Analog-to-digital converter of a column (or pair of columns).

    Attributes:
        bits: Resolution, 1 to 16; None is an ideal converter.
        range: What lo..hi is: "full_scale", "granular", "calibrated" or "learned" (docs/numbers.md).
        placement: "differential" (a pair is subtracted before conversion) or "per_column"; matters to the
            mapping differential_column only.
        granularity: What has a range of its own where ranges come from data: a weight "slice", or every "column" (pair)
            of it. "column" needs range "calibrated" or "learned".
    """

    bits: int | None = None
    range: str = "full_scale"
    placement: str = "differential"
    granularity: str = "slice"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of single steps.

    Attributes:
        write_time_us: Programming one crossbar.
        mvm_time_us: One activation of one crossbar (one input digit).
        adc_time_us: One conversion. None: not described, takes no time.
        vector_time_us: One digital operation of one vector lane. None: not described, takes no time.
    """

    write_time_us: float = 56.0
    mvm_time_us: float = 1.4
    adc_time_us: float | None = None
    vector_time_us: float | None = None


@dataclasses.dataclass(frozen=True)
class Resources:
    """What the machine has; None is without limit. docs/machines.md says what each limits.

    The closed form looks at none of them; the time of a program (`cimq.compile(...).simulated`) at all.

    Attributes:
        crossbars: Crossbars of the machine.
        adcs_per_crossbar: Converters that the columns of a crossbar share. None: one for every line that is converted.
        parallel_writes: Crossbars that are written at once.
        buffer_bytes: Space for input vectors and sums in flight.
        bus_bytes_per_us: Input vectors moved to crossbars in a microsecond, and results moved back.
        vector_lanes: Digital operations at once.
    """

    crossbars: int | None = 1
    adcs_per_crossbar: int | None = None
    parallel_writes: int | None = None
    buffer_bytes: int | None = None
    bus_bytes_per_us: float | None = None
    vector_lanes: int | None = None


@dataclasses.dataclass(frozen=True)
class Energy:
    """Energy per event, for `cimq.energy`; what is None counts as 0."""

    write_energy_pj: float | None = None
    mvm_energy_pj: float | None = None
    adc_energy_pj: float | None = None
    dac_energy_pj: float | None = None
    digital_energy_pj: float | None = None
    buffer_energy_pj_per_byte: float | None = None
    bus_energy_pj_per_byte: float | None = None


@dataclasses.dataclass(frozen=True)
class Area:
    """Area per component, for `cimq.cost_model.machine_area`; what is None counts as 0.

    Attributes:
        crossbar_area_um2: The cells of one crossbar.
        adc_area_um2: One converter.
        dac_area_um2: The driver of one word line.
        sample_hold_area_um2: Sample-and-hold of one line that is converted.
        digital_area_um2: Shift-and-add of one crossbar.
        buffer_area_um2_per_byte: One byte of the buffer.
        bus_area_um2: A crossbar's share of bus and routers.
        vector_area_um2: One vector lane.
    """

    crossbar_area_um2: float | None = None
    adc_area_um2: float | None = None
    dac_area_um2: float | None = None
    sample_hold_area_um2: float | None = None
    digital_area_um2: float | None = None
    buffer_area_um2_per_byte: float | None = None
    bus_area_um2: float | None = None
    vector_area_um2: float | None = None
