"""VGG-11 with batch normalisation for 32x32 images: configuration A of Simonyan and Zisserman 2014, one linear layer.

A plain nn.Module: nothing in it knows of cimq.
"""

from __future__ import annotations

from torch import Tensor, nn

_CHANNELS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VggCifar(nn.Module):
    """Eight 3x3 convolutions and a linear layer.

    Args:
        classes: Outputs.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in _CHANNELS:
            if isinstance(channels, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, 32, 32] -> scores [N, classes]."""
        scores: Tensor = self.classifier(self.features(x).flatten(1))
        return scores
