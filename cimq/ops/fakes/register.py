"""How a function becomes the fake kernel of an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

_Fake = TypeVar("_Fake", bound=Callable[..., object])


def register_fake(name: str) -> Callable[[_Fake], _Fake]:
    """Decorator: the function gives the results of `cimq::name`, without values."""

    def register(fake: _Fake) -> _Fake:
        torch.library.register_fake(f"cimq::{name}", fake)
        return fake

    return register
