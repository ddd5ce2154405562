"""VGG-16 at 224 x 224 as the compiler sees it."""

from __future__ import annotations

from _builder import Bits, Builder

from cimq.bundle.network import Network

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


def vgg16(bits: Bits | tuple[int, int]) -> Network:
    """The network with (weight bits, activation bits) of its 16 layers, or one pair for all."""
    builder = Builder(bits, (3, 224, 224))
    last = "x"
    for stage, (channels, count) in enumerate(_STAGES):
        for number in range(count):
            name = f"conv{stage}.{number}"
            last = builder.operation(f"{name}.relu", "relu", (builder.conv(name, last, channels, 3, 1),))
        _, height, width = builder.shapes[last]
        pool = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1]}
        last = builder.operation(f"pool{stage}", "max_pool2d", (last,), (channels, height // 2, width // 2), **pool)
    last = builder.operation("flatten", "flatten", (last,), (512 * 7 * 7,))
    for number, outputs in enumerate((4096, 4096)):
        last = builder.operation(f"relu{number}", "relu", (builder.linear(f"fc{number}", last, outputs),))
    builder.linear("fc2", last, 1000)
    return builder.network()
