from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundle_nets import HARDWARE, handmade_network, images, randomise, write_handmade
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import cimq
from cimq import _C, Hardware, Policy
from cimq.bundle.network import CrossbarFacts, Network, Node
from cimq.bundle.programs import compile_layers, dump_after
from cimq.cost_model import LayerShape


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


def test_writes_the_program_into_the_bundle(bundle_path: Path) -> None:
    program = cimq.compile(bundle_path)
    assert program.path == bundle_path / "program.jsonl"
    assert program.path.read_text() == program.text
    bundle = cimq.load_bundle(bundle_path)  # the manifest knows the new file
    assert bundle.manifest["latency"]["writes"] == program.writes == 1
    assert bundle.manifest["latency"]["time_us"] == program.latency.time_us == 56 + 3 * 1.4
    lines = [json.loads(line) for line in program.text.splitlines()]
    assert [line["op"] for line in lines] == [
        "PROGRAM",
        "CFG",
        "QUANT",
        "WRITE",
        "IM2COL",
        "MVM",
        "SHADD",
        "REQ",
        "VEC",
    ]
    assert lines[0]["mvms"] == 3
    assert cimq.compile(bundle_path).text == program.text  # again: replaced, still valid
    assert cimq.load_bundle(bundle_path).check().equal


@pytest.mark.parametrize("hardware", ["ideal", "lossy", "noisy"])
def test_the_program_carries_the_zero_point(hardware: str, tmp_path: Path) -> None:
    """What the instructions say, done by hand from the quantised input and from the crossbar result to the output."""
    x = images(9, 12) + 0.7
    net = randomise(nn.Sequential(nn.Linear(12, 5)))
    model = cimq.prepare(net, Policy.uniform(4, 5), HARDWARE[hardware], act_offset=True)
    cimq.calibrate(model, [x])
    bundle = cimq.export(model.eval(), tmp_path / "net.cimq", x)
    lines = {line["op"]: line for line in map(json.loads, (bundle.path / "program.jsonl").read_text().splitlines())}
    weights, expected = (load_file(bundle.path / f"{name}.safetensors") for name in ("weights", "expected"))
    quant, requant = lines["QUANT"], lines["REQ"]
    weight = weights[requant["weight"]].int()
    x_q = ((x / weights[quant["scale"]]).round().int() - quant["zero"]).clamp(quant["lo"], quant["hi"])
    Y = expected[f"layer.{bundle.layers[0].name}"]
    if hardware == "ideal":
        assert torch.equal(Y, x_q @ weight.T)
    corrected = Y + (requant["zero"] * weight.sum(1, dtype=torch.int32)).to(Y.dtype)
    y = corrected.float() * weights[requant["multiplier"]] + weights[requant["bias"]]
    assert requant["zero"] == quant["zero"] < 0
    assert torch.equal(y, expected["output"])
    # And by the interpreter, for every sample of the export.
    output, layers = _C.Interpreter.load(str(bundle.path)).run_layers(x.numpy())
    assert torch.equal(torch.from_numpy(output), expected["output"])
    assert torch.equal(torch.from_numpy(layers[bundle.layers[0].name]), Y)


