"""Shared weights of one search serve another, on another machine; what is none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import search, trained_network
from torch import nn

import cimq
from cimq.policy_search import workbench


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


def never(*args: Any, **options: Any) -> None:
    raise AssertionError("the shared weights were trained again")


def test_a_later_search_takes_them_in_place_of_training(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(net, out=tmp_path / "first", shared_epochs=1)
    monkeypatch.setattr(workbench, "train_any_bits", never)
    again = search(net, shared_epochs=None, shared_weights=tmp_path / "first" / "shared.pt")
    assert [e.damage for e in again.evaluations] == [e.damage for e in first.evaluations]
    assert again.policy == first.policy
    assert again.accuracy == first.accuracy
    # Control: without them, candidates are measured with the weights of the model.
    plain = search(net, shared_epochs=0)
    assert plain.evaluations[0].damage != first.evaluations[0].damage

    larger = cimq.Hardware(rows=32, cols=24)
    other = search(net, shared_epochs=None, shared_weights=tmp_path / "first" / "shared.pt", hardware=larger)
    assert other.latency.hardware == larger
    same = {e.policy: e.damage for e in other.evaluations}  # what is lost does not depend on the size of crossbars
    met = [e for e in first.evaluations if e.policy in same]
    assert met
    assert all(same[e.policy] == e.damage for e in met)


def test_what_is_none_is_refused(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shared_weights must be the shared\.pt of an earlier search, got"):
        search(net, shared_epochs=None, shared_weights=tmp_path / "missing.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is no checkpoint of finetune"):
        search(net, shared_epochs=None, shared_weights=tmp_path / "other.pt")
    with pytest.raises(ValueError, match="shared_weights are not trained further, got shared_epochs=2"):
        search(net, shared_weights=tmp_path / "other.pt", shared_epochs=2)
