"""The report of a run: one HTML page that needs nothing else."""

from __future__ import annotations

from cimq.report.page import write_report
from cimq.report.record import record_measurements
from cimq.report.run_data import RunData, load_run

__all__ = ["RunData", "load_run", "record_measurements", "write_report"]
