"""What runs in a worker of a Ray cluster."""

from __future__ import annotations

import platform
from typing import Any

import torch

from cimq.policy_search.workers.local_worker import sendable
from cimq.policy_search.workers.pool import Call
from cimq.policy_search.workers.scheduler import answered
from cimq.policy_search.workers.sending import unpacked
from cimq.torch_tools.settings import TorchSettings
from cimq.version import __version__


def versions() -> dict[str, str]:
    """What must be the same on all machines: trained weights depend on it."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"cimq": __version__, "torch": torch.__version__, "python": python}


def own_gpu(storage: Any, location: str) -> Any:
    """Tensors of any GPU go to the one that Ray shows to a worker, which is number 0 there."""
    return storage.cuda(0) if location.startswith("cuda") else storage


class RayWorker:
    """An actor with its own copy of the tools.

    Args:
        content: The packed tools, from the object store.
        threads: Of PyTorch.
        settings: Of PyTorch, as the process that searches has them.
    """

    def __init__(self, content: Any, threads: int, settings: TorchSettings) -> None:
        settings.apply()
        torch.set_num_threads(threads)
        self._content = content
        self._tools: Any = None

    def hello(self) -> dict[str, str]:
        """Answers when the actor is there."""
        return versions()

    def answer(self, call: tuple[Any, ...]) -> bytes:
        """The packed answer of a call."""
        if self._tools is None:
            self._tools = unpacked(bytes(self._content), own_gpu)
            self._content = None
        return sendable(answered(Call(*call), self._tools))
