"""Networks of timm, unedited: prepared, calibrated, converted, exported, executed, value by value.

Weights are random, images small. They need timm, which `make test-cuda` installs; benchmarks/models/survey.py goes
through more of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from executed import check_equal_values
from torch import Tensor, nn

import cimq
from cimq.quantization import quant_layers

timm = pytest.importorskip("timm", reason="needs timm and torchvision (make test-cuda)")

slow = pytest.mark.slow
# What is particular about each, and the size of the images.
NETWORKS = [
    pytest.param("ghostnet_100", 64, id="features computed from features"),
    pytest.param("lcnet_050", 64, id="squeeze-excite with hard sigmoids"),
    pytest.param("tf_mobilenetv3_small_minimal_100", 64, id="padding computed from sizes"),
    pytest.param("mobileone_s0", 64, id="sums of branches", marks=slow),
    pytest.param("tf_efficientnet_b0", 64, id="padding computed from sizes, SiLU", marks=slow),
    pytest.param("resnet50d", 64, id="average pooling in shortcuts", marks=slow),
    pytest.param("resnetv2_50x1_bit", 64, id="weight standardisation, group normalisation", marks=slow),
    pytest.param("nf_resnet26", 64, id="scaled weights without normalisation", marks=slow),
    pytest.param("res2net50_26w_4s", 64, id="splits", marks=slow),
    pytest.param("mixnet_s", 64, id="mixed kernels", marks=slow),
    pytest.param("hrnet_w18_small", 64, id="several resolutions", marks=slow),
    pytest.param("dla34", 64, id="trees", marks=slow),
    pytest.param("convnext_atto", 64, id="layer normalisation, linear layers on images", marks=slow),
    pytest.param("cspresnet50", 64, id="partial stages, leaky ReLU", marks=slow),
    pytest.param("ecaresnet26t", 64, id="convolutions across channels", marks=slow),
    pytest.param("legacy_xception", 96, id="separable convolutions", marks=slow),
]


def built(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=10)
    return model.eval()


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.filterwarnings("ignore:calibrate. the input of these layers is zero:cimq.CimqWarning")
def test_integers_are_equal_up_to_the_executor(name: str, size: int, tmp_path: Path) -> None:
    x, model = images(3, size), built(name)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        cimq.reestimate_bn(model, [x])
    count = sum(isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)) for module in model.modules())
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), inplace=True).eval()
    cimq.calibrate(q, [x])
    assert len(quant_layers(q)) == count  # none stays fp32
    converted = cimq.convert(q)  # a warning of what it left would be an error
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:2])
    check_equal_values(q, converted, bundle, x)


# What has no form in a bundle yet is named, in the words of its model.
@pytest.mark.parametrize(
    ("name", "message"),
    [("convnextv2_atto", "the operation norm"), ("edgenext_xx_small", "the operation zeros")],
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_what_is_refused_is_named(name: str, message: str, tmp_path: Path) -> None:
    x = images(2, 64)
    q = cimq.prepare(built(name), cimq.Policy.uniform(4, 4), inplace=True).eval()
    cimq.calibrate(q, [x])
    with torch.no_grad():
        assert torch.equal(cimq.convert(q)(x), q(x))
    with pytest.raises(ValueError, match=f"export: {message}"):
        cimq.export(q, tmp_path / "net.cimq", x)
