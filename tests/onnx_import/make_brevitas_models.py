"""Writes data/brevitas_*.onnx: small networks with random weights, exported by Brevitas 0.13.4 in its QCDQ form.

pip install brevitas==0.13.4     # beside cimq's environment; the files are kept, so that tests need no Brevitas
python tests/onnx_import/make_brevitas_models.py
"""

from __future__ import annotations

from pathlib import Path

import brevitas.nn as qnn
import torch
from brevitas.export import export_onnx_qcdq
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    ShiftedUint8ActPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"


class Plain(nn.Module):
    """Convolutions of `w` and activations of `a` bits, a bias in float32, a pooling, a linear layer."""

    def __init__(self, w: int, a: int) -> None:
        super().__init__()
        self.stem = qnn.QuantConv2d(
            3, 6, 3, padding=1, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=8, bias=True,
            input_quant=Int8ActPerTensorFloat,
        )  # fmt: skip
        self.act1 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=a, return_quant_tensor=True)
        self.pool = nn.MaxPool2d(2)
        self.conv = qnn.QuantConv2d(
            6, 8, 3, stride=2, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=w, bias=False
        )
        self.act2 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=a, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(
            8 * 4, 5, bias=True, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=w, bias_quant=Int32Bias
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.stem(x))
        x = self.act2(self.conv(self.pool(x)))
        return self.fc(x.flatten(1))


class Inverted(nn.Module):
    """A MobileNet block: expanded, depthwise, projected, added to its input; batch normalisations that stay."""

    def __init__(self, w: int, a: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Module:
            return qnn.QuantConv2d(
                inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False,
                weight_quant=Int8WeightPerChannelFloat, weight_bit_width=w,
            )  # fmt: skip

        self.input = qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, bit_width=8)
        self.stem, self.bn0 = conv(3, 4, 3), nn.BatchNorm2d(4)
        self.quant = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=a, return_quant_tensor=False)
        self.expand, self.bn1 = conv(4, 12, 1), nn.BatchNorm2d(12)
        self.act1 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=a)
        self.depthwise, self.bn2 = conv(12, 12, 3, 12), nn.BatchNorm2d(12)
        self.act2 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=a)
        self.project, self.bn3 = conv(12, 4, 1), nn.BatchNorm2d(4)
        self.fc = qnn.QuantLinear(4, 5, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=w)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(self.bn0(self.stem(self.input(x))))
        y = self.act1(self.bn1(self.expand(x)))
        y = self.act2(self.bn2(self.depthwise(y)))
        x = self.quant(x + self.quant(self.bn3(self.project(y))))
        return self.fc(x.mean((2, 3)))


def write(name: str, model: nn.Module, opset: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 10, 10, generator=generator)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
        model.train()
        for batch in images.split(16):  # ranges of activations, batch statistics
            model(batch)
        model.eval()
    export_onnx_qcdq(
        model, args=images[:1], export_path=str(DATA / f"brevitas_{name}.onnx"), opset_version=opset, dynamo=False
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    DATA.mkdir(exist_ok=True)
    write("w4a4", Plain(4, 4), 13)
    write("w8a8", Plain(8, 8), 17)
    write("w2a3", Plain(2, 3), 17)
    write("block_w3a5", Inverted(3, 5), 16)
    write("block_w6a7", Inverted(6, 7), 17)
