"""`python -m cimq` is the command `cimq`."""

from __future__ import annotations

from cimq.cli import main

main()
