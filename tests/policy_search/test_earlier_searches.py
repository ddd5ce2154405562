"""Searches of an earlier revision (tests/data/searches): resumed, they go on as they did then."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import cimq
from cimq.policy_search import STRATEGIES
from cimq.policy_search.evaluators.untrained import UntrainedAccuracy

sys.path.insert(0, str(Path(__file__).parent))
from small_search import run

EARLIER = Path(__file__).parents[1] / "data" / "searches"


def lines(strategy: str) -> list[str]:
    return (EARLIER / f"{strategy}.jsonl").read_text().splitlines(keepends=True)


def started(folder: Path, strategy: str, count: int) -> Path:
    """A folder as a search leaves it that was interrupted after `count` evaluations."""
    settings = json.loads((EARLIER / "search.json").read_text())
    settings |= {"strategy": strategy, "version": cimq.__version__}
    folder.mkdir()
    (folder / "search.json").write_text(json.dumps(settings))
    (folder / "evaluations.jsonl").write_text("".join(lines(strategy)[:count]))
    return folder


def parts(text: list[str]) -> tuple[list[Any], list[list[float]]]:
    """What must be equal, and numbers whose last digits a processor's arithmetic may decide."""
    entries = [json.loads(line) for line in text]
    exact = [{key: entry[key] for key in ("index", "policy", "strategy", "episode", "feasible")} for entry in entries]
    return exact, [[entry[key] for key in ("accuracy", "time_us", "speedup", "reward")] for entry in entries]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("count", [1, 9])
def test_it_goes_on_as_it_did(tmp_path: Path, strategy: str, count: int) -> None:
    folder = started(tmp_path / "run", strategy, count)
    run(folder, strategy, resume=True)
    found, wanted = parts((folder / "evaluations.jsonl").read_text().splitlines()), parts(lines(strategy))
    assert found[0] == wanted[0]
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_finished_search_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: UntrainedAccuracy, policies: list[Any]) -> list[float]:
        assert policies == []
        return []

    monkeypatch.setattr(UntrainedAccuracy, "measure", measure)
    folder = started(tmp_path / "run", "reinforce", 24)
    result = run(folder, "reinforce", resume=True)
    assert (folder / "evaluations.jsonl").read_text() == "".join(lines("reinforce"))
    assert len(result.evaluations) == 24
    assert result.policy.pairs() == [(4, 6), (4, 5), (8, 6)]
