"""Reads what a search left in its folder, and checks it field by field."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cimq.hardware import Hardware
from cimq.policy_rows import AS_THE_MACHINE, LayerMachine
from cimq.report.fields import Fields, Policy, parse, read, read_bits, read_machine, read_policy
from cimq.report.trained import Trust, read_trust

_SCHEMA = "cimq.result"
_MAJOR = "1"


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """One line of the result table; None where a quantity does not apply or was not measured."""

    name: str
    accuracy: float | None
    time_us: float | None
    speedup: float | None
    policy: Policy | None


@dataclasses.dataclass(frozen=True)
class ResultLayer:
    """One quantised layer under the found policy; counts, and what it has otherwise than the machine, as in
    `cimq.cost_model.LayerLatency`."""

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
    machine: LayerMachine = AS_THE_MACHINE


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
    policy: Policy
    strategy: str
    accuracy: float
    time_us: float
    speedup: float
    reward: float | None
    feasible: bool
    seconds: float | None
    damage: float | None = None


@dataclasses.dataclass(frozen=True)
class RunData:
    """Everything that a report shows, checked.

    Attributes:
        folder: Where it was read from.
        model: Name of the model.
        hardware: The machine.
        strategy: Search strategy.
        seed: Seed of the search.
        max_accuracy_drop: Accuracy that the search may give up, in the unit of the accuracies; None where the cost was
            bounded instead.
        search_limit: Accuracy that an evaluation had to reach.
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
        trust: What was trained, and how far the result can be trusted.
        objective: What the search made small.
        energy: (picojoules of the found policy, how much less that is than of uniform 8-bit) where that was counted.
        interrupted: Whether the search was, so that this is the best so far.
        min_speedup: What the cost of uniform 8-bit over that of the found policy had to be at least; None where the
            accuracy was bounded.
        pipeline: Of the programs whose times are shown; "closed_form" for those of the latency model.
    """

    folder: Path
    model: str
    hardware: Hardware
    strategy: str
    seed: int | None
    max_accuracy_drop: float | None
    search_limit: float | None
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
    trust: Trust = dataclasses.field(default_factory=Trust)
    objective: str = "latency"
    energy: tuple[float, float] | None = None
    interrupted: bool = False
    min_speedup: float | None = None
    pipeline: str = "closed_form"

    @property
    def least_speedup(self) -> float | None:
        """`min_speedup` where it is one, and not a saving of energy."""
        return self.min_speedup if self.objective == "latency" else None

    @property
    def ranked_by_damage(self) -> bool:
        """Whether evaluations are feasible by their damage; by their accuracy in runs of earlier versions."""
        return all(evaluation.damage is not None for evaluation in self.evaluations)


@dataclasses.dataclass(frozen=True)
class BundleData:
    """What the report says about a bundle: its files and the instructions of its program."""

    name: str
    files: tuple[tuple[str, int], ...]
    instructions: tuple[tuple[str, int], ...]


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
    result = Fields(parse(read(folder / "result.json"), folder / "result.json"), str(folder / "result.json"))
    _check_schema(result)
    reference = result.optional("reference", result.fields)
    evaluations = _evaluations(folder / "evaluations.jsonl")
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
        search_limit=_search_limit(result, reference, evaluations),
        reference_accuracy=reference.optional("accuracy", reference.number) if reference else None,
        reference_time_us=reference.optional("time_us", reference.number) if reference else None,
        rows=rows,
        layers=layers,
        pareto=_pareto(result),
        evaluations=evaluations,
        search_seconds=result.optional("search_seconds", result.number),
        versions=tuple((str(name), str(versions[name])) for name in sorted(versions)),
        measured_on=result.optional("measured_on", result.text),
        command=result.optional("command", result.text),
        checks=tuple(str(sentence) for sentence in checks),
        bundle=_bundle(folder, result.optional("bundle", result.text)),
        trust=read_trust(result),
        objective=result.optional("objective", result.text) or "latency",
        energy=_energy(result),
        interrupted=result.optional("interrupted", result.flag) or False,
        min_speedup=result.optional("min_speedup", result.number),
        pipeline=result.optional("pipeline", result.text) or "closed_form",
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
    return ResultRow(
        row.text("name"),
        row.optional("accuracy", row.number),
        row.optional("time_us", row.number),
        row.optional("speedup", row.number),
        read_policy(row) if row.has("policy") else None,
    )


def _layer(row: Fields) -> ResultLayer:
    outputs, inputs, invocations, repeats = (row.count(k, 1) for k in ("outputs", "inputs", "invocations", "repeats"))
    weight_bits, act_bits = (read_bits(row.count(k, 1), f"{row.where}: {k!r}") for k in ("weight_bits", "act_bits"))
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
        machine=read_machine([row.plain().get(key) for key in LayerMachine._fields], row.where),
    )


def _energy(result: Fields) -> tuple[float, float] | None:
    energy = result.optional("energy", result.fields)
    return None if energy is None else (energy.number("energy_pj"), energy.number("saving"))


def _pareto(result: Fields) -> tuple[ParetoPoint, ...]:
    points = [Fields(point, f"{result.where}: pareto[{i}]") for i, point in enumerate(result.items("pareto"))]
    return tuple(
        ParetoPoint(p.optional("index", p.count), p.number("accuracy"), p.number("time_us"), p.number("speedup"))
        for p in points
    )


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    evaluations = []
    for number, line in enumerate(read(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = Fields(parse(line, f"{path}, line {number}"), f"{path}, line {number}")
        evaluations.append(
            Evaluation(
                fields.count("index"),
                read_policy(fields),
                fields.text("strategy"),
                fields.number("accuracy"),
                fields.number("time_us"),
                fields.number("speedup"),
                fields.optional("reward", fields.number),
                fields.flag("feasible"),
                fields.optional("seconds", fields.number),
                fields.optional("damage", fields.number),
            )
        )
    return tuple(evaluations)


def _search_limit(result: Fields, reference: Fields | None, evaluations: tuple[Evaluation, ...]) -> float | None:
    """Accuracy that separates feasible evaluations from the others: the constraint itself.

    None for a search that went by damage (`target_damage`), and one that allowed another drop before training
    (`search_tolerance`, of earlier versions) counts it from its own measurement of 8 bits everywhere.
    """
    if result.has("target_damage"):
        return None
    if result.has("search_tolerance"):
        uniform8 = [e for e in evaluations if all(pair == (8, 8) for pair in e.policy)]
        return uniform8[0].accuracy - result.number("search_tolerance") if uniform8 else None
    if reference is None or not reference.has("accuracy") or not result.has("max_accuracy_drop"):
        return None
    return reference.number("accuracy") - result.number("max_accuracy_drop")


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
    for number, line in enumerate(read(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = Fields(parse(line, f"{path}, line {number}"), f"{path}, line {number}")
        if fields.has("op"):
            counts[fields.text("op")] = counts.get(fields.text("op"), 0) + 1
    return tuple(counts.items())
