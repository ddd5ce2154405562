"""cimq.doctor: planted faults are found by name, a healthy network has none."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_shapes, set_hardware


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.hidden = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        result: Tensor = self.fc(torch.relu(self.hidden(x)).mean((2, 3)))
        return result


def images() -> Tensor:
    return torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def prepared(hardware: Any = "paper", bits: dict[str, tuple[int, int]] | None = None) -> Any:
    policy = cimq.Policy(dict.fromkeys(("conv", "hidden", "fc"), (8, 8)) | (bits or {}))
    q = cimq.prepare(Net(), policy, hardware)
    cimq.calibrate(q, [images()])
    return q


def causes(found: Any) -> set[tuple[str, str]]:
    return {(finding.layer, finding.cause) for finding in found.findings}


def test_a_healthy_network_has_no_findings_and_is_left_alone() -> None:
    q = prepared().train()
    torch.manual_seed(9)
    state = {key: value.clone() for key, value in q.state_dict().items()}
    random = torch.get_rng_state()
    found = cimq.doctor(q, [images()])
    assert found.findings == []
    assert "nothing stands out" in str(found)
    assert found.output_sqnr_db > 25
    assert {row.layer for row in found.rows} == {"conv", "hidden", "fc"}
    assert all(row.adc_sqnr_db == row.cell_sqnr_db == math.inf for row in found.rows)
    assert [row.output_sqnr_db for row in found.rows] == sorted(row.output_sqnr_db for row in found.rows)
    assert q.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in q.state_dict().items())
    assert len(layer_shapes(q)) == 3


def test_weights_of_few_bits_are_named() -> None:
    found = cimq.doctor(prepared(bits={"hidden": (2, 8)}), [images()])
    assert causes(found) == {("hidden", "weight")}
    assert found.rows[0].layer == "hidden"
    assert found.rows[0].cause == "weight"
    assert "3 weight bits in the policy" in found.findings[0].text


def test_inputs_of_few_bits_are_named() -> None:
    found = cimq.doctor(prepared(bits={"hidden": (8, 1)}), [images()])
    assert causes(found) == {("hidden", "act")}


def test_a_scale_that_clips_inputs_is_named() -> None:
    q = prepared()
    with torch.no_grad():
        q.conv.act_scales.mul_(0.5)  # half of the uniform inputs lie beyond
    found = cimq.doctor(q, [images()])
    assert causes(found) == {("conv", "act")}
    clipped = next(row.clipped_inputs for row in found.rows if row.layer == "conv")
    assert 0.4 < clipped < 0.6


def test_coarse_converters_are_named() -> None:
    hardware = cimq.Hardware.preset("paper").replace(rows=64, adc={"bits": 4, "range": "full_scale"})
    found = cimq.doctor(prepared(hardware), [images()])
    assert ("hidden", "adc") in causes(found)
    text = next(finding.text for finding in found.findings if finding.layer == "hidden")
    assert "adc.bits: 5" in text
    assert "rows: 32" in text
    assert {row.layer for row in found.converters} == {"conv", "hidden", "fc"}
    shares = [sum(r.error_share for r in found.converters if r.layer == name) for name in ("conv", "hidden", "fc")]
    assert shares == pytest.approx([1.0, 1.0, 1.0])
    table = str(found).partition("converters:\n")[2].splitlines()
    assert table[0].split() == ["layer", "slice", "clip", "codes", "used", "share", "of", "the", "error"]
    assert {line.split()[0] for line in table[2:]} == {layer for layer, cause in causes(found) if cause == "adc"}
    assert all(row.cell_sqnr_db == math.inf for row in found.rows)


def test_noisy_cells_are_named() -> None:
    q = prepared()
    noise = {"programming": {"model": "gaussian", "sigma_levels": 3.0}}
    set_hardware(q, cimq.Hardware.preset("paper").replace(cell=noise))
    found = cimq.doctor(q, [images()])
    assert {cause for _, cause in causes(found)} == {"cell"}
    assert all(row.adc_sqnr_db == math.inf for row in found.rows)
    assert all(row.cell_sqnr_db < 40 for row in found.rows)


def test_attention_has_rows_of_its_products() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 6, 16)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return result

    q = cimq.prepare(Block(), cimq.Policy.uniform(8, 8), example_inputs=x)
    found = cimq.doctor(q, [x])
    assert len(found.rows) == 4
    assert all(row.sqnr_db > 20 for row in found.rows)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no quantised layers"):
        cimq.doctor(Net(), [images()])
    with pytest.raises(ValueError, match="doctor: not calibrated: conv, hidden, fc"):
        cimq.doctor(cimq.prepare(Net()), [images()])
    with pytest.raises(ValueError, match="doctor: the loader is empty"):
        cimq.doctor(prepared(), [])
    with pytest.raises(ValueError, match="batches must be at least 1"):
        cimq.doctor(prepared(), [images()], batches=0)


def test_command(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(
        "import torch\n"
        "def model():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))\n"
        "def data():\n    return [torch.rand(16, 8, generator=torch.Generator().manual_seed(0))]\n"
    )
    (tmp_path / "policy.json").write_text(json.dumps(cimq.Policy({"0": (8, 8), "2": (2, 8)}).to_dict()))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cimq", "doctor", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("--model", "my_net:model", "--data", "my_net:data", "--policy", "policy.json", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(entry["layer"], entry["cause"]) for entry in found["findings"]] == [("2", "weight")]
    assert found["rows"][0]["adc_sqnr_db"] is None
    wrong = run("--model", "my_net:modell", "--data", "my_net:data")
    assert wrong.returncode == 2
    assert wrong.stderr.strip().endswith("--model: module 'my_net' has no function 'modell'")


def test_command_on_a_converted_model(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(
        "import cimq, torch\n"
        "def plain():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))\n"
        "def data():\n    return [torch.rand(16, 8, generator=torch.Generator().manual_seed(0))]\n"
        "def model():\n    return cimq.convert(cimq.prepare(plain(), example_inputs=data()[0]))\n"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cimq", "doctor", "--model", "my_net:model", "--data", "my_net:data"]
        return subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    rows = json.loads(run("--json").stdout)["rows"]
    assert {row["layer"] for row in rows} == {"0", "2"}
    assert not any("weight_sqnr_db" in row for row in rows)
    done = run("--reference", "my_net:plain", "--json")
    assert done.returncode == 0, done.stderr
    assert all(row["weight_sqnr_db"] > 30 for row in json.loads(done.stdout)["rows"])
    wrong = run("--hardware", "paper")
    assert wrong.returncode == 2
    assert "--policy and --hardware are for a model that is not prepared" in wrong.stderr
