"""Area and power of machines: the published tiles of ISAAC and PUMA, and what is refused.

Published: ISAAC, table I (Shafiee et al., ISCA 2016): a tile takes 330 mW and 0.372 mm2, 168 of them 62.5 mm2. PUMA,
Ankit et al., ASPLOS 2019: 373.8 mW and 0.479 mm2 (at second hand). docs/machines.md says what is counted and what the
fields of a description cannot say.
"""

from __future__ import annotations

import pytest

import cimq
from cimq.cost_model.machine_parts import busy_power, machine_area

UM2_PER_MM2 = 1e6
# crossbars, bytes of buffer, vector lanes of a tile; published mW and mm2; how far below them its parts may be
TILES = {
    "isaac": ((96, 65536 + 12 * 2304, None), (330.0, 0.372), (0.08, 0.01)),
    "puma": ((128, 65536 + 16 * 512, 8), (373.8, 0.479), (0.15, 0.22)),
}


@pytest.mark.parametrize("name", TILES)
def test_published_tiles_follow_from_their_parts(name: str) -> None:
    (crossbars, buffer_bytes, lanes), (power_mw, area_mm2), (power_bound, area_bound) = TILES[name]
    resources = {"crossbars": crossbars, "buffer_bytes": buffer_bytes, "vector_lanes": lanes}
    tile = cimq.Hardware.preset(name).replace(resources=resources)
    power, area = busy_power(tile), machine_area(tile)
    # Nothing is counted that is not there, so that both are below what is published.
    assert power_mw * (1 - power_bound) < power.total < power_mw
    assert area_mm2 * (1 - area_bound) < area.total / UM2_PER_MM2 < area_mm2
    assert max(power.parts, key=lambda part: power.parts[part]) == "adc"
    assert 0.5 < power.parts["adc"] / power_mw < 0.75  # ISAAC: 58 % of the power of a tile
    assert area.missing == (("vector",) if name == "isaac" else ())
    assert power.missing == (() if name == "isaac" else ("bus",))


@pytest.mark.parametrize("name", TILES)
def test_presets_are_so_many_tiles(name: str) -> None:
    (crossbars, buffer_bytes, lanes), _, _ = TILES[name]
    machine = cimq.Hardware.preset(name)
    tiles = machine.resources.crossbars // crossbars
    assert tiles == {"isaac": 168, "puma": 138}[name]
    assert machine.resources.buffer_bytes == tiles * buffer_bytes
    assert machine.resources.vector_lanes == (None if lanes is None else tiles * lanes)
    one = machine.replace(resources={"crossbars": crossbars, "buffer_bytes": buffer_bytes, "vector_lanes": lanes})
    assert machine_area(machine).total == pytest.approx(tiles * machine_area(one).total)
    for group in ("timing", "resources"):
        for key, value in vars(getattr(machine, group)).items():
            assert value is None or machine.source(f"{group}.{key}"), f"{group}.{key}"


@pytest.mark.parametrize("name", TILES)
def test_converters_keep_up_with_a_crossbar(name: str) -> None:
    machine = cimq.Hardware.preset(name)
    rounds = machine.cols / machine.resources.adcs_per_crossbar
    assert 0.99 < rounds * machine.timing.adc_time_us / machine.timing.mvm_time_us <= 1.0


def test_what_cannot_be_counted_is_refused() -> None:
    unlimited = cimq.Hardware(resources={"crossbars": None})
    with pytest.raises(ValueError, match="has crossbars without limit: give crossbars="):
        machine_area(unlimited)
    assert machine_area(unlimited, crossbars=3).total == 0.0
    assert len(machine_area(unlimited, crossbars=3).missing) == 8
    with pytest.raises(ValueError, match="crossbars must be an integer of at least 1, got 0"):
        busy_power("isaac", crossbars=0)
    with pytest.raises(ValueError, match="got True"):
        busy_power("isaac", crossbars=True)


def test_parts_as_plain_values() -> None:
    plain = machine_area("isaac", crossbars=2).to_dict()
    assert plain["crossbars"] == 2
    assert plain["parts"]["crossbar"] == 50.0
    assert plain["missing"] == ["vector"]
