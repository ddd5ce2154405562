"""Commands run in this process, and a table of policies with what it costs, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cimq.cli import app


def cimq_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    """The one sentence on stderr; checks exit code 2 and that nothing else was printed."""
    result = cimq_command(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return str(result.stderr)


def table() -> dict[str, Any]:
    return {
        "hardware": {
            "rows": 128,
            "cols": 64,
            "dac_bits": 2,
            "write_time_us": 10.0,
            "mvm_time_us": 0.5,
            "adc": None,
            "crossbars": 1,
        },
        "layers": {
            "net": [
                {"kind": "Conv2D", "outputs": 16, "inputs": 200, "invocations": 100, "repeats": 2},
                {"outputs": 10, "inputs": 64, "invocations": 1},
            ]
        },
        "policies": [{"name": "p", "model": "net", "cell_bits": 2, "policy": [[4, 3], [8, 8]], "note": "any"}],
    }


def write(tmp_path: Path, content: Any, name: str = "table.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# Layer 0 (w4, c2: 2 slices): dc 64 columns -> 1 x 2 tiles; dr 32 columns, 400 rows -> 1 x 4; offset 33 -> 1 x 2.
# 8-bit: 4 slices: dc 128 -> 2 x 2; dr 64 -> 1 x 4; offset 65 -> 2 x 2. Digits: ceil(3/2) = 2, ceil(8/2) = 4.
# Layer 1 (w8): dc 80 columns -> 2; dr 40 columns, 128 rows -> 1; offset 41 columns -> 1. 4 digits.
BY_HAND = {
    "differential_column": (2 * 2 + 2, 2 * 2 * 100 * 2 + 2 * 4, 2 * 4 + 2, 2 * 4 * 100 * 4 + 2 * 4),
    "differential_row": (2 * 4 + 1, 2 * 4 * 100 * 2 + 1 * 4, 2 * 4 + 1, 2 * 4 * 100 * 4 + 1 * 4),
    "offset": (2 * 2 + 1, 2 * 2 * 100 * 2 + 1 * 4, 2 * 4 + 1, 2 * 4 * 100 * 4 + 1 * 4),
}


def expected_by_hand() -> dict[str, dict[str, Any]]:
    result = {}
    for mapping, (writes, mvms, writes8, mvms8) in BY_HAND.items():
        time, time8 = writes * 10.0 + mvms * 0.5, writes8 * 10.0 + mvms8 * 0.5
        counts = {"writes": writes, "mvms": mvms, "time_us": time, "uniform8_time_us": time8}
        result[mapping] = {**counts, "speedup": round(time8 / time, 6)}
    return result
