"""Shapes and types of every operator without its values: what torch.compile and export see.

These are the readable contracts of the operators; checks of values (ranges, NaN) happen in the kernels alone. Importing
this package registers them.
"""

from __future__ import annotations

from cimq.ops.fakes import crossbar as crossbar
from cimq.ops.fakes import layers as layers
from cimq.ops.fakes import pooling as pooling
from cimq.ops.fakes import quantizers as quantizers
from cimq.ops.fakes import training as training
