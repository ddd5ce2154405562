"""What runs in a local worker process."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch
from tqdm import tqdm

from cimq.policy_search.workers.pool import Call
from cimq.policy_search.workers.scheduler import Answer, answered
from cimq.policy_search.workers.sending import packed, unpacked
from cimq.torch_tools.settings import TorchSettings

_LOOKS_EVERY = 0.5  # seconds


def serve(connection: Connection, threads: int, settings: TorchSettings, parent: int) -> None:
    """Answers calls until the connection ends: a path is a file of tools, a `Call` is answered with them.

    Args:
        connection: To the process that started this one.
        threads: Of PyTorch.
        settings: Of PyTorch, as that process has them.
        parent: Number of that process.
    """
    # Ctrl-C goes to all processes of a terminal; the parent decides what becomes of the search.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _unblock_interrupts()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    settings.apply()
    torch.set_num_threads(threads)
    # Bars share a semaphore between processes otherwise, which a worker that is ended leaves behind, with a warning.
    tqdm.set_lock(threading.RLock())
    connection.send_bytes(b"ready")
    tools: Mapping[str, Any] = {}
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if isinstance(message, str):
            loader = Call("loader", "load", (message,))
            answer = answered(loader, {"loader": _Loader()})
            tools = answer.value if answer.error is None else {}
            answer = answer._replace(value=None)
        else:
            answer = answered(Call(*message), tools)
        try:
            connection.send_bytes(sendable(answer))
        except OSError:
            return


class _Loader:
    def load(self, path: str) -> Any:
        """The file's pages are shared by all workers; what a worker changes it has for itself."""
        return torch.load(path, mmap=True, weights_only=False)


def sendable(answer: Answer) -> bytes:
    """An answer as bytes; an error that cannot be sent, or made again, becomes a RuntimeError of its text."""
    try:
        content = packed(answer)
        if answer.error is not None:
            unpacked(content)
        return content
    except Exception as failure:
        cause = answer.error or failure
        text = RuntimeError(f"{type(cause).__name__}: {cause}")
        warned = [said._replace(category=UserWarning) for said in answer.warned]
        return packed(Answer(None, text, answer.trace, warned))


def _unblock_interrupts() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, however that did, and whatever is being computed."""
    while os.getppid() == parent:
        time.sleep(_LOOKS_EVERY)
    os._exit(1)
