"""Networks of torchvision, unedited: prepared, calibrated, trained for a step, converted, exported, executed.

Weights are random, images small. They need torchvision, which `make test-cuda` installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from executed import check_equal_values
from torch import Tensor, nn

import cimq
from cimq.quantization import get_policy, layer_shapes, quant_layers

models = pytest.importorskip("torchvision", reason="needs torchvision (make test-cuda)").models

CLASSES = 10
slow = pytest.mark.slow
# name -> crossbar layers, size of the images, whether onnxruntime checks the bundle too
CONVOLUTIONAL = [
    pytest.param("resnet18", 21, 32, True),
    pytest.param("mobilenet_v2", 53, 48, True),
    pytest.param("mobilenet_v3_small", 54, 48, True),
    pytest.param("resnet50", 54, 32, False, marks=slow),
    pytest.param("vgg16", 16, 224, False, marks=slow),  # its pooling to 7 x 7 is a plain one from 224 on
    pytest.param("vgg16_bn", 16, 224, False, marks=slow),
    pytest.param("efficientnet_b0", 82, 64, False, marks=slow),
]


def built(name: str, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = getattr(models, name)(weights=None, num_classes=CLASSES, **options)
    return model


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def trained_for_a_step(model: nn.Module, x: Tensor) -> nn.Module:
    """Prepared (in place: VGG-16 has 138 million weights), calibrated, one step."""
    cimq.reestimate_bn(model, [x])  # the weights are random: a trained model has batch statistics of its own
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), inplace=True)
    cimq.calibrate(q, [x])
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=1e-3))
    before = {name: parameter.detach().clone() for name, parameter in q.named_parameters() if parameter.dim() == 1}
    loss = F.cross_entropy(q.train()(x), torch.arange(len(x)) % CLASSES)
    loss.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(nn.utils.get_total_norm([p.grad for p in q.parameters() if p.grad is not None])))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert bool(torch.isfinite(loss))
    assert any(not torch.equal(q.get_parameter(name), value) for name, value in before.items())
    cimq.reestimate_bn(q, [x])
    return q.eval()


@pytest.mark.parametrize(("name", "count", "size", "check"), CONVOLUTIONAL)
def test_integers_are_equal_from_training_to_the_executor(
    name: str, count: int, size: int, check: bool, tmp_path: Path
) -> None:
    x = images(4 if size < 224 else 2, size)
    model = built(name)
    keys = set(model.state_dict())
    q = trained_for_a_step(model, x)
    assert len(quant_layers(q)) == count
    assert keys < set(q.state_dict())
    converted = cimq.convert(q, sample_input=x[:1])  # a warning of what it left would be an error
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2], check=check)
    check_equal_values(q, converted, bundle, x[:2])
    assert bundle.policy.pairs() == get_policy(q).pairs()
    assert cimq.compile(tmp_path / "net.cimq").latency.time_us == cimq.latency(q, sample_input=x).time_us


# One of each family that is not above: name -> size of the images, whether onnxruntime checks the bundle too.
FAMILIES = [
    pytest.param("squeezenet1_1", 48, True),
    pytest.param("shufflenet_v2_x0_5", 32, True),
    pytest.param("mnasnet0_5", 32, True),
    pytest.param("regnet_x_400mf", 32, True),
    pytest.param("regnet_y_400mf", 32, True),
    pytest.param("mobilenet_v3_large", 32, False, marks=slow),
    pytest.param("densenet121", 32, True, marks=slow),
    pytest.param("resnext50_32x4d", 32, False, marks=slow),
    pytest.param("wide_resnet50_2", 32, False, marks=slow),
    pytest.param("googlenet", 32, True, marks=slow),
    pytest.param("inception_v3", 80, True, marks=slow),
    pytest.param("efficientnet_v2_s", 32, False, marks=slow),
    pytest.param("convnext_tiny", 32, False, marks=slow),
    pytest.param("alexnet", 64, False, marks=slow),
    pytest.param("vgg11", 32, False, marks=slow),  # its pooling to 7 x 7 has windows that share pixels
]


@pytest.mark.parametrize(("name", "size", "check"), FAMILIES)
def test_every_family_runs_in_the_executor(name: str, size: int, check: bool, tmp_path: Path) -> None:
    x = images(3, size)
    model = built(name, **({"init_weights": False} if name in ("googlenet", "inception_v3") else {}))
    cimq.reestimate_bn(model, [x])
    # GoogLeNet and Inception do not call their auxiliary heads in evaluation.
    heads = [child for child, _ in model.named_children() if child.lower().startswith("aux")]
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), inplace=True, exclude=heads)
    cimq.calibrate(q.eval(), [x])
    converted = cimq.convert(q)  # without a sample: right for every size of images
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2], check=check)
    check_equal_values(q, converted, bundle, x)
    other = images(2, size + 16)
    with torch.no_grad():
        assert torch.equal(converted(other), q(other))


# Attention in windows, by functions and einsum of their own, has no form in a bundle yet.
@pytest.mark.parametrize(("name", "size"), [("swin_t", 32), ("swin_v2_t", 32), ("maxvit_t", 224)])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_attention_is_refused_by_name(name: str, size: int, tmp_path: Path) -> None:
    x = images(2, size)
    options = {"maxvit_t": {"input_size": (size, size)}}.get(name, {})
    q = cimq.prepare(built(name, **options), cimq.Policy.uniform(4, 4), inplace=True)
    cimq.calibrate(q.eval(), [x])
    with pytest.raises(ValueError, match=r"export: .*(has no form in a bundle|has no torch.fx graph|cannot hold)"):
        cimq.export(q, tmp_path / "net.cimq", x)


@pytest.mark.parametrize(("name", "size", "tokens"), [pytest.param("vit_b_32", 64, 5), pytest.param("vit_b_16", 32, 5)])
@pytest.mark.slow
def test_vision_transformers(name: str, size: int, tokens: int, tmp_path: Path) -> None:
    x = images(3, size)
    q = trained_for_a_step(built(name, image_size=size), x)
    block = [f"self_attention.{part}" for part in ("in_proj", "qk", "av", "out_proj")] + ["mlp.0", "mlp.3"]
    layers = [f"encoder.layers.encoder_layer_{i}.{part}" for i in range(12) for part in block]
    assert [layer for layer, _ in quant_layers(q)] == ["conv_proj", *layers, "heads.head"]
    converted = cimq.convert(q, sample_input=x[:1])
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2], check=name == "vit_b_32")
    check_equal_values(q, converted, bundle, x[:2])
    shapes = {shape.name: shape for shape in layer_shapes(q, x)}
    qk, av = shapes[layers[1]], shapes[layers[2]]
    assert (qk.outputs, qk.inputs, qk.invocations, qk.repeats) == (tokens, 64, tokens, 12)
    assert (av.outputs, av.inputs, av.invocations, av.repeats) == (64, tokens, tokens, 12)
    report = cimq.latency(q)
    assert report == cimq.latency(q, sample_input=x)
    assert cimq.compile(tmp_path / "net.cimq").latency.time_us == report.time_us
    by_name = {layer.name: layer for layer in report.layers}
    assert (by_name[layers[1]].writes, by_name[layers[1]].mvms) == (12, 12 * tokens * 4)
    assert report.speedup > 1.5
