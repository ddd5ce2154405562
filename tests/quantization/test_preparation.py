from __future__ import annotations

import copy
import io
import pickle

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import QuantConv2d, QuantLinear, get_policy, quant_layers


def prepared(model: nn.Module, x: Tensor, bits: int = 8, **options: object) -> nn.Module:
    q = cimq.prepare(model, cimq.Policy.uniform(bits, bits), **options)
    cimq.calibrate(q, [(x, None)])
    return q


def test_makes_a_copy_and_keeps_names_and_classes() -> None:
    model = nets.SmallCnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    q = cimq.prepare(model)
    assert type(model.conv1) is nn.Conv2d
    assert isinstance(q, nets.SmallCnn)
    assert isinstance(q.conv1, QuantConv2d)
    assert isinstance(q.fc, QuantLinear)
    assert [name for name, _ in quant_layers(q)] == ["conv1", "conv2", "fc"]
    assert set(before) < set(q.state_dict())
    assert all(torch.equal(q.state_dict()[name], value) for name, value in before.items())


def test_inplace_changes_the_model_itself() -> None:
    model = nets.SmallCnn()
    assert cimq.prepare(model, inplace=True) is model
    assert isinstance(model.conv1, QuantConv2d)


@pytest.mark.parametrize("training", [True, False])
def test_keeps_the_mode(training: bool) -> None:
    q = cimq.prepare(nets.SmallCnn().train(training))
    assert all(module.training is training for module in q.modules())


@pytest.mark.parametrize("training", [True, False])
def test_eight_bits_are_close_to_fp32(training: bool) -> None:
    model, x = nets.randomise(nets.SmallCnn()), nets.images()
    q = prepared(model, x).train(training)
    wanted = model.train(training)(x)
    error = (q(x) - wanted).norm() / wanted.norm()
    assert 0 < error.item() < 0.03


def test_fewer_bits_cost_more() -> None:
    model, x = nets.randomise(nets.SmallCnn()).eval(), nets.images()
    q = prepared(model, x).eval()
    errors = []
    for bits in (8, 6, 4, 2):
        cimq.set_policy(q, cimq.Policy.uniform(bits, bits))
        with torch.no_grad():
            errors.append(float((q(x) - model(x)).norm()))
    assert errors == sorted(errors)


def test_fp32_state_dict_loads_strictly_before_and_after_calibration() -> None:
    x = nets.images()
    other = nets.randomise(nets.SmallCnn(), seed=5)
    q = cimq.prepare(nets.randomise(nets.SmallCnn()))
    q.load_state_dict(other.state_dict(), strict=True)
    torch.testing.assert_close(q.conv1.weight_scales, cimq.prepare(other).conv1.weight_scales)
    cimq.calibrate(q, [(x, None)])
    q.load_state_dict(other.state_dict(), strict=True)
    with pytest.raises(ValueError, match=r"'conv1' has no activation scale yet; call cimq\.calibrate"):
        q(x)
    with pytest.raises(RuntimeError, match="weight_scales"):
        q.load_state_dict({**q.state_dict(), "fc.weight_scales": torch.zeros(3)})
    with pytest.raises(RuntimeError, match=r"Missing key.*conv1\.weight"):
        q.load_state_dict({k: v for k, v in other.state_dict().items() if k != "conv1.weight"})


def test_state_dict_round_trip_carries_the_calibration() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    fresh = cimq.prepare(nets.SmallCnn(), cimq.Policy.uniform(4, 4)).eval()
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(x), q(x))
    assert fresh.conv2.act_signed is False


@pytest.mark.parametrize("driven_to", [0.0, -1e-3])
def test_state_dict_round_trip_keeps_scales_that_training_drove_to_zero_or_below(driven_to: float) -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    with torch.no_grad():
        q.conv1.weight_scales[3] *= 1.5  # learned: not what a search finds
        q.conv1.weight_scales[3, 0] = driven_to
    fresh = cimq.prepare(nets.SmallCnn(), cimq.Policy.uniform(4, 4)).eval()
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(fresh.conv1.weight_scales, q.conv1.weight_scales)
    with torch.no_grad():
        assert torch.equal(fresh(x), q(x))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_deepcopy_and_pickle(duplicate: object) -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    again = duplicate(q)  # type: ignore[operator]
    with torch.no_grad():
        assert torch.equal(again(x), q(x))
    assert again.conv1 is not q.conv1


def test_torch_save_round_trip() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=3).eval()
    buffer = io.BytesIO()
    torch.save(q, buffer)
    buffer.seek(0)
    with torch.no_grad():
        assert torch.equal(torch.load(buffer, weights_only=False)(x), q(x))


