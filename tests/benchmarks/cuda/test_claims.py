"""What a run found of the claims: met where the number is on the right side of the bound, or why not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _amx import PART, STAGE, found_amx_claims, outcome_of
from _claims import (
    AMX_CLAIMS,
    AMX_MATMUL,
    AMX_NOISE,
    AMX_TABLES,
    BANDWIDTH_CASE,
    COMPILED_STEP,
    COPY_SHARE,
    CUDA_CLAIMS,
    EAGER_STEP,
    INT8_SHARE,
    OVER_LOOP,
    verdicts,
)
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, Outcome, Record
from _times import CLAIMED, COMPILED, EAGER, PEAKS, found_claims

# 16 plain products of 1e9 operations in 4 ms beside a plain one in 0.1 ms: 4e12 of 1e13 a second, 40 %.
CLAIMED_VALUES = {
    "operations": 16_000_000_000,
    "plain_operations": 1_000_000_000,
    "operator": {"median": 4e-3},
    "loop": {"median": 92e-3},
    "plain": {"median": 1e-4},
}
PEAK_VALUES = {"bytes": 2e12, "int8": 5e12, "float32": 1e12, "float64": 1e12}
CASES = {BANDWIDTH_CASE: {"bytes": 1_000_000_000}}


def record_with(tmp_path: Path, parts: dict[str, Outcome]) -> Record:
    record = Record(tmp_path / "found.json", {}, "", resume=False)
    for name, outcome in parts.items():
        record.put("time", name, outcome, 1.0)
    return record


def everything() -> dict[str, Outcome]:
    return {
        PEAKS: Outcome(DONE, values=dict(PEAK_VALUES)),
        CLAIMED: Outcome(DONE, values=dict(CLAIMED_VALUES)),
        BANDWIDTH_CASE: Outcome(DONE, values={"median": 1e-3}),
        EAGER: Outcome(DONE, values={"ratio": 1.25}),
        COMPILED: Outcome(DONE, values={"ratio": 1.31}),
    }


def test_all_claims_from_one_run(tmp_path: Path) -> None:
    found, _ = found_claims(record_with(tmp_path, everything()), CASES)
    assert found == pytest.approx(
        {INT8_SHARE: 0.40, OVER_LOOP: 23.0, COPY_SHARE: 0.5, EAGER_STEP: 1.25, COMPILED_STEP: 1.31}
    )
    rows = {row.claim: (row.asked, row.found, row.verdict) for row in verdicts(CUDA_CLAIMS, found, {})}
    assert rows == {
        INT8_SHARE: ("at least 35.0 %", "40.0 %", "met"),
        OVER_LOOP: ("at least 20.00x", "23.00x", "met"),
        COPY_SHARE: ("at least 80.0 %", "50.0 %", "not met"),
        EAGER_STEP: ("at most 1.30x", "1.25x", "met"),
        COMPILED_STEP: ("at most 1.30x", "1.31x", "not met"),
    }


def test_the_share_is_of_the_faster_plain_product(tmp_path: Path) -> None:
    parts = everything()
    parts[PEAKS] = Outcome(DONE, values=PEAK_VALUES | {"int8": 2e13})
    found, _ = found_claims(record_with(tmp_path, parts), CASES)
    assert found[INT8_SHARE] == pytest.approx(0.20)


@pytest.mark.parametrize(
    "outcome", [Outcome(FAILED, "12 values are wrong\nmore"), Outcome(OUT_OF_TIME, "2 s were left")]
)
def test_what_was_not_measured_says_why(tmp_path: Path, outcome: Outcome) -> None:
    parts = everything()
    parts[CLAIMED] = outcome
    del parts[EAGER]
    found, why = found_claims(record_with(tmp_path, parts), CASES)
    rows = {row.claim: row for row in verdicts(CUDA_CLAIMS, found, why)}
    for claim in (INT8_SHARE, OVER_LOOP):
        assert (rows[claim].verdict, rows[claim].found) == (
            "not measured",
            f"{outcome.status}: {outcome.note.split(chr(10))[0]}",
        )
    assert (rows[EAGER_STEP].verdict, rows[EAGER_STEP].found) == ("not measured", "not run")
    assert rows[COPY_SHARE].verdict == "not met"


@pytest.mark.parametrize(("claim", "asked"), (CUDA_CLAIMS | AMX_CLAIMS).items())
def test_a_claim_holds_at_its_bound_and_on_one_side(claim: str, asked: Any) -> None:
    better, worse = (1.01, 0.99) if asked.at_least else (0.99, 1.01)
    assert asked.holds(asked.bound), claim
    assert asked.holds(asked.bound * better)
    assert not asked.holds(asked.bound * worse)


def test_claims_of_amx(tmp_path: Path) -> None:
    printed = (
        'a line before\n{"layer": "a layer", "share_of_peak": 0.5, "over_tables": 2.5, "of_matmul": 2.6, '
        '"noisy_over_plain": 1.5}'
    )
    record = Record(tmp_path / "found.json", {}, "", resume=False)
    record.put(STAGE, PART, outcome_of(0, printed, ""), 1.0)
    found, why = found_amx_claims(record)
    assert found == {AMX_TABLES: 2.5, AMX_MATMUL: 2.6, AMX_NOISE: 1.5}
    assert [row.verdict for row in verdicts(AMX_CLAIMS, found, why)] == ["met", "not met", "met"]
    assert "50 % of the peak" in record.parts(STAGE)[PART]["note"]


def test_a_processor_without_amx(tmp_path: Path) -> None:
    outcome = outcome_of(0, '{"absent": "this processor has no amx"}', "")
    assert outcome == Outcome(ABSENT, "this processor has no amx")
    record = Record(tmp_path / "found.json", {}, "", resume=False)
    record.put(STAGE, PART, outcome, 1.0)
    found, why = found_amx_claims(record)
    assert not found
    assert why[AMX_NOISE] == "absent: this processor has no amx"
    assert outcome_of(1, "Traceback", "the end").status == FAILED
    assert outcome_of(None, "", "").status == OUT_OF_TIME