def test_another_machine_leaves_the_bundle_alone(bundle_path: Path, tmp_path: Path) -> None:
    before = (bundle_path / "manifest.json").read_text()
    small = Hardware.preset("paper").replace(rows=2, cols=4)
    program = cimq.compile(bundle_path, small)
    assert program.path is None
    assert program.hardware == small
    # 4 inputs on 2 rows, 2 * 3 columns on 4: 2 x 2 tiles, 3 digits each
    assert (program.writes, program.mvms) == (4, 12)
    tiles = program.layers[0].tiles
    assert [tuple(tile[:4]) for tile in tiles] == [(0, 2, 0, 4), (0, 2, 4, 6), (2, 4, 0, 4), (2, 4, 4, 6)]
    assert (bundle_path / "manifest.json").read_text() == before
    assert not (bundle_path / "program.jsonl").exists()
    program = cimq.compile(bundle_path, small, out=tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").read_text() == program.text


def test_missing_or_damaged_bundles(bundle_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        cimq.compile(bundle_path / "nothing")
    (bundle_path / "layers.json").write_text("{}")
    with pytest.raises(ValueError, match=r"layers\.json: has 2 bytes"):
        cimq.compile(bundle_path)


def test_every_pass_can_be_looked_at(bundle_path: Path) -> None:
    before = sorted(path.name for path in bundle_path.iterdir())
    parts = {
        name: [json.loads(line) for line in dump_after(bundle_path, name).splitlines()]
        for name in ("tile", "place", "lower", "verify", "closed_form")
    }
    assert {line["part"] for line in parts["tile"]} == {"graph", "tiles"}
    assert {line["part"] for line in parts["place"]} == {"graph", "tiles", "placement"}
    assert next(line["op"] for line in parts["lower"] if "part" not in line) == "PROGRAM"
    assert parts["lower"] == parts["verify"] == parts["closed_form"]
    assert sorted(path.name for path in bundle_path.iterdir()) == before
    with pytest.raises(ValueError, match="there is no pass 'fuse'; the passes are tile, place, lower"):
        dump_after(bundle_path, "fuse")


def test_tiles_stay_where_they_fit(bundle_path: Path, tmp_path: Path) -> None:
    machine = Hardware.preset("paper").replace(rows=2, cols=4, resources={"crossbars": None})
    before = (bundle_path / "manifest.json").read_text()
    program = cimq.compile(bundle_path, machine, pipeline="stationary", out=tmp_path / "p.jsonl")
    assert (program.writes, program.setup_writes, program.mvms) == (0, 4, 12)
    assert [tile.crossbar for tile in program.layers[0].tiles] == [0, 1, 2, 3]
    assert program.simulated.time_us == 4.2  # all tiles at once, digit after digit
    assert "4 crossbars, 100.00 % of their time used" in str(program.simulated)
    few = cimq.compile(bundle_path, machine.replace(resources={"crossbars": 2}), pipeline="stationary")
    assert few.path is None
    assert (few.writes, few.setup_writes) == (4, 0)
    assert few.simulated.time_us == pytest.approx(2 * (56 + 3 * 1.4))
    one = cimq.compile(bundle_path)
    assert one.simulated.time_us == one.latency.time_us
    assert (bundle_path / "manifest.json").read_text() != before  # the closed form's program is the bundle's
    with pytest.raises(ValueError, match="there is no pipeline 'other'; the pipelines are closed_form, stationary"):
        cimq.compile(bundle_path, pipeline="other")


def convolution() -> Network:
    """9 input vectors of 3 digits."""
    facts = CrossbarFacts("conv", 0, 4, 3, False, 3, 4, 9, 1)
    attrs = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
    tensors = handmade_network().nodes[0].tensors
    node = Node("n0", "crossbar_conv2d", ("x",), (3, 3, 3), attrs, tensors, facts)
    return Network("x", (4, 3, 3), "n0", (node,))


def test_copies_share_the_input_vectors(tmp_path: Path) -> None:
    layers = convolution().layers_json()
    machine = Hardware.preset("paper").replace(rows=2, cols=4, resources={"crossbars": None})
    single = compile_layers(layers, machine, "stationary")
    assert single.simulated.time_us == pytest.approx(9 * 3 * 1.4)
    program = compile_layers(layers, machine, "stationary", {"conv": 4})
    assert program.layers[0].copies == 4
    assert program.simulated.time_us == pytest.approx(3 * 3 * 1.4)  # ceil(9 / 4) vectors each
    assert program.setup_writes == 4 * single.setup_writes
    assert program.mvms == single.mvms
    file = tmp_path / "copies.json"
    file.write_text('{"conv": 9}')
    assert compile_layers(layers, machine, "stationary", file).simulated.time_us == pytest.approx(3 * 1.4)
    few = machine.replace(resources={"crossbars": 2 * single.setup_writes})
    assert compile_layers(layers, few, "stationary", "latency").layers[0].copies == 2
    for wrong, part in (
        ({"conv": 10}, "layer 'conv': copies must be from 1 to 9"),
        ({"fc": 1}, "no crossbar layer 'fc'"),
        ({"conv": "many"}, "duplication: conv must be an integer"),
    ):
        with pytest.raises(ValueError, match=part):
            compile_layers(layers, machine, "stationary", wrong)  # type: ignore[arg-type]  # as a file may have it
    with pytest.raises(FileNotFoundError, match="one of none, greedy, throughput, balanced, latency, any or a JSON"):
        compile_layers(layers, machine, "stationary", "fastest")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(
        ValueError, match=r"or a JSON file, and '.*copies\.json' cannot be read: it is no text in UTF-8"
    ):
        compile_layers(layers, machine, "stationary", file)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        compile_layers(layers, machine, "stationary", tmp_path)


def test_layers_overlap_where_that_is_faster(tmp_path: Path) -> None:
    def conv(index: int, source: str) -> Node:
        facts = CrossbarFacts(f"conv{index}", index, 4, 3, False, 4, 4, 36, 1)
        attrs = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
        tensors = handmade_network().nodes[0].tensors
        return Node(f"n{index}", "crossbar_conv2d", (source,), (4, 6, 6), attrs, tensors, facts)

    layers = Network("x", (4, 6, 6), "n1", (conv(0, "x"), conv(1, "n0"))).layers_json()
    machine = Hardware.preset("paper").replace(resources={"crossbars": 2})
    series = compile_layers(layers, machine, "stationary")
    assert series.simulated.time_us == pytest.approx(2 * 36 * 3 * 1.4)
    assert series.chosen == ""
    program = compile_layers(layers, machine, "pipelined")
    assert program.simulated.time_us == pytest.approx((36 + 6) * 3 * 1.4)  # a row behind
    assert program.chosen == "layers overlap by rows; copies: none"
    assert '"row":' in program.text
    one = compile_layers(layers, machine.replace(resources={"crossbars": 1}), "pipelined")
    assert one.simulated.time_us == one.latency.time_us
    assert one.chosen == "layers in series; copies: none"
    with pytest.raises(ValueError, match="duplication 'any' compares programs"):
        compile_layers(layers, machine, "stationary", "any")


def test_too_many_tiles_are_refused() -> None:
    facts = CrossbarFacts("big", 0, 8, 8, False, 4096, 4096, 1, 1)
    node = handmade_network().nodes[0]
    network = Network("x", (4096,), "fc", (Node("fc", "crossbar_linear", ("x",), (4096,), {}, node.tensors, facts),))
    tiny = Hardware.preset("paper").replace(rows=1, cols=1)
    with pytest.raises(ValueError, match="a program lists at most"):
        compile_layers(network.layers_json(), tiny)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of convolutions, then a linear layer; weights are not looked at by the compiler."""
    integers = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    tensors = handmade_network().nodes[0].tensors
    groups = integers(1, 3)
    channels, size = groups * integers(1, 4), integers(3, 9)
    shape, name, nodes = (channels, size, size), "x", []
    for index in range(integers(1, 3)):
        kernel, outputs = integers(1, 3), groups * integers(1, 6)
        out = (outputs, shape[1] - kernel + 3, shape[2] - kernel + 3)
        facts = CrossbarFacts(
            f"conv{index}",
            index,
            integers(1, 8),
            integers(1, 8),
            draw(st.booleans()),
            outputs // groups,
            shape[0] // groups * kernel * kernel,
            out[1] * out[2],
            groups,
        )
        attrs = {
            "kernel": [kernel, kernel],
            "stride": [1, 1],
            "padding": [1, 1, 1, 1],
            "dilation": [1, 1],
            "groups": groups,
        }
        nodes.append(Node(f"n{index}", "crossbar_conv2d", (name,), out, attrs, tensors, facts))
        shape, name = out, f"n{index}"
    flat = shape[0] * shape[1] * shape[2]
    nodes.append(Node("flat", "flatten", (name,), (flat,)))
    facts = CrossbarFacts("fc", 99, integers(1, 8), integers(1, 8), False, 5, flat, 1, 1)
    nodes.append(Node("fc", "crossbar_linear", ("flat",), (5,), {}, tensors, facts))
    return Network("x", (channels, size, size), "fc", tuple(nodes))


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")  # more crossbars than the closed form is about
@settings(max_examples=60)
@given(
    network=networks(),
    mapping=st.sampled_from(["differential_column", "differential_row", "offset"]),
    rows=st.integers(2, 64),
    cols=st.integers(1, 64),
    cell_bits=st.integers(1, 4),
    dac_bits=st.integers(1, 3),
    crossbars=st.one_of(st.none(), st.integers(1, 5)),
)
def test_program_and_closed_form_agree(
    network: Network, mapping: str, rows: int, cols: int, cell_bits: int, dac_bits: int, crossbars: int | None
) -> None:
    hardware = Hardware.preset("paper").replace(
        rows=rows,
        cols=cols,
        cell_bits=cell_bits,
        dac_bits=dac_bits,
        mapping=mapping,
        resources={"crossbars": crossbars},
    )
    program = compile_layers(network.layers_json(), hardware)
    writes = mvms = 0
    repeats, loops = 1, []
    for line in map(json.loads, program.text.splitlines()):  # counted here again, apart from the C++ verifier
        if line["op"] == "LOOP":
            loops.append(line["count"])
            repeats *= line["count"]
        elif line["op"] == "END":
            repeats //= loops.pop()
        elif line["op"] == "WRITE":
            writes += repeats
        elif line["op"] == "MVM":
            mvms += repeats * (line["digits"][1] - line["digits"][0])
    facts = [node.crossbar for node in network.crossbar_nodes() if node.crossbar is not None]
    shapes = [LayerShape(f.layer_name, "x", f.outputs, f.inputs_per_output, f.invocations, f.repeats) for f in facts]
    policy = Policy({f.layer_name: (f.weight_bits, f.act_bits) for f in facts})
    report = cimq.latency(shapes, policy, hardware)
    assert (writes, mvms) == (report.writes, report.mvms) == (program.writes, program.mvms)
    for layer, cost in zip(program.layers, report.layers, strict=True):
        assert len(layer.tiles) == cost.tiles == layer.row_tiles * layer.column_tiles
