"""Attention from the model to the executor: products of two values, the second written to crossbars at run time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_nets import TOKENS, WIDTH, Cross, Decoder, Encoder, Fused, Heads, Masked, Vit
from bundle_nets import HARDWARE, images, randomise
from hostile import changed_json
from test_export import assert_equal_everywhere
from torch import Tensor, nn

import cimq
from cimq import _C, Policy
from cimq.bundle import onnx_check, onnx_model
from cimq.bundle.attention_graph import written_out
from cimq.bundle.batch_first import batch_kept_first
from cimq.bundle.explained import explain_layer
from cimq.bundle.fx_reader import read_network
from cimq.quantization import layer_outputs

NOISY_READS = cimq.Hardware.preset("paper").replace(
    rows=16, cell={"read": {"model": "constant", "sigma_levels": 0.2}, "programming": {"model": "none"}}
)


def sample_of(net: nn.Module, count: int = 3) -> Tensor:
    return images(count, 3, 12, 12) if isinstance(net, Vit) else images(count, TOKENS, WIDTH)


def prepared(net: nn.Module, x: Tensor, hardware: Any = "paper", bits: int = 5, **options: Any) -> nn.Module:
    q = cimq.prepare(randomise(net), Policy.uniform(bits, bits), hardware, **options)
    cimq.calibrate(q, [x])
    return q.eval()


def check_interpreter(bundle: cimq.bundle.Bundle, x: Tensor) -> None:
    """The bundle's own program, instruction by instruction."""
    y, layers = bundle.run_layers(x)
    got, of_layers = _C.Interpreter.load(str(bundle.path)).run_layers(x.numpy())
    assert np.array_equal(got, y.numpy())
    assert of_layers.keys() == layers.keys()
    assert all(np.array_equal(of_layers[name], value.numpy()) for name, value in layers.items())


@pytest.mark.parametrize("net", [Encoder, Fused, Masked, Vit])
@pytest.mark.parametrize("offset", [False, True])
def test_executor_equals_the_converted_model(net: Any, offset: bool, tmp_path: Path) -> None:
    x = sample_of(net())
    q = prepared(net(), x, HARDWARE["lossy"] if offset else HARDWARE["ideal"], act_offset=offset)
    converted = cimq.convert(q, sample_input=x)  # a warning of what it left would be an error
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2])
    assert_equal_everywhere(bundle, converted, x)
    check_interpreter(bundle, x)
    program = cimq.compile(bundle.path)
    wanted = cimq.latency(q, sample_input=x)
    assert program.latency.time_us == cimq.latency(bundle.path).time_us == wanted.time_us
    by_name = {layer.name: (layer.writes, layer.mvms) for layer in wanted.layers}
    assert {layer.name: (layer.writes, layer.mvms) for layer in program.latency.layers} == by_name
    assert program.simulated.time_us == wanted.time_us
    assert cimq.load_bundle(bundle.path).check().equal


@pytest.mark.parametrize("hardware", [*HARDWARE.values(), NOISY_READS], ids=[*HARDWARE, "noisy reads"])
@pytest.mark.filterwarnings("ignore:adc.granularity is column:cimq.CimqWarning")
def test_every_machine(hardware: cimq.Hardware, tmp_path: Path) -> None:
    x = sample_of(Fused())
    converted = cimq.convert(prepared(Fused(), x, hardware), sample_input=x)
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2])
    assert_equal_everywhere(bundle, converted, x)
    check_interpreter(bundle, x)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_every_width_in_onnxruntime(bits: int, tmp_path: Path) -> None:
    """The integers of both products are onnxruntime's, given the values that the model computed."""
    x = sample_of(Fused())
    converted: Any = cimq.convert(prepared(Fused(), x, bits=bits, act_offset=bits > 1), sample_input=x)
    bundle = cimq.export(converted, tmp_path / "net.cimq", x)
    assert bundle.manifest["onnx"]["node_deviation"] <= bundle.manifest["onnx"]["node_bound"]
    written = batch_kept_first(written_out(converted, x))
    network = read_network(written, x)
    model = onnx_model.build(network, forced=True)
    products = [node for node in network.nodes if node.op == "crossbar_matmul"]
    values = onnx_check.values_of(written, x)
    feeds = {network.input_name: x.numpy()}
    for node in network.crossbar_nodes():
        feeds[f"{node.name}.forced"] = values[node.inputs[0]].numpy()
        if node in products:
            feeds[f"{node.name}.forced_operand"] = values[node.inputs[1]].numpy()
    for node in products:
        model.graph.output.append(onnx_model.helper.make_tensor_value_info(f"{node.name}.Y_integer", 1, None))
    got = onnx_check._session(model).run([f"{node.name}.Y_integer" for node in products], feeds)
    Y = layer_outputs(converted, x)
    for node, value in zip(products, got, strict=True):
        assert node.crossbar is not None
        layer = Y[node.crossbar.layer_name]
        w_q = _integers_of_operand(values[node.inputs[1]], node.tensors["w_scale"], bits)
        correction = node.crossbar.act_zero * w_q.sum(-1).unsqueeze(-2)
        assert torch.equal(torch.from_numpy(value).double(), layer.double() + correction)


