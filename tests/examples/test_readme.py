"""What the documentation shows runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cimq.hardware import Hardware

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_python_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tour = blocks("README.md", "python")
    assert len(tour) == 2
    exec(compile("\n".join(tour), "README.md", "exec"), {})
    assert (tmp_path / "runs" / "tour" / "report.html").stat().st_size > 10_000


def test_python_of_the_training_guide_runs() -> None:
    torch.manual_seed(0)
    code = blocks("docs/training.md", "python")
    assert len(code) == 3
    exec(compile("\n".join(code), "docs/training.md", "exec"), {})


def test_hardware_example_is_a_hardware_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(blocks("README.md", "yaml")[0])
    hardware = Hardware.from_file(tmp_path / "mine.yaml")
    assert (hardware.rows, hardware.cols, hardware.adc.bits, hardware.cell.programming.model) == (
        128,
        256,
        8,
        "gaussian",
    )


@pytest.mark.parametrize("page", ["README.md", "docs/adding_an_op.md", "docs/report.md"])
def test_named_files_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [(ROOT / page).parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    paths = [
        ROOT / name for name in re.findall(r"(?:csrc|cimq|tests|benchmarks|examples)/[\w/.]+\.(?:h|cpp|py|md)", text)
    ]
    paths += links
    assert paths or page == "docs/report.md"
    missing = [str(path) for path in paths if "STEM" not in path.name and not path.exists()]
    assert not missing