def test_excludes_by_pattern() -> None:
    q = cimq.prepare(nets.ResNet(), exclude=["layers.1", "lin*"])
    names = [name for name, _ in quant_layers(q)]
    assert names == ["conv1", "layers.0.conv1", "layers.0.conv2", "layers.2.conv1", "layers.2.conv2"]
    assert type(q.linear) is nn.Linear
    assert [name for name, _ in quant_layers(cimq.prepare(nets.SmallCnn(), exclude="fc"))] == ["conv1", "conv2"]


def test_refusals_name_the_reason() -> None:
    with pytest.raises(ValueError, match="'head' matches no module"):
        cimq.prepare(nets.SmallCnn(), exclude=["head"])
    with pytest.raises(ValueError, match=r"no nn\.Conv2d or nn\.Linear"):
        cimq.prepare(nn.ReLU())
    with pytest.raises(ValueError, match="prepared already"):
        cimq.prepare(cimq.prepare(nets.SmallCnn()))
    with pytest.raises(TypeError, match="Module, got str"):
        cimq.prepare("model")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lacks 'conv2'"):
        cimq.prepare(nets.SmallCnn(), cimq.Policy({"conv1": (4, 4), "fc": (4, 4)}))
    with pytest.raises(ValueError, match="no quantised layers"):
        cimq.set_policy(nets.SmallCnn(), cimq.Policy.uniform(4, 4))
    with pytest.raises(ValueError, match="preset"):
        cimq.prepare(nets.SmallCnn(), hardware="papier")


def test_uncalibrated_model_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"call cimq\.calibrate"):
        cimq.prepare(nets.SmallCnn())(nets.images())


def test_example_inputs_calibrate_at_once() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), example_inputs=x).eval()
    with torch.no_grad():
        assert q(x).shape == (8, 4)


def test_module_in_two_places_stays_shared() -> None:
    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 2))
    q = cimq.prepare(model)
    assert q[0] is q[2]
    assert [name for name, _ in quant_layers(q)] == ["0", "3"]
    x = torch.randn(5, 6)
    cimq.calibrate(q, [x])
    assert q[0].act_signed is True  # the first of its two inputs is
    q(x).sum().backward()
    assert q[0].weight.grad is not None


def test_tied_weights_have_one_set_of_integers() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    q = prepared(model, x, bits=4)
    for tied in (q, copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert tied[0].weight is tied[2].weight
        assert tied[0].weight_scales is tied[2].weight_scales
        assert len([name for name, _ in tied.named_parameters() if name.endswith("weight")]) == 1
        with torch.no_grad():
            tied[0].weight_scales[3] *= 1.5  # as training does
        trained = tied[0].integer_weight()
        cimq.set_policy(tied, cimq.Policy.from_pairs([(4, 4), (3, 4)]))
        cimq.set_policy(tied, cimq.Policy.uniform(4, 4))
        assert torch.equal(tied[2].integer_weight(), trained)
    fresh = cimq.prepare(model, cimq.Policy.uniform(4, 4))
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(fresh[2].integer_weight(), q[0].integer_weight())
    fresh.load_state_dict(model.state_dict())  # fp32: searched anew, for both
    assert torch.equal(fresh[0].weight_scales, cimq.prepare(model, cimq.Policy.uniform(4, 4))[2].weight_scales)


def test_frozen_layers_keep_frozen_scales() -> None:
    model = nets.SmallCnn()
    model.conv1.requires_grad_(False)
    q = cimq.prepare(model)
    assert not q.conv1.weight_scales.requires_grad
    assert not q.conv1.act_scales.requires_grad
    groups = cimq.param_groups(q, lr=0.1, weight_decay=1e-3)
    ids = {id(p) for group in groups for p in group["params"]}
    assert id(q.conv1.weight) not in ids
    assert id(q.conv2.act_scales) in ids


def test_param_groups_hold_every_parameter_once() -> None:
    q = cimq.prepare(nets.SmallCnn())
    weights, scales = cimq.param_groups(q, lr=0.1, weight_decay=1e-3)
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 1e-3)
    assert (scales["lr"], scales["weight_decay"]) == (pytest.approx(0.01), 0.0)
    assert sorted(map(id, weights["params"] + scales["params"])) == sorted(id(p) for p in q.parameters())
    assert len(scales["params"]) == 6


