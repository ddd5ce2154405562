"""ResNet-18 at 224 x 224 as the compiler sees it."""

from __future__ import annotations

from _builder import Bits, Builder

from cimq.bundle.network import Network


def _block(builder: Builder, name: str, source: str, outputs: int, stride: int) -> str:
    shortcut = source
    if stride != 1:
        shortcut = builder.conv(f"{name}.downsample", source, outputs, 1, stride)
    first = builder.conv(f"{name}.conv1", source, outputs, 3, stride)
    second = builder.conv(f"{name}.conv2", builder.operation(f"{name}.relu1", "relu", (first,)), outputs, 3, 1)
    both = builder.operation(f"{name}.add", "add", (second, shortcut))
    return builder.operation(f"{name}.relu2", "relu", (both,))


def resnet18(bits: Bits) -> Network:
    """The network with (weight bits, activation bits) of its 21 layers.

    In the order of tests/data/policies_date2026.json: shortcuts before the convolutions of their blocks.
    """
    builder = Builder(bits, (3, 224, 224))
    last = builder.operation("relu", "relu", (builder.conv("conv1", "x", 64, 7, 2),))
    pool = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1]}
    last = builder.operation("maxpool", "max_pool2d", (last,), (64, 56, 56), **pool)
    for stage, outputs in enumerate((64, 128, 256, 512), start=1):
        for number in (0, 1):
            stride = 2 if stage > 1 and number == 0 else 1
            last = _block(builder, f"layer{stage}.{number}", last, outputs, stride)
    last = builder.operation("avgpool", "adaptive_avg_pool2d", (last,), (512, 1, 1), size=[1, 1])
    builder.linear("fc", builder.operation("flatten", "flatten", (last,), (512,)), 1000)
    return builder.network()
