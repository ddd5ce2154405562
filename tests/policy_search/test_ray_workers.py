"""Workers on a Ray cluster of two nodes on this machine, one of which is lost in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_searches import assert_same, rows, search, trained_network

from cimq.policy_search.journal import Journal
from cimq.policy_search.workers.ray_cluster import RayActors

ray: Any = pytest.importorskip("ray", reason='Ray is not installed: pip install "cimq[ray]"')
cluster_utils: Any = pytest.importorskip("ray.cluster_utils")
# Of Ray itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Tip:FutureWarning"),
]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 1024 * 1024}


@pytest.fixture
def cluster() -> Iterator[Any]:
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_a_search_that_loses_a_node_finds_the_same(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add_node(**NODE)
    net = trained_network()
    alone = search(net, out=tmp_path / "alone")
    puts, nodes, lost = [], set(), []

    original_put, original_record, original_idle = ray.put, Journal.record, RayActors._idle

    def put(value: Any, **options: Any) -> Any:
        puts.append(value)
        return original_put(value, **options)

    def idle(self: RayActors) -> list[int]:
        nodes.add(len(self._actors) - len(self._starting))
        return original_idle(self)

    def record(self: Journal, evaluation: Any) -> None:
        original_record(self, evaluation)
        if evaluation.index == 8:
            lost.append(ray.available_resources().get("CPU", 0))
            cluster.remove_node(second, allow_graceful=False)

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(RayActors, "_idle", idle)
    monkeypatch.setattr(Journal, "record", record)
    together = search(net, out=tmp_path / "together", workers=cluster.address)
    assert len(puts) == 1  # model and data, once
    assert max(nodes) == 2  # both nodes had a worker
    assert lost == [0]
    assert rows(tmp_path / "together") == rows(tmp_path / "alone")
    assert_same(together, alone)
    assert not ray.is_initialized()  # the connection was the search's own


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConnectionError, match=f"no Ray cluster answers at '{address}'"):
        search(trained_network(), workers=address)