def _integers_of_operand(w: Tensor, scale: Tensor, bits: int) -> Tensor:
    if bits == 1:
        return torch.where(w >= 0, 1.0, -1.0).double()
    high = 2 ** (bits - 1) - 1
    return torch.clamp(torch.round(w / scale), -high, high).double()


@pytest.mark.parametrize("kind", ["grouped", "one for all", "two dimensions"])
def test_heads(kind: str, tmp_path: Path) -> None:
    x = sample_of(Heads(kind))
    converted = cimq.convert(prepared(Heads(kind), x), sample_input=x)
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2])
    assert_equal_everywhere(bundle, converted, x)
    assert [layer.repeats for layer in bundle.layers if layer.op == "crossbar_matmul"] == [4, 4]


@pytest.mark.parametrize(("net", "name"), [(Cross, "attention"), (Decoder, "decoder.layers.0.multihead_attn")])
def test_queries_that_look_at_other_values(net: Any, name: str, tmp_path: Path) -> None:
    """The projections of both are one layer: its input vectors are the tokens of both, as latency counts them."""
    x = sample_of(net())
    q = prepared(net(), x)
    converted = cimq.convert(q, sample_input=x)
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2])
    y, layers = bundle.run_layers(x)
    with torch.no_grad():
        assert torch.equal(y, converted(x))
    Y = layer_outputs(converted, x)
    both = [Y.pop(f"{name}.in_proj{call}") for call in ("", "#1")]
    assert torch.equal(layers.pop(f"{name}.in_proj"), torch.cat(both, 1))
    assert layers.keys() == Y.keys()
    assert all(torch.equal(layers[name], value) for name, value in Y.items())
    assert cimq.latency(bundle.path).time_us == cimq.latency(q, sample_input=x).time_us
    noisy = cimq.convert(prepared(net(), x, NOISY_READS), sample_input=x)
    with pytest.raises(ValueError, match=r"node '.*att.*' .attention.: .*read noise"):
        cimq.export(noisy, tmp_path / "noisy.cimq", x)


@pytest.mark.parametrize("pipeline", ["stationary", "pipelined"])
def test_pipelines_write_the_operands_for_every_sample(pipeline: str, tmp_path: Path) -> None:
    x = sample_of(Vit())
    bundle = cimq.export(prepared(Vit(), x), tmp_path / "net.cimq", x)
    machine = bundle.hardware.replace(resources={"crossbars": None})
    program = cimq.compile(bundle.path, machine, pipeline=pipeline)
    lines = [json.loads(line) for line in program.text.splitlines()]
    assert lines[0]["version"] == "1.4.0"
    operands = [line for line in lines if line.get("operand")]
    assert [line["dst"].split("_")[-2] for line in operands] == ["qk.w", "av.w"]
    copies = [layer.copies for layer in program.layers if layer.op == "crossbar_matmul"]
    assert program.writes == 4 * sum(copies)  # a tile for each head; everything else stays
    assert program.setup_writes > 0
    assert program.simulated.time_us < program.latency.time_us


