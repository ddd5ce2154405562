"""Where a model loses accuracy: what every layer, its converters and its cells do with data, and what to change.

`layer_errors` has `cimq.doctor`, `converters` what converters do (`adc_diagnostics`), `advice` what the numbers mean.
"""

from __future__ import annotations

from cimq.diagnosis.advice import Finding
from cimq.diagnosis.converters import AdcRow, adc_diagnostics
from cimq.diagnosis.layer_errors import doctor
from cimq.diagnosis.rows import DoctorRow
from cimq.diagnosis.summary import Diagnosis

__all__ = ["AdcRow", "Diagnosis", "DoctorRow", "Finding", "adc_diagnostics", "doctor"]
