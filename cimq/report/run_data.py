"""Reads what a search left in its folder, and checks it field by field."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cimq.hardware import Hardware

_SCHEMA = "cimq.result"
_MAJOR = "1"
_MAX_BYTES = 256 * 1024 * 1024
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """One line of the result table; None where a quantity does not apply or was not measured."""

    name: str
    accuracy: float | None
    time_us: float | None
    speedup: float | None
    policy: tuple[tuple[int, int], ...] | None


@dataclasses.dataclass(frozen=True)
class ResultLayer:
    """One quantised layer under the found policy; counts as in `cimq.cost_model.LayerLatency`."""

    name: str
    kind: str
    outputs: int
    inputs: int
    invocations: int
    repeats: int
    weight_bits: int
    act_bits: int
    tiles: int
    writes: int
    mvms: int
    time_us: float


@dataclasses.dataclass(frozen=True)
class ParetoPoint:
    """A policy that no other evaluated one beats in both accuracy and time."""

    index: int | None
    accuracy: float
    time_us: float
    speedup: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One line of evaluations.jsonl."""

    index: int
    strategy: str
    accuracy: float
    time_us: float
    speedup: float
    reward: float | None
    feasible: bool
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class RunData:
    """Everything that a report shows, checked.

    Attributes:
        folder: Where it was read from.
        model: Name of the model.
        hardware: The machine.
        strategy: Search strategy.
        seed: Seed of the search.
        max_accuracy_drop: Accuracy that the search may give up, in the unit of the accuracies.
        reference_accuracy: Accuracy that the drop is measured from.
        reference_time_us: Time of the reference policy.
        rows: The result table.
        layers: Quantised layers in module order.
        pareto: Pareto front of the evaluations.
        evaluations: Every evaluation in the order made.
        search_seconds: Wall time of the search.
        versions: Package -> version.
        measured_on: What the accuracies of the rows were measured on, if recorded.
        command: Command that repeats the run, if recorded.
        checks: Sentences about what was verified, if recorded.
        bundle: Contents of the bundle, if there is one.
    """

    folder: Path
    model: str
    hardware: Hardware
    strategy: str
    seed: int | None
    max_accuracy_drop: float | None
    reference_accuracy: float | None
    reference_time_us: float | None
    rows: tuple[ResultRow, ...]
    layers: tuple[ResultLayer, ...]
    pareto: tuple[ParetoPoint, ...]
    evaluations: tuple[Evaluation, ...]
    search_seconds: float | None
    versions: tuple[tuple[str, str], ...]
    measured_on: str | None
    command: str | None
    checks: tuple[str, ...]
    bundle: BundleData | None


@dataclasses.dataclass(frozen=True)
class BundleData:
    """What the report says about a bundle: its files and the instructions of its program."""

    name: str
    files: tuple[tuple[str, int], ...]
    instructions: tuple[tuple[str, int], ...]


class Fields:
    """A JSON object whose values are taken out with a check; errors name the file and the key."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a JSON object, got {_short(value)}")
        self._values = value
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        """A text."""
        return self._take(key, "a text", lambda value: value if isinstance(value, str) else None)

    def number(self, key: str) -> float:
        """A finite number."""
        return self._take(key, "a finite number", _finite)

    def count(self, key: str, least: int = 0) -> int:
        """An integer of at least `least`."""
        kind = f"an integer of at least {least}"
        return self._take(key, kind, lambda value: int(value) if _is_integer(value) and value >= least else None)

    def flag(self, key: str) -> bool:
        """true or false."""
        return self._take(key, "true or false", lambda value: value if isinstance(value, bool) else None)

    def items(self, key: str) -> list[Any]:
        """A list."""
        return self._take(key, "a list", lambda value: value if isinstance(value, list) else None)

    def fields(self, key: str) -> Fields:
        """An object inside this one."""
        return Fields(self._take(key, "an object", lambda value: value), f"{self.where}: {key}")

    def optional(self, key: str, take: Callable[[str], _T]) -> _T | None:
        """What `take` gives, or None if the key is missing or null."""
        return take(key) if self.has(key) else None

    def plain(self) -> dict[str, Any]:
        """The object itself."""
        return self._values

    def _take(self, key: str, kind: str, convert: Callable[[Any], _T | None]) -> _T:
        if key not in self._values:
            raise ValueError(f"{self.where}: {key!r} is missing, it must be {kind}")
        converted = convert(self._values[key])
        if converted is None:
            raise ValueError(f"{self.where}: {key!r} must be {kind}, got {_short(self._values[key])}")
        return converted


def load_run(folder: str | Path) -> RunData:
    """Reads result.json, evaluations.jsonl and, where present, the bundle of a run.

    Args:
        folder: Folder that `SearchResult.save` wrote.

    Returns:
        The checked contents.

    Raises:
        FileNotFoundError: If the folder, result.json or evaluations.jsonl is missing.
        ValueError: If a file is damaged or a value is impossible; names the file, the line or key, and what it got.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"report: there is no folder {folder}")
    result = Fields(_parse(_read(folder / "result.json"), folder / "result.json"), str(folder / "result.json"))
    _check_schema(result)
    reference = result.optional("reference", result.fields)
    rows = tuple(_row(Fields(row, f"{result.where}: rows[{i}]")) for i, row in enumerate(result.items("rows")))
    layers = tuple(_layer(Fields(row, f"{result.where}: layers[{i}]")) for i, row in enumerate(result.items("layers")))
    if not rows or not layers:
        raise ValueError(f"{result.where}: rows and layers must not be empty")
    for row in rows:
        if row.policy is not None and len(row.policy) != len(layers):
            raise ValueError(
                f"{result.where}: the policy of row {row.name!r} has {len(row.policy)} pairs for {len(layers)} layers"
            )
    versions = result.fields("versions").plain()
    checks = result.items("checks") if result.has("checks") else []
    return RunData(
        folder=folder,
        model=result.text("model"),
        hardware=_hardware(result),
        strategy=result.text("strategy"),
        seed=result.optional("seed", result.count),
        max_accuracy_drop=result.optional("max_accuracy_drop", result.number),
        reference_accuracy=reference.optional("accuracy", reference.number) if reference else None,
        reference_time_us=reference.optional("time_us", reference.number) if reference else None,
        rows=rows,
        layers=layers,
        pareto=_pareto(result),
        evaluations=_evaluations(folder / "evaluations.jsonl"),
        search_seconds=result.optional("search_seconds", result.number),
        versions=tuple((str(name), str(versions[name])) for name in sorted(versions)),
        measured_on=result.optional("measured_on", result.text),
        command=result.optional("command", result.text),
        checks=tuple(str(sentence) for sentence in checks),
        bundle=_bundle(folder, result.optional("bundle", result.text)),
    )


