"""cimq.report: the page holds every fact, escapes every text, needs nothing else, and refuses broken inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cimq.hardware import Hardware
from cimq.report import record_measurements, write_report
from cimq.report.charts import nice_ticks
from cimq.report.page import format_time

MakeRun = Callable[..., dict[str, Any]]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements and text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += " " + " ".join(data.split())

    def count(self, tag: str, **attributes: str) -> int:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return sum(name == tag and wanted.items() <= found.items() for name, found in self.elements)


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def test_page_holds_every_row_layer_and_evaluation(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(
        tmp_path, evaluations=30, measured_on="the test set", command="python train.py", checks=["All equal."]
    )
    page = page_of(tmp_path)
    for row in result["rows"]:
        assert row["name"] in page.words
        assert f"{100 * row['accuracy']:.2f} %" in page.words
        if row["speedup"]:
            assert f"{row['speedup']:.3f}\N{MULTIPLICATION SIGN}" in page.words
            assert " ".join(format_time(row["time_us"]).split()) in page.words
    for layer in result["layers"]:
        assert page.words.count(layer["name"]) >= 3  # bits, time, tiles
        assert f"{layer['outputs']} \N{MULTIPLICATION SIGN} {layer['inputs']} weights" in page.words
    for text in (
        "the test set",
        "python train.py",
        "All equal.",
        "torch",
        "2.13.0",
        "differential_column",
        "write_time_us",
    ):
        assert text in page.words
    assert (tmp_path / "report.html").read_text().count("<td>reinforce</td>") == 30
    assert page.count("svg", class_="chart", role="img") == 2
    assert page.count("path", class_="pareto") >= 2


def test_bits_are_drawn_one_box_per_bit(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(tmp_path, evaluations=3)
    text = write_report(tmp_path).read_text()
    weight_bits = sum(layer["weight_bits"] for layer in result["layers"])
    act_bits = sum(layer["act_bits"] for layer in result["layers"])
    assert text.count('<rect class="weight" x="') == weight_bits
    assert len(re.findall(r'<rect class="act" x="\d+" width="9"', text)) == act_bits
    assert text.count('<rect class="off"') == 16 * len(result["layers"]) - weight_bits - act_bits


def test_shares_add_up_and_tile_counts_are_shown(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(tmp_path)
    page = page_of(tmp_path)
    labels = [found["aria-label"] or "" for tag, found in page.elements if tag == "svg" and "aria-label" in found]
    shares = [re.fullmatch(r"([\d.]+) % of the time writing, ([\d.]+) % in MVMs", label) for label in labels]
    total = sum(float(part) for match in shares if match for part in match.groups())
    assert total == pytest.approx(100, abs=0.1 * len(result["layers"]))
    maps = [re.fullmatch(r"(\d+) row tiles by (\d+) column tiles", label) for label in labels]
    tiles = [int(match[1]) * int(match[2]) for match in maps if match]
    assert tiles == [layer["tiles"] for layer in result["layers"]]


@pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"])
@pytest.mark.parametrize("size", [16, 256])
def test_tile_maps_fit_the_latency_model(make_run: MakeRun, tmp_path: Path, mapping: str, size: int) -> None:
    hardware = Hardware.preset("paper").replace(mapping=mapping, rows=size, cols=size, cell_bits=2)
    make_run(tmp_path, hardware=hardware, evaluations=1)
    assert page_of(tmp_path).count("path", class_="grid") > 0


def test_every_text_is_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    make_run(
        tmp_path,
        names=[evil, "b"],
        model=evil,
        strategy=evil,
        versions={evil: evil},
        measured_on=evil,
        command=evil,
        checks=[evil],
    )
    log = tmp_path / "evaluations.jsonl"
    log.write_text(log.read_text().replace('"strategy": "reinforce"', f'"strategy": "{evil}"'))
    edit(
        tmp_path / "result.json", rows=[{**json.loads((tmp_path / "result.json").read_text())["rows"][0], "name": evil}]
    )
    page = page_of(tmp_path)
    assert page.count("script") == 0
    assert page.words.count(evil) >= 10


def test_page_needs_nothing_from_outside(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=30)
    text = write_report(tmp_path).read_text()
    assert not re.search(r"(https?:)?//[a-z]", text, re.IGNORECASE)
    assert "@import" not in text
    assert "url(" not in text
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "img", "iframe", "object"}
        assert not {"src", "href", "onclick", "onload", "srcset"} & attributes.keys()


def test_page_is_accessible(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    page = page_of(tmp_path)
    assert ("html", {"lang": "en"}) in page.elements
    assert page.count("meta", name="viewport") == 1
    ids = {found["id"] for _, found in page.elements if "id" in found}
    for tag, found in page.elements:
        if tag == "svg":  # each says what it shows, or is marked as decoration beside text
            assert "aria-label" in found or found.get("aria-labelledby") in ids or found.get("aria-hidden") == "true"
        if "aria-labelledby" in found:
            assert found["aria-labelledby"] in ids
    assert page.count("h1") == 1


def test_same_inputs_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    first = write_report(tmp_path, tmp_path / "a.html").read_bytes()
    assert write_report(tmp_path, tmp_path / "b.html").read_bytes() == first


@pytest.mark.parametrize("layers", [1, 60])
@pytest.mark.parametrize("evaluations", [0, 1, 2, 9])
def test_small_and_large_runs(make_run: MakeRun, tmp_path: Path, layers: int, evaluations: int) -> None:
    names = [f"stage{i}.a_rather_long_name_of_a_module.projection" for i in range(layers)]
    make_run(tmp_path, names=names, evaluations=evaluations)
    page = page_of(tmp_path)
    assert all(name in page.words for name in names)
    assert page.count("svg", class_="chart", role="img") == (2 if evaluations else 0)


def test_all_points_lie_inside_their_chart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=200)
    page = page_of(tmp_path)
    circles = [found for tag, found in page.elements if tag == "circle" and found.get("cx") != "0.0"]
    assert len(circles) > 200
    for found in circles:
        assert 52 <= float(found["cx"] or "nan") <= 410
        assert 12 <= float(found["cy"] or "nan") <= 258
    # Collapsed evaluations do not flatten the chart; they are counted beside it.
    assert re.search(r"1[0-9] below the axis", page.words)


def test_best_so_far_counts_feasible_evaluations_only(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=4)
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    for line, speedup, feasible in zip(lines, (1.5, 9.0, 1.2, 2.5), (True, False, True, True), strict=True):
        line.update(speedup=speedup, feasible=feasible)
    (tmp_path / "evaluations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "has 2.50x, reached at evaluation 4." in page_of(tmp_path).words
    for line in lines:
        line["feasible"] = False
    (tmp_path / "evaluations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "None is within the accuracy limit." in page_of(tmp_path).words


def test_a_metric_that_is_no_fraction_is_shown_as_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=0)
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    for row in rows:
        row["accuracy"] = -12.5
    edit(tmp_path / "result.json", rows=rows)
    page = page_of(tmp_path)
    assert "-12.5" in page.words
    assert "-1250" not in page.words


def test_bundle_is_described(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    bundle = tmp_path / "net work.cimq"
    bundle.mkdir()
    (bundle / "layers.json").write_text("x" * 12_345)
    (bundle / "program.jsonl").write_text('{"op": "PROGRAM"}\n{"op": "WRITE"}\n{"op": "WRITE"}\n')
    page = page_of(tmp_path)
    assert "12.3 kB" in page.words
    assert "2 WRITE" in page.words
    assert f"cimq run '{bundle}' --check" in page.words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other"}, "schema must be 'cimq.result'"),
        ({"version": "2.0.0"}, "version '2.0.0' is not supported"),
        ({"rows": []}, "must not be empty"),
        ({"layers": {}}, "'layers' must be a list"),
        ({"model": 3}, "'model' must be a text"),
        ({"seed": -1}, "'seed' must be an integer of at least 0, got -1"),
        ({"search_seconds": True}, "'search_seconds' must be a finite number, got true"),
        ({"pareto": [{"accuracy": 1}]}, r"pareto\[0\]: 'time_us' is missing"),
        ({"rows": [{"name": "fp32", "policy": [[4, 9]]}]}, r"policy\[0\] must be 1 to 8 bits, got 9"),
        ({"rows": [{"name": "fp32", "policy": [[4, 4]]}]}, "has 1 pairs for 4 layers"),
        ({"hardware": {"rwos": 3}}, "rwos"),
        ({"bundle": "none.cimq"}, "names the bundle 'none.cimq'"),
    ],
)
def test_wrong_values_are_refused_by_name(
    make_run: MakeRun, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    make_run(tmp_path)
    edit(tmp_path / "result.json", **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("key", "message"), [("tiles", "crossbars are"), ("time_us", "take .* us on this hardware")])
def test_contradictions_are_refused(make_run: MakeRun, tmp_path: Path, key: str, message: str) -> None:
    layers = make_run(tmp_path)["layers"]
    layers[1][key] += 1
    edit(tmp_path / "result.json", layers=layers)
    with pytest.raises(ValueError, match=f"layer 'layer1.conv1'.*{message}"):
        write_report(tmp_path)


def test_missing_files_are_named(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"result\.json is missing"):
        write_report(tmp_path)
    make_run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"to write r\.html into"):
        write_report(tmp_path, tmp_path / "absent" / "r.html")
    (tmp_path / "evaluations.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluations\.jsonl is missing"):
        write_report(tmp_path)


def test_damaged_files_are_named_with_the_line(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=3)
    log = tmp_path / "evaluations.jsonl"
    log.write_text(log.read_text() + '{"index": 3, "strat')
    with pytest.raises(ValueError, match=r"evaluations\.jsonl, line 4 is not valid JSON"):
        write_report(tmp_path)
    log.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        write_report(tmp_path)
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"result\.json is not valid JSON"):
        write_report(tmp_path)


def test_nice_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(1, 3, whole=True) == [1, 2, 3]
    assert nice_ticks(0.9012, 0.9017) == [0.9012, 0.9013, 0.9014, 0.9015, 0.9016, 0.9017]


def test_times_take_the_unit_that_suits() -> None:
    assert [" ".join(format_time(t).split()) for t in (0, 84.04, 1500, 2_480_000)] == [
        "0.0 µs",
        "84.0 µs",
        "1.5 ms",
        "2.48 s",
    ]


def test_limit_of_a_search_without_training_counts_from_its_own_reference(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=12, search_tolerance=0.03)
    assert "accurate enough from" not in page_of(tmp_path).words  # 8 bits everywhere was not measured
    log = tmp_path / "evaluations.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[0].update(policy=[[8, 8]] * 4, accuracy=0.95)
    log.write_text("\n".join(map(json.dumps, lines)))
    assert "accurate enough from 92.00 % on" in page_of(tmp_path).words


def test_final_measurements_replace_those_of_the_search(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    record_measurements(
        tmp_path,
        accuracies={"fp32": 0.5, "found policy": 0.25},
        measured_on="new data",
        command="python again.py",
        checks=["Equal."],
        versions={"numpy": "9.9"},
        note="kept",
    )
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert [row["accuracy"] for row in rows] == [0.5, None, None, 0.25]
    assert json.loads((tmp_path / "result.json").read_text())["note"] == "kept"
    page = page_of(tmp_path)
    for text in ("50.00 %", "25.00 %", "new data", "python again.py", "Equal.", "9.9", "2.13.0"):
        assert text in page.words


def test_measurements_of_unknown_rows_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(ValueError, match="has no row 'uniform 5-bit'; there are: fp32, uniform 8-bit"):
        record_measurements(tmp_path, accuracies={"uniform 5-bit": 0.5})
    with pytest.raises(ValueError, match="must be a finite number"):
        record_measurements(tmp_path, accuracies={"fp32": float("nan")})
    assert (tmp_path / "result.json").read_bytes() == before
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a list of rows"):
        record_measurements(tmp_path)


def test_what_was_trained_and_how_rungs_agree_is_shown(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(tmp_path, evaluations=40, trust=True)
    page = page_of(tmp_path)
    assert page.count("svg", class_="chart", role="img") == 3
    assert result["verdict"] in page.words
    for network in result["trained"]:
        assert network["name"] in page.words
    for text in ("-2.00 to 4.00", "pareto/0.pt", "0.41", "-0.10 to 0.75, 16", "0.93", "not predict: additive proxy."):
        assert text in page.words
    assert page.count("td", class_="few") == 1
    assert page.count("path", class_="uniform-line") >= 2
    assert page.count("path", class_="bars") == 1
    assert page.count("text", class_="stage") == 2
    labels = [words for words in ("8 of uniform", "32 of thompson") if words in page.words]
    assert len(labels) == 2
    for tag, found in page.elements:
        if tag == "rect" and found.get("class") == "uniform" and found.get("x") != "-3.2":
            assert 48 <= float(found["x"] or "nan") <= 410
            assert 8 <= float(found["y"] or "nan") <= 258
    assert "damage within the target" in page.words
    assert "accurate enough" not in page.words
    assert "interrupted" not in page.words
    # Intervals of a fraction end at 100 %.
    assert "101 %" not in page.words


def test_a_budget_on_cost_is_drawn_and_said(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, evaluations=40, trust=True)
    lines = page_of(tmp_path).count("path", class_="limit")
    edit(tmp_path / "result.json", min_speedup=1.7, max_accuracy_drop=None, target_damage=None)
    page = page_of(tmp_path)
    assert page.count("path", class_="limit") == 2 * 3  # in each chart, and in the keys below
    assert lines == 2 * 2  # the limit of the accuracy and the target, of which the history has none
    assert page.count("path", class_="line") < 2 * 3  # a history of speed-ups has no best one
    for text in (
        "those at least 1.7 times as fast as uniform 8-bit",
        "within the budget",
        "At least 1.7x were asked for",
    ):
        assert text in page.words
    assert "target" not in page.words
    edit(tmp_path / "result.json", objective="energy")
    page = page_of(tmp_path)
    assert "those that need at least 1.7 times less energy than uniform 8-bit" in page.words
    assert page.count("path", class_="limit") == 0


def test_trained_networks_without_intervals(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(tmp_path, evaluations=0, trust=True)
    for network in result["trained"]:
        network["drop"] = None
    edit(tmp_path / "result.json", trained=result["trained"], rungs=[], passed_over=[])
    page = page_of(tmp_path)
    assert page.count("path", class_="bars") == 0
    assert "Do cheap measurements" not in page.words
    edit(tmp_path / "result.json", rungs=[{**result["rungs"][0], "interval": [1]}])
    with pytest.raises(ValueError, match=r"rungs\[0\]: 'interval' must be two numbers, got \[1\]"):
        write_report(tmp_path)