@pytest.mark.parametrize("change", ["heads", "operands", "rows"])
def test_another_order_is_noticed(change: str, tmp_path: Path) -> None:
    x = sample_of(Fused())
    bundle = cimq.export(prepared(Fused(), x), tmp_path / "net.cimq", x)

    def edit(layers: Any) -> None:
        nodes = {node["name"]: node for node in layers["nodes"]}
        products = [node for node in layers["nodes"] if node["op"] == "crossbar_matmul"]
        if change == "operands":  # Q and K have one shape
            products[0]["inputs"].reverse()
        elif change == "heads":  # the heads of V are those of its other half
            value = nodes[nodes[products[1]["inputs"][1]]["inputs"][0]]
            assert value["attrs"]["perm"] == [1, 0, 2]
            taken = nodes[value["inputs"][0]]
            before = taken | {"name": "before"}
            turned = {"op": "flip", "attrs": {"dims": [1]}, "tensors": {}, "shape": taken["shape"]}
            index = layers["nodes"].index(taken)
            layers["nodes"][index : index + 1] = [before, turned | {"name": taken["name"], "inputs": ["before"]}]
        else:  # the weights of a query are another's
            softmax = nodes[products[1]["inputs"][0]]
            before = softmax | {"name": "before"}
            turned = {"op": "flip", "attrs": {"dims": [1]}, "tensors": {}, "shape": softmax["shape"]}
            index = layers["nodes"].index(softmax)
            layers["nodes"][index : index + 1] = [before, turned | {"name": softmax["name"], "inputs": ["before"]}]

    (bundle.path / "program.jsonl").unlink()
    report = cimq.load_bundle(changed_json(bundle.path, "layers.json", edit)).check()
    assert not report.equal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": 4}, "outputs is 4 but its geometry gives 5"),
        ({"repeats": 1}, "repeats is 1 but its geometry gives 2"),
        ({"invocations": 10}, "invocations is 10 but its geometry gives 5"),
        ({"inputs": ["select"]}, "takes 2 inputs, got 1"),
        ({"tensors": {}}, "x_scale"),
    ],
)
def test_facts_that_do_not_follow_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    x = sample_of(Fused())
    bundle = cimq.export(prepared(Fused(), x), tmp_path / "net.cimq", x)

    def edit(layers: Any) -> None:
        next(node for node in layers["nodes"] if node["op"] == "crossbar_matmul").update(change)

    with pytest.raises(ValueError, match=message):
        cimq.load_bundle(changed_json(bundle.path, "layers.json", edit))


class Refused(nn.Module):
    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        options = {"batch_first": case != "batch", "add_bias_kv": case == "bias"}
        self.attention = nn.MultiheadAttention(WIDTH, 2, **options)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x[:, :, 0] > 3) if self.case == "padding" else None
        return self.head(self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0])


class OwnMask(nn.Module):
    """A mask that the input decides."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=x[:, :, :TOKENS])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Refused("batch"), r"node 'attention' .attention.: batch_first is False"),
        (Refused("bias"), r"node 'attention' .attention.: add_bias_kv"),
        (Refused("padding"), r"node 'attention' .attention.: key_padding_mask"),
        (OwnMask(), r"its mask is computed from the input"),
    ],
)
@pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")
def test_what_a_bundle_cannot_hold_is_refused_by_name(net: nn.Module, message: str, tmp_path: Path) -> None:
    x = sample_of(net)
    with pytest.raises(ValueError, match=message):
        cimq.export(prepared(net, x), tmp_path / "net.cimq", x)


def test_what_else_takes_a_bundle(tmp_path: Path) -> None:
    x = sample_of(Fused())
    bundle = cimq.export(prepared(Fused(), x), tmp_path / "net.zip", x)
    assert torch.equal(bundle.run(x), cimq.load_bundle(tmp_path / "net.zip").run(x))
    bundle = cimq.export(prepared(Fused(), x), tmp_path / "net.cimq", x)
    text = explain_layer(cimq.compile(bundle.path), "qk")
    assert "values of 5 bits" in text
    assert "2 of 2 tiles are written for every sample" in text
    with pytest.raises(ValueError, match=r"is the operation 'crossbar_matmul', which has no C"):
        cimq.emit_c(bundle.path, tmp_path / "c")


def test_bounds_of_memory_and_work(tmp_path: Path) -> None:
    x = sample_of(Fused())
    bundle = cimq.export(prepared(Fused(), x), tmp_path / "net.cimq", x)
    with pytest.raises(ValueError, match="max_operations"):
        cimq.load_bundle(bundle.path, max_operations=1000)
    with pytest.raises(ValueError, match="max_working_bytes"):
        cimq.load_bundle(bundle.path, max_working_bytes=1000)


def test_values_that_are_not_finite_are_refused_by_node(tmp_path: Path) -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x * x, x)

    x = sample_of(Squared())
    bundle = cimq.export(prepared(Squared(), x), tmp_path / "net.cimq", x)
    with pytest.raises(ValueError, match=r"node '.*_qk': its second input must be finite, got inf at element 0"):
        bundle.run(torch.full_like(x, 3e30))
