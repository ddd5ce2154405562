"""cimq latency: by hand, in every form of hardware and table, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_commands import cimq_command, expected_by_hand, refused, table, write

from cimq.hardware import Hardware

PUBLISHED = Path(__file__).parents[1] / "data" / "policies_date2026.json"


def test_latency_json_by_hand(tmp_path: Path) -> None:
    result = cimq_command("latency", write(tmp_path, table()), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"p": expected_by_hand()}


def test_latency_takes_hardware_in_every_form(tmp_path: Path) -> None:
    flat = table()
    nested = table()
    fields = {"rows": 128, "cols": 64, "dac_bits": 2, "timing": {"write_time_us": 10.0, "mvm_time_us": 0.5}}
    nested["hardware"] = Hardware(**fields).to_dict()
    partial = table()
    partial["hardware"] = fields
    with_adc = table()
    with_adc["hardware"]["adc"] = 6
    cell_bits = table()
    cell_bits["hardware"]["cell_bits"] = 2
    del cell_bits["policies"][0]["cell_bits"]
    for content in (flat, nested, partial, with_adc, cell_bits):
        result = cimq_command("latency", write(tmp_path, content), "--json")
        assert json.loads(result.stdout)["p"] == expected_by_hand()
    preset = table()
    preset["hardware"] = "paper"
    assert cimq_command("latency", write(tmp_path, preset)).exit_code == 0


def test_latency_sign_magnitude_counts_where_there_is_a_pair(tmp_path: Path) -> None:
    content = table()
    content["hardware"]["sign_magnitude"] = True
    content["policies"][0]["policy"] = [[3, 3], [3, 3]]
    by_mapping = json.loads(cimq_command("latency", write(tmp_path, content), "--json").stdout)["p"]
    content["hardware"]["sign_magnitude"] = False
    without = json.loads(cimq_command("latency", write(tmp_path, content), "--json").stdout)["p"]
    assert by_mapping["offset"] == without["offset"]
    assert by_mapping["differential_column"]["time_us"] <= without["differential_column"]["time_us"]


def test_latency_table_is_aligned(tmp_path: Path) -> None:
    content = table()
    content["policies"].append({**content["policies"][0], "name": "a much longer name"})
    result = cimq_command("latency", write(tmp_path, content))
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 2 * 3
    assert " ".join(lines[0].split()) == "policy mapping writes MVMs time us uniform 8-bit us speed-up"
    starts = {line.index("differential_column") for line in lines if "differential_column" in line}
    assert len(starts) == 1
    assert {len(line) for line in lines} == {len(lines[1])}


def test_latency_of_the_published_file() -> None:
    published = {row["name"]: row["expected"] for row in json.loads(PUBLISHED.read_text())["policies"]}
    printed = json.loads(cimq_command("latency", PUBLISHED, "--json").stdout)
    keys = ("writes", "mvms", "time_us", "uniform8_time_us", "speedup")
    assert printed == {
        name: {mapping: {key: row[key] for key in keys} for mapping, row in rows.items()}
        for name, rows in published.items()
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """table() with the value at a dotted path replaced, or removed if it is `...`."""
    content: Any = table()
    *inner, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = content
    for part in inner:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return dict(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "the table must be an object with keys, got list"),
        ({}, "the table lacks hardware, layers, policies"),
        (changed("hardware", ...), "the table lacks hardware"),
        (changed("hardware.rows", 0), "hardware: rows must be an integer from 1 to 65536, got 0"),
        (changed("hardware.rowz", 3), "unknown key 'rowz' (did you mean 'rows'?)"),
        (changed("hardware.mvm_time_us", -1), "timing.mvm_time_us must be a number from 0"),
        (changed("hardware.timing", {"mvm_time_us": 1}), "mvm_time_us and timing.mvm_time_us are both given"),
        (changed("hardware", "papr"), "did you mean 'paper'?"),
        (changed("layers", []), "layers must be an object with keys, got list"),
        (changed("layers.net", []), "layers.net must be a list of at least one layer"),
        (changed("layers.net.0", 3), "layers.net[0] must be an object with keys, got int"),
        (changed("layers.net.0.outputs", 0), "layer 'net.0': outputs must be an integer from 1"),
        (changed("layers.net.1.inputs", "64"), "layer 'net.1': inputs must be a positive integer, got '64'"),
        (changed("layers.net.1.inputs", ...), "layers.net[1] lacks inputs"),
        (changed("layers.net.0.repeat", 2), "layers.net[0]: unknown key 'repeat'"),
        (changed("layers.net.0.colour", 2), "layers.net[0]: unknown key 'colour'; allowed: outputs"),
        (changed("layers.net.0.kind", 2), "layers.net[0].kind must be a text, got 2"),
        (changed("policies", []), "policies must be a list of at least one policy"),
        (changed("policies.0.name", 3), "policies[0].name must be a text, got 3"),
        (changed("policies.0.model", "nets"), "policy 'p': model must be one of net, got \"nets\""),
        (changed("policies.0.policy", [[4, 4]]), "policy 'p': policy: 1 rows of bits do not fit 2 layers"),
        (changed("policies.0.policy", [[4, 4], [9, 4]]), "row 1: weight_bits must be an integer from 1 to 8, got 9"),
        (changed("policies.0.policy", 3), "policy 'p': policy must be a list of [w, a] rows"),
        (changed("policies.0.policy", ...), "policies[0] lacks policy"),
        (changed("policies.0.cell_bits", 9), "policy 'p': hardware: cell_bits must be an integer from 1 to 8, got 9"),
        ({**table(), "policies": table()["policies"] * 2}, "policy 'p' is given twice"),
        ('{"hardware": {', "not valid JSON"),
        ("[" * 100_000, "table.json"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path: Path, content: Any, reason: str) -> None:
    path = write(tmp_path, content)
    sentence = refused("latency", path)
    assert sentence.startswith(f"cimq: policy table {path}")
    assert reason in sentence


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    assert "policy table nowhere.json does not exist" in refused("latency", "nowhere.json")
    assert f"{tmp_path} is not a file" in refused("latency", tmp_path)
    assert "run: give --input and --output, or --check" in refused("run", tmp_path)
    assert "run: give --input and --output, or --check" in refused("run", tmp_path, "--check", "--input", "x.npy")
    assert "search configuration none.yaml does not exist" in refused("search", "none.yaml")
