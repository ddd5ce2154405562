"""What a report says about one layer: bits, share of the time, tiles."""

from __future__ import annotations

import dataclasses

from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware
from cimq.mapping import mapping_facts
from cimq.report.run_data import ResultLayer, RunData

# Beyond this many tiles in a direction the lines between them would be denser than the screen.
_MAX_LINES = 40
_MAX_SIDE = 132.0
_MAX_TILE = 30.0


@dataclasses.dataclass(frozen=True)
class TileMap:
    """Tiles of one matrix of a layer, drawn to scale.

    Attributes:
        row_tiles: Crossbars on top of each other (inputs).
        column_tiles: Crossbars side by side (outputs).
        used: Fraction of the crossbars' cells that hold weights.
        width: Of the drawing.
        height: Of the drawing.
        used_width: Of the part that holds weights.
        used_height: Of the part that holds weights.
        grid: SVG path of the lines between tiles; empty if they would be too dense.
    """

    row_tiles: int
    column_tiles: int
    used: float
    width: float
    height: float
    used_width: float
    used_height: float
    grid: str


@dataclasses.dataclass(frozen=True)
class LayerView:
    """One layer, with its parts of the network's time (fractions of 1)."""

    layer: ResultLayer
    share: float
    write_share: float
    mvm_share: float
    write_bar: float
    mvm_bar: float
    tile_map: TileMap


def layer_views(run: RunData) -> list[LayerView]:
    """Views of all layers in module order.

    Raises:
        ValueError: If counts and times in result.json contradict each other or the hardware; names the layer.
    """
    timing = run.hardware.timing
    parts = [(layer.writes * timing.write_time_us, layer.mvms * timing.mvm_time_us) for layer in run.layers]
    for layer, (write, mvm) in zip(run.layers, parts, strict=True):
        if abs(write + mvm - layer.time_us) > 1e-6 * max(layer.time_us, 1.0):
            raise ValueError(
                f"{run.folder / 'result.json'}: layer {layer.name!r}: time_us is {layer.time_us}, but its "
                f"{layer.writes} writes and {layer.mvms} MVMs take {write + mvm} us on this hardware"
            )
    total = sum(write + mvm for write, mvm in parts) or 1.0
    longest = max(write + mvm for write, mvm in parts) or 1.0
    return [
        LayerView(
            layer,
            (write + mvm) / total,
            write / total,
            mvm / total,
            write / longest,
            mvm / longest,
            tile_map(layer, run.hardware, f"{run.folder / 'result.json'}: layer {layer.name!r}"),
        )
        for layer, (write, mvm) in zip(run.layers, parts, strict=True)
    ]


def tile_map(layer: ResultLayer, hardware: Hardware, where: str) -> TileMap:
    """How the matrix of a layer lies in crossbars.

    Args:
        layer: The layer.
        hardware: The machine of the network.
        where: How an error calls the layer.

    Raises:
        ValueError: If the number of tiles is not that of the layer.
    """
    hardware = layer_hardware(hardware, layer.machine, layer.name)
    slices = hardware.weight_slices(layer.weight_bits)
    facts = mapping_facts(hardware)
    rows, columns = facts.rows(layer.inputs), facts.columns(layer.outputs, slices)
    row_tiles, column_tiles = -(-rows // hardware.rows), -(-columns // hardware.cols)
    if row_tiles * column_tiles != layer.tiles:
        raise ValueError(
            f"{where}: tiles is {layer.tiles}, but {rows} rows and {columns} columns in {hardware.rows} x "
            f"{hardware.cols} crossbars are {row_tiles} x {column_tiles} tiles"
        )
    aspect = hardware.rows / hardware.cols
    scale = min(_MAX_TILE, _MAX_SIDE / column_tiles, _MAX_SIDE / (row_tiles * aspect))
    # A row of very many tiles would vanish: every drawing is at least three units thick.
    width, height = max(scale * column_tiles, 3.0), max(scale * aspect * row_tiles, 3.0)
    return TileMap(
        row_tiles,
        column_tiles,
        rows * columns / (layer.tiles * hardware.rows * hardware.cols),
        width,
        height,
        width * columns / (column_tiles * hardware.cols),
        height * rows / (row_tiles * hardware.rows),
        _grid(row_tiles, column_tiles, width, height),
    )


def _grid(row_tiles: int, column_tiles: int, width: float, height: float) -> str:
    lines = []
    if column_tiles <= _MAX_LINES:
        lines += [f"M{width * i / column_tiles:.2f} 0V{height:.2f}" for i in range(1, column_tiles)]
    if row_tiles <= _MAX_LINES:
        lines += [f"M0 {height * i / row_tiles:.2f}H{width:.2f}" for i in range(1, row_tiles)]
    return "".join(lines)
