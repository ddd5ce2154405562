"""Models of factories on a device that the user names."""

from __future__ import annotations

import torch
from torch import nn

from cimq.errors import first_line


def placed(model: nn.Module, device: str | None, key: str) -> nn.Module:
    """The model on a device, where one is named.

    Args:
        model: As its factory made it.
        device: "cpu", "cuda", "cuda:1", ...; None leaves it where it is.
        key: What named the device, for errors.

    Raises:
        ValueError: For what is no device, and for one that is not there.
    """
    if device is None:
        return model
    try:
        return model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # of a torch, or a machine, without it
        raise ValueError(
            f"{key} must be a device that is there, such as cpu, cuda or cuda:1, got {device!r} ({first_line(error)})"
        ) from None
