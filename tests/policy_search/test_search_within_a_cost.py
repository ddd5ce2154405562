"""cimq.search(min_speedup=): the most accurate network within a cost, from the model to the report."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from small_searches import assert_same, rows, search, trained_network
from torch import nn

import cimq
from cimq import CimqWarning
from cimq.policy_search import STRATEGIES

WITHIN: dict[str, Any] = {"max_accuracy_drop": None, "min_speedup": 1.8}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


@pytest.fixture(scope="module")
def whole(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[cimq.SearchResult, Path]:
    folder = tmp_path_factory.mktemp("whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CimqWarning)
        return search(net, out=folder, evaluations=24, **WITHIN), folder


def test_the_result_is_within_the_budget_and_says_so(whole: tuple[cimq.SearchResult, Path]) -> None:
    result, folder = whole
    assert result.latency.speedup == result.gain >= 1.8
    assert (result.min_speedup, result.max_accuracy_drop, result.target_damage) == (1.8, None, None)
    within = [row for row in result.trained if row.speedup is not None and row.speedup >= 1.8]
    assert result.accuracy == max(row.accuracy for row in within if row.accuracy is not None)
    assert any(row.name.startswith("uniform") for row in within)
    assert len(result.finalists) == 2
    assert result.trained[0].name == "uniform 8-bit"
    assert all(e.feasible == (e.speedup >= 1.8) for e in result.evaluations)
    assert result.verdict.startswith(f"{result.gain:.3f} times as fast, at least 1.8 were asked for; drop ")
    assert result.satisfies(0.0)
    written = json.loads((folder / "result.json").read_text())
    assert (written["min_speedup"], written["max_accuracy_drop"]) == (1.8, None)
    assert result.plan is not None
    assert result.plan.costs is not None
    assert result.plan.costs.within_cost
    page = result.report(folder / "report.html").read_text()
    assert "at least 1.8 times as fast as uniform 8-bit" in page
    assert "within the budget" in page
    assert "within the target" not in page


@pytest.mark.parametrize("kept", [2, 9, 15])
def test_a_search_that_is_resumed_finds_the_same(
    net: nn.Module, whole: tuple[cimq.SearchResult, Path], tmp_path: Path, kept: int
) -> None:
    result, folder = whole
    for name in ("plan.json", "search.json", "shared.pt"):
        shutil.copy(folder / name, tmp_path / name)
    lines = (folder / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "evaluations.jsonl").write_text("".join(lines[:kept]))
    assert_same(search(net, out=tmp_path, evaluations=24, resume=True, **WITHIN), result)
    assert rows(tmp_path) == rows(folder)
    with pytest.raises(ValueError, match=r"other settings: min_speedup was 1.8, is 1.9"):
        search(net, out=tmp_path, evaluations=24, resume=True, **{**WITHIN, "min_speedup": 1.9})


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"auto", "thompson"}))
def test_every_strategy_stays_within(net: nn.Module, strategy: str) -> None:
    options = {"evaluations": 16, "shared_epochs": 0, "finetune_epochs": 0, "strategy": strategy, "finalists": 1}
    result = search(net, **{**options, **WITHIN, "min_speedup": 2.0})
    assert result.latency.speedup >= 2.0
    assert all(e.speedup >= 2.0 for e in result.evaluations if e.strategy != "baseline")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"min_speedup": 99.0}, ValueError, "min_speedup=99 is out of reach: the fastest policy has a speed-up of "),
        ({"min_speedup": 1.0}, ValueError, "min_speedup must be above 1, which 8 bits everywhere have, got 1.0"),
        ({"min_speedup": float("inf")}, ValueError, "min_speedup must be above 1"),
        ({"min_speedup": "2"}, TypeError, "min_speedup must be a number, got '2'"),
        ({"min_speedup": True}, TypeError, "min_speedup must be a number, got True"),
        ({"max_accuracy_drop": 0.01}, ValueError, "not both; got 0.01 and 1.8"),
        ({"first_last_bits": 8, "groups": [["0", "3", "5"]]}, ValueError, "there is nothing to choose"),
    ],
)
def test_errors(net: nn.Module, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        search(net, **{**WITHIN, **options})
    assert words in str(caught.value)