def _check_schema(result: Fields) -> None:
    schema, version = result.text("schema"), result.text("version")
    if schema != _SCHEMA:
        raise ValueError(f"{result.where}: schema must be {_SCHEMA!r}, got {schema!r}")
    if version.split(".")[0] != _MAJOR:
        raise ValueError(f"{result.where}: version {version!r} is not supported, this cimq reads {_MAJOR}.x")


def _hardware(result: Fields) -> Hardware:
    try:
        return Hardware.from_dict(result.fields("hardware").plain())
    except ValueError as error:
        raise ValueError(f"{result.where}: {error}") from None


def _row(row: Fields) -> ResultRow:
    policy = None
    if row.has("policy"):
        policy = tuple(_pair(pair, f"{row.where}: policy[{i}]") for i, pair in enumerate(row.items("policy")))
    return ResultRow(
        row.text("name"),
        row.optional("accuracy", row.number),
        row.optional("time_us", row.number),
        row.optional("speedup", row.number),
        policy,
    )


def _layer(row: Fields) -> ResultLayer:
    outputs, inputs, invocations, repeats = (row.count(k, 1) for k in ("outputs", "inputs", "invocations", "repeats"))
    weight_bits, act_bits = (_bits(row.count(k, 1), f"{row.where}: {k!r}") for k in ("weight_bits", "act_bits"))
    return ResultLayer(
        name=row.text("name"),
        kind=row.text("kind"),
        outputs=outputs,
        inputs=inputs,
        invocations=invocations,
        repeats=repeats,
        weight_bits=weight_bits,
        act_bits=act_bits,
        tiles=row.count("tiles", 1),
        writes=row.count("writes", 1),
        mvms=row.count("mvms", 1),
        time_us=row.number("time_us"),
    )


def _pareto(result: Fields) -> tuple[ParetoPoint, ...]:
    points = [Fields(point, f"{result.where}: pareto[{i}]") for i, point in enumerate(result.items("pareto"))]
    return tuple(
        ParetoPoint(p.optional("index", p.count), p.number("accuracy"), p.number("time_us"), p.number("speedup"))
        for p in points
    )


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    evaluations = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = Fields(_parse(line, f"{path}, line {number}"), f"{path}, line {number}")
        evaluations.append(
            Evaluation(
                fields.count("index"),
                fields.text("strategy"),
                fields.number("accuracy"),
                fields.number("time_us"),
                fields.number("speedup"),
                fields.optional("reward", fields.number),
                fields.flag("feasible"),
                fields.optional("seconds", fields.number),
            )
        )
    return tuple(evaluations)


def _bundle(folder: Path, named: str | None) -> BundleData | None:
    """The bundle that result.json names, or the only one in the folder."""
    if named is not None:
        path = folder / named
        if not path.is_dir():
            raise FileNotFoundError(f"report: result.json names the bundle {named!r}, but {path} is no folder")
    else:
        found = sorted(path for path in folder.glob("*.cimq") if path.is_dir())
        if len(found) != 1:
            return None
        path = found[0]
    files = tuple((file.name, file.stat().st_size) for file in sorted(path.iterdir()) if file.is_file())
    program = path / "program.jsonl"
    return BundleData(path.name, files, _instruction_counts(program) if program.is_file() else ())


def _instruction_counts(path: Path) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = Fields(_parse(line, f"{path}, line {number}"), f"{path}, line {number}")
        if fields.has("op"):
            counts[fields.text("op")] = counts.get(fields.text("op"), 0) + 1
    return tuple(counts.items())


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"report: {path} is missing; a finished search writes it (SearchResult.save)")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"report: {path} has {path.stat().st_size} bytes, more than the {_MAX_BYTES} that are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"report: {path} is not UTF-8 text ({error.reason} at byte {error.start})") from None


def _parse(text: str, where: Path | str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None


def _pair(value: Any, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(_is_integer(bits) for bits in value):
        raise ValueError(f"{where} must be a pair of bit widths, got {_short(value)}")
    return _bits(value[0], where), _bits(value[1], where)


def _bits(value: int, where: str) -> int:
    if not 1 <= value <= 8:
        raise ValueError(f"{where} must be 1 to 8 bits, got {value}")
    return value


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
