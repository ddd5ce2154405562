"""The page: every case has a row, whatever became of it; what was not run is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda_static
import pytest
from _claims import CUDA_CLAIMS, EAGER_STEP
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, Outcome, Record
from _static import FLOORS, KERNELS, SHEETS, Static, kernels_without_case
from _table import claims_of, markdown_table, page
from _times import PEAKS

PEAK_VALUES = {"bytes": 1e12, "int8": 1e14, "float32": 2e13, "float64": 1e13}


def case(name: str, **values: Any) -> dict[str, Any]:
    return {"case": name, "operator": name.split(":")[0], "kernels": [], "shape": "4x4", "bytes": 1_000_000,
            "operations": {}, **values}  # fmt: skip


CASES = [
    case("timed", operations={"int8": 1_000_000_000}),
    case("of memory", operations={"float32": 1_000_000}),
    case("wrong"),
    case("refused: a"),
    case("late"),
    case("never begun"),
]
LISTED = {"cases": CASES, "without_case": ["an_operator", "another"]}


def record_of(tmp_path: Path, **environment: str) -> Record:
    return Record(tmp_path / "found.json", environment, "python benchmarks/cuda/run.py", resume=False)


def measured(tmp_path: Path) -> Record:
    record = record_of(tmp_path, chip="NVIDIA H200", torch="2.11.0")
    record.put("time", PEAKS, Outcome(DONE, values=PEAK_VALUES), 1.0)
    record.put("time", "timed", Outcome(DONE, values={"median": 25e-6}), 1.0)
    record.put("time", "of memory", Outcome(DONE, values={"median": 1.5e-6}), 1.0)
    record.put("time", "wrong", Outcome(FAILED, "result 0: 3 of 16 values differ"), 1.0)
    record.put("time", "refused: a", Outcome(ABSENT, "no kernel: x has no CUDA kernel", {"no_kernel": True}), 1.0)
    record.put("time", "late", Outcome(OUT_OF_TIME, "0 s were left, it needs 5"), 0.0)
    return record


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def test_a_row_per_case_with_floor_time_and_ratio(tmp_path: Path) -> None:
    text = page(measured(tmp_path), "On a chip", LISTED, {}, {}, {})
    found = rows(text)
    # 1e9 operations at 1e14 a second are 10 us, 1 MB at 1e12 bytes a second 1 us.
    assert found["timed"] == ["4x4", "1", "1 int8", "10.0", "int8", "25.0", "2.50"]
    assert found["of memory"] == ["4x4", "1", "0.001 float32", "1.0", "memory", "1.5", "1.50"]
    assert found["wrong"][-2:] == ["failed", "-"]
    assert found["refused: a"][-2:] == ["no kernel", "-"]
    assert found["late"][-2:] == ["out of time", "-"]
    assert found["never begun"][-2:] == ["not run", "-"]
    assert "Operators without a case: an_operator, another." in text
    assert "Operators without a kernel for this device: refused." in text
    assert "copy 1000 GB/s read and written; plain products of int8 100, float32 20.0, float64 10.0 tera" in text
    assert text.startswith("# On a chip\n\n    python benchmarks/cuda/run.py\n")
    assert "chip NVIDIA H200, torch 2.11.0." in text


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (["1980 MHz, 3201 MHz", "1830 MHz, 3201 MHz"], "read after each case: 1830 to 1980 MHz."),
        (["not known: no nvidia-smi"], "Clocks: not known: no nvidia-smi."),
        ([], "Operators without a kernel"),
    ],
)
def test_clocks_are_noted(tmp_path: Path, read: list[str], said: str) -> None:
    record = measured(tmp_path)
    for number, clocks in enumerate(read):
        record.put("time", f"case {number}", Outcome(DONE, values={"median": 1.0, "clocks": clocks}), 1.0)
    text = page(record, "t", LISTED, {}, {}, {})
    assert said in text
    assert ("lock" in text) is bool(read)


def test_without_peaks_there_is_no_floor_and_no_ratio(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    record.put("time", "timed", Outcome(DONE, values={"median": 25e-6}), 1.0)
    assert rows(page(record, "t", LISTED, {}, {}, {}))["timed"][-4:] == ["-", "-", "25.0", "-"]


def test_what_was_run_and_what_was_not(tmp_path: Path) -> None:
    found = rows(page(measured(tmp_path), "t", LISTED, {}, {}, {}))
    assert found["time"][:2] == ["3 of 6 parts done", "4 s"] or found["time"][:2] == ["3 of 6 parts done", "5 s"]
    assert found["time: wrong"] == ["failed", "1 s", "result 0: 3 of 16 values differ"]
    assert found["time: 1 parts"][0] in ("no kernel", "out of time")
    assert "time: timed" not in found


def test_claims_are_those_of_a_device(tmp_path: Path) -> None:
    record = measured(tmp_path)
    assert claims_of(record) == CUDA_CLAIMS
    assert claims_of(record_of(tmp_path)) == {}
    text = page(record, "t", LISTED, CUDA_CLAIMS, {EAGER_STEP: 1.2}, {})
    assert rows(text)[EAGER_STEP] == ["at most 1.30x", "1.20x", "met"]
    assert text.count("not measured") == len(CUDA_CLAIMS) - 1


def test_a_list_that_could_not_be_had_leaves_the_rest(tmp_path: Path) -> None:
    text = page(measured(tmp_path), "t", {}, CUDA_CLAIMS, {}, {})
    assert "## Times" in text
    assert "time: wrong" in text


def kernel_row(chip: str, **values: Any) -> dict[str, Any]:
    return {"kernel": "k<1>", "architecture": chip, "registers": 32, "shared_bytes": 64, "stack_bytes": 0,
            "spill_bytes": 0, "occupancy": 1.0, "instructions": 100, "matrix_instructions": 16} | values  # fmt: skip


def test_the_static_page(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    kernels = [
        kernel_row("sm_120", registers=40, occupancy=0.5, matrix_instructions=128),
        kernel_row("sm_80", spill_bytes=8),
    ]
    record.put("static", KERNELS, Outcome(DONE, values={"kernels": kernels}), 1.0)
    record.put("static", FLOORS, Outcome(DONE), 1.0)
    text = page(record, "t", LISTED, {}, {}, {})
    assert rows(text)["k<1>"] == ["32, 100%", "40, 50%", "64", "8", "16 / 128"]
    a100, *_ = SHEETS.values()
    floor = max(1e6 / a100.bytes_per_s, 1e9 / a100.int8) * 1e6
    assert rows(text)["timed"][4] == f"{floor:.1f}"
    assert rows(text)["of memory"][4].endswith(" m")
    assert "Not a measurement." in text
    assert "## Times" not in text


def test_kernels_that_no_case_names_are_said() -> None:
    named = [{"kernels": [name]} for name in cuda_static.LAUNCHES]
    assert kernels_without_case(named) == []
    assert kernels_without_case(named[1:]) == [next(iter(cuda_static.LAUNCHES))]


def test_every_architecture_has_a_chip() -> None:
    assert SHEETS.keys() == cuda_static.CHIPS.keys()


def test_static_without_nvcc_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    part = next(Static(tmp_path, lambda limit: LISTED).parts())
    outcome = part.run(100)
    assert (outcome.status, "needs nvcc (CUDA toolkit 13) and cmake" in outcome.note) == (ABSENT, True)


def test_cells_keep_to_their_line() -> None:
    assert markdown_table(["a"], [["one\ntwo | three"]]) == ["| a |", "| --- |", "| one two \\| three |"]