def test_non_finite_weights_stay_fp32_and_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.data[0, 0] = float("nan")
    with pytest.warns(cimq.CimqWarning, match="0 .Linear.: its weight holds NaN"):
        cimq.prepare(model)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding="same", dilation=2),
        nn.Conv2d(4, 6, (2, 3), padding="same"),
        nn.Conv2d(4, 6, 3, padding="valid", stride=2),
        nn.Conv2d(4, 6, 3, padding=(1, 2), stride=(2, 1), groups=2),
        nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 6, (3, 2), padding="same", padding_mode="circular"),
        nn.Conv2d(4, 6, 3, padding=2, padding_mode="replicate", stride=2),
    ],
)
def test_geometries(conv: nn.Conv2d) -> None:
    x = nets.images(2, 9, channels=4)
    q = prepared(nn.Sequential(conv), x)
    wanted = conv(x)
    for mode in (True, False):
        got = q.train(mode)(x)
        assert got.shape == wanted.shape
        assert ((got - wanted).norm() / wanted.norm()).item() < 0.02
    torch.testing.assert_close(q.eval()(x[0]), q(x)[0])


def test_linear_takes_any_leading_dimensions() -> None:
    layer = nn.Linear(6, 3)
    x = torch.randn(2, 5, 6)
    q = prepared(nn.Sequential(layer), x).eval()
    torch.testing.assert_close(q(x[0, 0]), q(x)[0, 0])
    assert q(x).shape == (2, 5, 3)


def test_policy_switch_and_back_is_exact() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x).eval()
    policy = cimq.Policy.from_pairs([(4, 5), (3, 3), (8, 2)])
    with torch.no_grad():
        first = q(x)
        cimq.set_policy(q, policy)
        assert get_policy(q).pairs() == policy.pairs()
        assert q.conv2.weight_scale.shape == (12,)
        second = q(x)
        cimq.set_policy(q, cimq.Policy.uniform(8, 8))
        assert torch.equal(q(x), first)
        assert not torch.equal(first, second)


def test_one_bit_weights_have_two_values() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x)
    cimq.set_policy(q, cimq.Policy.uniform(1, 4))
    assert q.conv1.integer_weight().unique().tolist() == [-1, 1]
    q(x).sum().backward()
    assert float(q.conv1.weight_scales.grad[0].abs().sum()) > 0
    assert float(q.conv1.weight_scales.grad[1:].abs().sum()) == 0


def test_weights_that_are_computed_share_no_scales() -> None:
    """Each access makes a tensor that dies; the next may have its identity."""
    orthogonal, weight_norm = nn.utils.parametrizations.orthogonal, nn.utils.parametrizations.weight_norm
    for _ in range(20):
        layers = [orthogonal(nn.Linear(8, 8)) if i % 2 else weight_norm(nn.Linear(8, 8)) for i in range(8)]
        q = cimq.prepare(nn.Sequential(*layers))
        assert len({id(layer.weight_scales) for layer in q}) == 8


@pytest.mark.parametrize("per_channel", [True, False])
def test_scale_granularity(per_channel: bool) -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4, per_channel=per_channel)
    assert q.conv2.weight_scales.shape == ((8, 12) if per_channel else (8, 1))
    assert q.conv2.weight_scale.shape == (12,)
    q(x).sum().backward()
    assert bool((q.conv2.weight_scales.grad[3] != 0).all())
    q.eval()
    with torch.no_grad():
        assert bool(torch.isfinite(q(x)).all())


def test_a_scale_driven_below_zero_still_works_and_returns() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4)
    with torch.no_grad():
        q.conv1.weight_scales[3, 0] = -1.0
        q.conv1.act_scales[3] = -1.0
    q(x).sum().backward()
    assert bool(torch.isfinite(q.conv1.weight_scales.grad).all())


def test_non_finite_input_is_refused_by_layer_name() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x).eval()
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer 'conv1'"), torch.no_grad():
        q(x)


def test_evaluation_has_the_gradient_of_training() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=6).eval()
    y = q(x)
    with torch.no_grad():
        assert torch.equal(q(x), y)
    y.square().sum().backward()
    grads = {name: p.grad.clone() for name, p in q.named_parameters()}
    assert all(bool(torch.isfinite(g).all()) for g in grads.values())
    assert all(float(g.abs().sum()) > 0 for g in grads.values())


def test_training_step_moves_weights_and_scales() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).train()
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.1), momentum=0.9)
    before = {name: p.detach().clone() for name, p in q.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(q(x), torch.arange(8) % 4).backward()
        optimizer.step()
    same = [name for name, p in q.named_parameters() if torch.equal(p, before[name])]
    assert same in ([], ["conv2.bias"])  # batch normalisation takes that bias out again
