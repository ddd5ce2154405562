"""Small networks that other tools quantise: onnxruntime's static quantiser, torch.onnx on fake-quantised modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnxruntime import quantization as ort
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"


class Residual(nn.Module):
    """Convolutions, an addition, a concatenation, both poolings, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.down = nn.Conv2d(12, 8, 2, stride=2, groups=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        y = self.conv2(F.relu(self.bn1(self.conv1(x))))
        x = torch.cat([F.relu(x + y), F.avg_pool2d(y, 3, 1, 1)], 1)
        x = F.relu6(self.down(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Mobile(nn.Module):
    """A block of MobileNetV3: expanded, depthwise, squeezed and excited, projected, added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.expand = nn.Conv2d(4, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project = nn.Conv2d(12, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        y = F.hardswish(self.depthwise(F.hardswish(self.expand(x))))
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = x + self.project(y)
        return self.fc(x.mean((2, 3)))


class Transformer(nn.Module):
    """A block with attention written out, GELU and layer normalisations, on patches of an image."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.patches = nn.Conv2d(3, dim, 5, stride=5)
        self.place = nn.Parameter(torch.randn(1, 4, dim) * 0.1)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.head = nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = torch.softmax(q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5, dim=-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(batch, tokens, dim))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))


class FakeQuantised(nn.Module):
    """What quantisation-aware training with torch's own fake quantisers leaves."""

    def __init__(self, low: int, high: int, signed: bool) -> None:
        super().__init__()
        self.low, self.high, self.zero = low, high, 0 if signed else 3
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.fc = nn.Linear(6 * 25, 5)

    def _activation(self, x: Tensor, scale: float) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, scale, self.zero, self.low, self.high)

    def _weight(self, w: Tensor) -> Tensor:
        # As torch's observer of symmetric weights has it: the lowest integer occurs.
        scale = w.abs().flatten(1).amax(1) / 127.5
        return torch.fake_quantize_per_channel_affine(w, scale, torch.zeros(len(w), dtype=torch.int32), 0, -128, 127)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self._activation(x, 0.04), self._weight(self.conv1.weight), self.conv1.bias, padding=1)
        x = self._activation(F.max_pool2d(F.relu(x), 2), 0.03)
        x = F.conv2d(x, self._weight(self.conv2.weight), self.conv2.bias, padding=1, groups=2)
        x = self._activation(F.relu(x), 0.02)
        return F.linear(x.flatten(1), self._weight(self.fc.weight), self.fc.bias)


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var") or (value.dim() == 1 and "norm" in name and name.endswith("weight")):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                spread = max(1, value[0].numel()) ** -0.5 if value.dim() > 1 else 0.2
                value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return model.eval().requires_grad_(False)


def images(batch: int, seed: int = 1, size: int = 10) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size)).astype(np.float32)


def exported(model: nn.Module, path: Path, opset: int, *, dynamic: bool = False) -> Path:
    """By torch.onnx."""
    axes = {"x": {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            seeded(model),
            (torch.from_numpy(images(1)),),
            str(path),
            opset_version=opset,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
        )
    return path


class Calibration(ort.CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [images(1, seed) for seed in range(8)]

    def get_next(self) -> Any:
        return {"x": self.left.pop()} if self.left else None


def by_onnxruntime(model: nn.Module, path: Path, opset: int, **options: Any) -> Path:
    """Exported in float32, then onnxruntime's static quantiser in its QDQ form."""
    source = exported(model, path.with_suffix(".float.onnx"), opset)
    ort.quantize_static(str(source), str(path), Calibration(), quant_format=ort.QuantFormat.QDQ, **options)
    return path


_U8, _S8, _U4, _S4 = (getattr(ort.QuantType, name) for name in ("QUInt8", "QInt8", "QUInt4", "QInt4"))

MADE: dict[str, Callable[[Path], Path]] = {
    "onnxruntime, u8 s8, opset 13": lambda p: by_onnxruntime(Residual(), p, 13, activation_type=_U8, weight_type=_S8),
    "onnxruntime, s8 s8 per channel": lambda p: by_onnxruntime(
        Residual(), p, 17, activation_type=_S8, weight_type=_S8, per_channel=True
    ),
    "onnxruntime, symmetric activations": lambda p: by_onnxruntime(
        Residual(), p, 14, activation_type=_S8, weight_type=_S8, extra_options={"ActivationSymmetric": True}
    ),
    "onnxruntime, asymmetric weights": lambda p: by_onnxruntime(
        Residual(), p, 17, activation_type=_U8, weight_type=_U8
    ),
    "onnxruntime, reduced range": lambda p: by_onnxruntime(
        Residual(), p, 16, activation_type=_U8, weight_type=_S8, reduce_range=True, per_channel=True
    ),
    "onnxruntime, 4-bit weights": lambda p: by_onnxruntime(
        Residual(), p, 18, activation_type=_U8, weight_type=_S4, per_channel=True
    ),
    "onnxruntime, unsigned 4-bit weights": lambda p: by_onnxruntime(
        Residual(), p, 18, activation_type=_S8, weight_type=_U4
    ),
    "onnxruntime, MobileNet block": lambda p: by_onnxruntime(
        Mobile(), p, 15, activation_type=_U8, weight_type=_S8, per_channel=True
    ),
    "onnxruntime, transformer block": lambda p: by_onnxruntime(
        Transformer(), p, 17, activation_type=_U8, weight_type=_S8, per_channel=True
    ),
    "onnxruntime, transformer block, layers only": lambda p: by_onnxruntime(
        Transformer(), p, 20, activation_type=_S8, weight_type=_S8, op_types_to_quantize=["MatMul", "Gemm", "Conv"]
    ),
    "torch.onnx, fake-quantised": lambda p: exported(FakeQuantised(-128, 127, signed=True), p, 13),
    "torch.onnx, 7 bits, any batch": lambda p: exported(FakeQuantised(0, 127, signed=False), p, 17, dynamic=True),
}
"""Name -> what writes the file."""
for _file in sorted(DATA.glob("*.onnx")):  # of make_brevitas_models.py and make_dynamo_models.py
    MADE[_file.stem.replace("_", " ")] = lambda p, source=_file: Path(source)  # type: ignore[misc]
