"""Random numbers of a test depend on its name alone, not on the tests before it; no test has a time to keep.

hypothesis looks for new cases in every run, but where CI is set (continuous integration): a change is judged there by
the same cases as the change before it. `make soak` (tests/soak.py) looks for new cases for a stated time.
"""

from __future__ import annotations

import os
import random
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import cimq

settings.register_profile(
    "cimq", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("cimq")


def pytest_configure() -> None:
    """oneDNN's errors under a limited instruction set are said once: here, where that fails no test.

    Tests of the notice have processes of their own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cimq.CimqWarning)
        cimq.ops.has_integer_convolutions()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="another number draws other inputs in every test (default: 0)")


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seeds what draws numbers without a generator of its own."""
    seed = zlib.crc32(f"{request.config.getoption('--seed')} {request.node.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
