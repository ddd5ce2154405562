"""Attention: four layers per block, two of them products of activations that are written to crossbars at run time."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import TinyViT
from torch import Tensor, nn

import cimq
from cimq.quantization import QuantMatmul, get_policy, layer_outputs, layer_shapes, quant_layers

PAPER = cimq.Hardware.preset("paper").replace(rows=16, cell_bits=2)
LOSSY = PAPER.replace(adc={"bits": 5})
CALIBRATED = PAPER.replace(adc={"bits": 5, "range": "calibrated"})
NOISY = PAPER.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})
pytestmark = pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index) * max(1, parameter.shape[-1]) ** -0.5)
    return model


def prepared(hardware: Any = "paper", bits: int = 6, **options: Any) -> tuple[nn.Module, Tensor]:
    x = normal(6, 3, 12, 12)
    q = cimq.prepare(seeded(TinyViT()), cimq.Policy.uniform(bits, bits), hardware, **options)
    cimq.calibrate(q, [x])
    return q, x


def test_four_entries_in_a_policy_in_module_order() -> None:
    q, x = prepared()
    names = [name for name, _ in quant_layers(q)]
    block = [f"attention.{part}" for part in ("in_proj", "qk", "av", "out_proj")] + ["mlp.0", "mlp.2"]
    assert names == ["patches", *(f"blocks.{i}.{name}" for i in range(2) for name in block), "head"]
    assert [layer.layer_index for _, layer in quant_layers(q)] == list(range(len(names)))
    policy = cimq.Policy({name: (2 + i % 7, 8 - i % 7) for i, name in enumerate(names)})
    cimq.set_policy(q, policy)
    assert get_policy(q).pairs() == policy.pairs()
    with torch.no_grad():
        assert bool(torch.isfinite(q.eval()(x)).all())


def test_shapes_for_the_latency_model() -> None:
    """R repeats are heads, I are tokens; K^T and V are the matrices."""
    q, x = prepared()
    for shapes in (layer_shapes(q, x), layer_shapes(q)):
        facts = {s.name: (s.kind, s.outputs, s.inputs, s.invocations, s.repeats) for s in shapes}
        assert facts["blocks.0.attention.in_proj"] == ("linear", 48, 16, 10, 1)
        assert facts["blocks.0.attention.qk"] == ("matmul", 10, 4, 10, 4)
        assert facts["blocks.0.attention.av"] == ("matmul", 4, 10, 10, 4)
        assert facts["blocks.0.attention.out_proj"] == ("linear", 16, 16, 10, 1)
    report = cimq.latency(q)
    qk = next(layer for layer in report.layers if layer.name.endswith("0.attention.qk"))
    assert (qk.writes, qk.mvms) == (4, 4 * 10 * 6)  # one tile per head, 6-bit inputs one bit at a time


@pytest.mark.parametrize("hardware", ["paper", LOSSY, CALIBRATED, NOISY], ids=["ideal", "lossy", "calibrated", "noisy"])
@pytest.mark.parametrize("offset", [False, True])
def test_converted_equals_prepared_bit_for_bit(hardware: Any, offset: bool) -> None:
    q, x = prepared(hardware, act_offset=offset)
    converted = cimq.convert(q, sample_input=x)
    assert not [m for m in converted.modules() if isinstance(m, QuantMatmul)]
    with torch.no_grad():
        wanted = q.eval()(x)
        assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(converted)))(x), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(q)))(x), wanted)
        first = layer_outputs(converted, x)["blocks.0.attention.qk"]
        # A sample's crossbars do not depend on the batch.
        assert torch.equal(layer_outputs(converted, x[2:3])["blocks.0.attention.qk"], first[2:3])
        assert first.dtype == (torch.int32 if hardware == "paper" else torch.float32)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_integers_of_a_product(bits: int) -> None:
    q, x = prepared(bits=bits)
    converted = cimq.convert(q, sample_input=x)
    seen: list[tuple[Tensor, Tensor]] = []
    core = converted.get_submodule("blocks.0.attention.crossbar_products.core")
    core.qk.register_forward_pre_hook(lambda module, args: seen.append((args[0], args[1])))
    Y = layer_outputs(converted, x)["blocks.0.attention.qk"]
    layer = q.get_submodule("blocks.0.attention.crossbar_products.core.qk")
    (queries, keys), high = seen[0], max(1, 2 ** (bits - 1) - 1)
    w_q = layer.integer_weight(keys)
    assert int(w_q.abs().max()) == high
    assert torch.equal(Y, (layer.quantize_input(queries).double() @ w_q.double().transpose(-1, -2)).int())


@pytest.mark.parametrize("hardware", [LOSSY, NOISY], ids=["lossy", "noisy"])
def test_fast_product_equals_the_reference(hardware: Any) -> None:
    """One matrix per head and sample, as the specification computes it."""
    from cimq.quantization.layers.products import matmul_product

    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 16, (2, 1, 5, 20), generator=generator)
    w = torch.randint(-7, 8, (2, 1, 6, 20), generator=generator)
    bits = {"weight_bits": 4, "act_bits": 4, "act_signed": False, "seed": 3, "layer": 2}
    y = matmul_product(x, w, hardware=hardware, **bits)
    for sample in range(2):
        wanted = cimq.ops.crossbar_mvm(x[sample, 0], w[sample, 0], hardware, backend="reference", **bits)
        assert torch.equal(y[sample, 0], wanted)


@pytest.mark.parametrize("hardware", ["paper", PAPER.replace(adc={"bits": 7}), NOISY], ids=["ideal", "lossy", "noisy"])
def test_training(hardware: Any) -> None:
    q, x = prepared(hardware, bits=4)
    history = cimq.finetune(q, [(x, torch.arange(6) % 5)], epochs=6, lr=0.05)
    assert history[-1].loss < history[0].loss
    for name, layer in quant_layers(q):
        assert float(layer.act_scales.grad[3].abs()) > 0, name
        assert float(layer.weight_scales.grad[3].abs().sum()) > 0, name


def test_eight_bits_are_close_and_gradients_are_those_of_fp32() -> None:
    model, x = seeded(TinyViT()).eval(), normal(6, 3, 12, 12)
    q = cimq.prepare(model, example_inputs=x)
    for net in (model, q):
        net.zero_grad()
        net.train(False)(x).square().sum().backward()
    with torch.no_grad():
        assert float((q(x) - model(x)).norm() / model(x).norm()) < 0.03
    for name, parameter in model.named_parameters():
        got, wanted = q.get_parameter(name).grad, parameter.grad
        # The largest weights of a row may be clipped, and then have no gradient.
        assert float((got * wanted).sum()) > 0.95 * float(got.norm() * wanted.norm()) - 1e-5, name


def case(**options: Any) -> dict[str, Any]:
    return options


@pytest.mark.parametrize(
    ("options", "call"),
    [
        (case(), case()),
        (case(batch_first=True), case(need_weights=False)),
        (case(batch_first=True, bias=False), case(average_attn_weights=False)),
        (case(), case(attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1))),
        (case(), case(attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1), is_causal=True)),
        (case(), case(attn_mask=normal(5, 5), need_weights=False)),
        (case(batch_first=True), case(attn_mask=normal(3 * 2, 5, 5))),
        (case(batch_first=True), case(key_padding_mask=torch.tensor([[False] * 5, [False] * 3 + [True] * 2] * 2)[:3])),
        (case(add_bias_kv=True, add_zero_attn=True), case(attn_mask=normal(5, 5))),
    ],
)
@pytest.mark.parametrize("cross", [False, True])
def test_multihead_attention_is_that_of_pytorch(options: dict[str, Any], call: dict[str, Any], cross: bool) -> None:
    module = seeded(nn.MultiheadAttention(8, 2, **options)).eval()
    shape = (3, 5, 8) if options.get("batch_first") else (5, 3, 8)
    query, memory = normal(*shape), normal(*shape, seed=1) if cross else None
    inputs = (query, query, query) if memory is None else (query, memory, memory)
    q = cimq.prepare(nn.ModuleList([module]))
    cimq.calibrate(q, [None], forward_fn=lambda model, _: model[0](*inputs, **call))
    with torch.no_grad():
        (got, weights), (wanted, wanted_weights) = q.eval()[0](*inputs, **call), module(*inputs, **call)
    assert got.shape == wanted.shape
    assert float((got - wanted).norm() / wanted.norm()) < 0.04
    assert (weights is None) == (wanted_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, wanted_weights, rtol=0.1, atol=0.02)


def test_attention_without_a_batch() -> None:
    module = seeded(nn.MultiheadAttention(8, 2)).eval()
    q = cimq.prepare(module)
    x = normal(5, 8)
    cimq.calibrate(q, [x], forward_fn=lambda model, x: model(x, x, x))
    with torch.no_grad():
        got, wanted = q.eval()(x, x, x), module(x, x, x)
        assert got[0].shape == (5, 8)
        assert got[1].shape == wanted[1].shape
        assert torch.equal(cimq.convert(q, sample_input=(x, x, x))(x, x, x)[0], got[0])


@pytest.mark.parametrize(
    ("shape", "call"),
    [
        ((2, 3, 5, 4), case()),
        ((2, 5, 4), case(scale=0.3)),
        ((5, 4), case(is_causal=True)),
        ((2, 3, 5, 4), case(attn_mask=torch.ones(5, 5, dtype=torch.bool).tril())),
        ((2, 3, 5, 4), case(attn_mask=normal(3, 5, 5))),
        ((2, 4, 5, 4), case(enable_gqa=True)),
    ],
)
def test_attention_core_is_scaled_dot_product_attention(shape: tuple[int, ...], call: dict[str, Any]) -> None:
    from cimq.quantization.layers.attention import AttentionCore

    class Calls(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, **call)

    q = cimq.prepare(Calls())
    assert [name for name, _ in quant_layers(q)] == ["qk", "av"]
    assert any(isinstance(module, AttentionCore) for module in q.modules())
    heads = 2 if "enable_gqa" in call else None
    inputs = [
        normal(*shape),
        *(normal(*(shape if heads is None else (shape[0], heads, *shape[2:])), seed=s) for s in (1, 2)),
    ]
    cimq.calibrate(q, [(*inputs, None)])
    with torch.no_grad():
        got, wanted = q.eval()(*inputs), F.scaled_dot_product_attention(*inputs, **call)
        assert float((got - wanted).norm() / wanted.norm()) < 0.03
        assert torch.equal(cimq.convert(q, sample_input=tuple(inputs))(*inputs), got)


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, mask)

    x, mask = normal(2, 4, 6), torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    q = cimq.prepare(Calls())
    cimq.calibrate(q, [(x, mask, None)])
    with torch.no_grad():
        assert not bool(q.eval()(x, mask)[:, 1].any())


def test_transformer_encoder_of_pytorch() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
    model = seeded(nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))).eval()
    x = normal(3, 5, 8)
    q = cimq.prepare(model, cimq.Policy.uniform(8, 8), example_inputs=x).eval()
    assert len(quant_layers(q)) == 12
    with torch.no_grad():
        wanted = model(x)
        assert 0 < float((q(x) - wanted).norm() / wanted.norm()) < 0.03
        converted = cimq.convert(q, sample_input=x)
        assert torch.equal(converted(x), q(x))
    assert not [m for m in converted.modules() if isinstance(m, QuantMatmul)]


def test_fp32_weights_load_and_ask_for_calibration() -> None:
    q, x = prepared()
    fresh = cimq.prepare(TinyViT(), cimq.Policy.uniform(6, 6))
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
    q.load_state_dict(seeded(TinyViT()).state_dict(), strict=True)
    with pytest.raises(ValueError, match=r"call cimq\.calibrate"):
        q(x)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.MultiheadAttention(8, 2, kdim=4), "another width than its queries"),
        (nn.MultiheadAttention(8, 2).half(), "float16"),
        (type("Own", (nn.MultiheadAttention,), {})(8, 2), "subclass of nn.MultiheadAttention"),
    ],
)
def test_what_cannot_be_quantised_is_named(module: nn.Module, reason: str) -> None:
    model = nn.ModuleDict({"odd": module, "fine": nn.Linear(4, 4)})
    with pytest.warns(cimq.CimqWarning, match=f"odd.*{reason}"):
        q = cimq.prepare(model)
    assert [name for name, _ in quant_layers(q)] == ["fine"]


def test_keys_that_are_not_finite_are_refused_by_name() -> None:
    q = cimq.prepare(seeded(nn.MultiheadAttention(8, 2)))
    x = normal(5, 8)
    cimq.calibrate(q, [x], forward_fn=lambda model, x: model(x, x, x))
    core: Any = q.crossbar_products["core"]
    with pytest.raises(ValueError, match="'qk', its second operand"), torch.no_grad():
        core.eval()(normal(1, 5, 4), torch.full((1, 5, 4), math.nan), normal(1, 5, 4))
    with pytest.raises(ValueError, match="'qk' has no weight of its own"):
        core.qk.integer_weight()
