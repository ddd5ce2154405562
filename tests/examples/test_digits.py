"""examples/digits.py end to end with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scripts import load_script
from torch.utils.data import DataLoader

import cimq

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits.py"
TINY = ["--evaluations", "8", "--epochs", "3", "--finetune-epochs", "1", "--width", "8", "--max-accuracy-drop", "0.2"]


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    pytest.importorskip("sklearn")
    return load_script(SCRIPT, "digits_example")


def test_sets_are_disjoint_seeded_and_complete(digits: ModuleType) -> None:
    sets = digits.digit_sets(0)
    again = digits.digit_sets(0)
    assert [len(data) for data in sets.values()] == [1077, 360, 360]
    rows = {name: {x.numpy().tobytes() for x in data.tensors[0]} for name, data in sets.items()}
    assert not rows["test"] & (rows["train"] | rows["val"])
    for name, data in sets.items():
        assert torch.equal(data.tensors[0], again[name].tensors[0])
        shares = np.bincount(data.tensors[1].numpy(), minlength=10) / len(data)
        assert shares == pytest.approx(0.1, abs=0.01)


def test_whole_chain_and_again_into_the_same_folder(
    digits: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    digits.main([*TINY, "--out", str(out)])
    printed = capsys.readouterr().out
    assert f"look at {out / 'report.html'}" in printed
    result = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["fp32", "uniform 8-bit", "uniform 4-bit", "found policy"]
    assert result["evaluations"] == len((out / "evaluations.jsonl").read_text().splitlines()) <= 8
    assert "all 6 crossbar layers" in result["checks"][0]
    assert result["command"].endswith(f"{' '.join(TINY)} --out {out}")
    page = (out / "report.html").read_text()
    for row in rows.values():
        assert row["name"] in page
        assert f"{100 * row['accuracy']:.2f}" in page

    bundle = cimq.load_bundle(out / "model.cimq")
    assert bundle.check().equal
    assert [list(pair) for pair in bundle.policy.pairs()] == rows["found policy"]["policy"]
    images, labels = digits.digit_sets(0)["test"].tensors
    accuracy = float((bundle.run(images).argmax(1) == labels).float().mean())
    assert accuracy == rows["found policy"]["accuracy"]
    assert cimq.latency(out / "model.cimq").time_us == pytest.approx(rows["found policy"]["time_us"], rel=1e-12)

    digits.main([*TINY, "--out", str(out)])
    timings = ("search_seconds", "plan")
    again = json.loads((out / "result.json").read_text())
    assert {k: v for k, v in again.items() if k not in timings} == {k: v for k, v in result.items() if k not in timings}


def test_a_wrong_value_of_the_executor_is_noticed(digits: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        prepared = cimq.prepare(digits.SmallNet(4), cimq.Policy.uniform(4, 4), example_inputs=images)
        models.append(prepared.eval())
    bundle = cimq.export(models[0], tmp_path / "net.cimq", sample_input=images)
    assert "all 6 crossbar layers" in digits.check_layers(bundle, models[0], images)[1][0]
    with pytest.raises(SystemExit, match="disagree in stem"):
        digits.check_layers(bundle, models[1], images)


def test_one_policy_has_one_result(digits: ModuleType) -> None:
    """Whatever was trained before it, with a loader that shuffles by a generator of its own."""
    data = digits.digit_sets(0)["train"]
    loader = DataLoader(data, 64, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = digits.SmallNet(8).eval()
    cimq.reestimate_bn(model, loader)  # without statistics of its data nothing gets through an untrained network
    hardware, weights = cimq.Hardware.preset("paper"), []
    for bits in (4, 8, 4):
        trained = digits.train_with_policy(model, cimq.Policy.uniform(bits, bits), hardware, loader, 1, seed=0)
        weights.append(trained.state_dict())
    assert all(torch.equal(value, weights[2][key]) for key, value in weights[0].items())
    assert not torch.equal(weights[0]["stem.weight"], weights[1]["stem.weight"])
