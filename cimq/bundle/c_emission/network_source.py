"""network.h and network.c: the nodes of a network, one call after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cimq.bundle.c_emission.calls import Values, call_of
from cimq.bundle.c_emission.simulator import SimulatedLayer
from cimq.bundle.c_emission.source_text import c_comment, c_string
from cimq.bundle.c_emission.values import place_values
from cimq.bundle.c_emission.weights import HEADER_BYTES, ORDER_MARK, WeightFile

_HEADER = """\
/* {made} */
#ifndef NETWORK_H
#define NETWORK_H

#include "cimq_ops.h"

#define NETWORK_INPUTS {inputs}   /* float32 values of a sample */
#define NETWORK_OUTPUTS {outputs} /* float32 values of its result */

typedef struct {{
  const char *node; /* where it went wrong */
  const char *message;
}} network_failure;

/* The content of weights.bin, to be freed by the caller; NULL and `failure` if it is not that of this network. */
void *network_load(const char *path, network_failure *failure);

/* One sample: x [NETWORK_INPUTS] to y [NETWORK_OUTPUTS], with `set_config` called before. 1, or 0 and `failure`.
   `observer` gets the integers of every crossbar layer; it may be NULL. */
int network_run(const void *weights, const float *x, float *y, cimq_observer observer, void *context,
                network_failure *failure);

#endif
"""

_BEGIN = """\
/* {made} */
#include "network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BYTES {weight_bytes}
#define VALUES {values} /* floats that are alive at once */
#define FLOATS(place) ((const float *)(bytes + (place)))
#define INTEGERS(place) ((const int8_t *)(bytes + (place)))

static const unsigned char kIdentity[16] = {{{identity}}};

static const char *check(const unsigned char *bytes, size_t count) {{
  const uint32_t order = {order}u;
  if (count != WEIGHT_BYTES || memcmp(bytes, kIdentity, sizeof kIdentity) != 0) {{
    return "is not the weights.bin that was written with network.c";
  }}
  return memcmp(bytes + sizeof kIdentity, &order, sizeof order) == 0 ? NULL : "needs a little-endian machine";
}}

void *network_load(const char *path, network_failure *failure) {{
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = malloc(WEIGHT_BYTES + 1); /* one more, so that a longer file shows */
  const char *wrong = file == NULL ? "cannot be opened" : bytes == NULL ? "out of memory" : NULL;
  if (wrong == NULL) wrong = check(bytes, fread(bytes, 1, WEIGHT_BYTES + 1, file));
  if (file != NULL) fclose(file);
  if (wrong == NULL) return bytes;
  free(bytes);
  failure->node = "weights";
  failure->message = wrong;
  return NULL;
}}

int network_run(const void *weights, const float *x, float *y, cimq_observer observer, void *context,
                network_failure *failure) {{
  const unsigned char *bytes = weights;
  const char *wrong = NULL;
  float *values = malloc(VALUES * sizeof *values);
  failure->node = "network";
  if (values == NULL) {{
    failure->message = "out of memory";
    return 0;
  }}
"""

_END = """\
done:
  free(values);
  failure->message = wrong;
  return wrong == NULL;
}
"""


def header_source(made: str, document: Mapping[str, Any]) -> str:
    """The text of network.h.

    Args:
        made: What it was made by and from.
        document: Content of layers.json.
    """
    shapes = _shapes(document)
    inputs, outputs = (math.prod(shapes[name]) for name in (document["input"]["name"], document["output"]))
    return _HEADER.format(made=c_comment(made), inputs=inputs, outputs=outputs)


def network_source(
    made: str, document: Mapping[str, Any], layers: Mapping[str, SimulatedLayer], weights: WeightFile, identity: bytes
) -> str:
    """The text of network.c; `weights` gets every tensor that it refers to.

    Raises:
        ValueError: For an operation that has no C, and for a network that gives its input back.
    """
    source, target = document["input"]["name"], document["output"]
    if source == target:
        raise ValueError(f"emit_c: the network's output must be that of a node, but is its input '{source}'")
    nodes: Sequence[Mapping[str, Any]] = document["nodes"]
    places, total = place_values(nodes, {source, target})
    expressions = {name: f"values + {place}" for name, place in places.items()}
    values = Values(_shapes(document), expressions | {source: "x", target: "y"}, weights, layers)
    body = [line for node in nodes for line in _block(node, values)]
    begin = _BEGIN.format(
        made=c_comment(made),
        weight_bytes=len(weights.content),
        values=max(1, total),
        identity=", ".join(str(byte) for byte in identity),
        order=hex(ORDER_MARK),
    )
    assert len(weights.content) >= HEADER_BYTES
    return begin + "\n".join(body) + "\n" + _END


def _block(node: Mapping[str, Any], values: Values) -> list[str]:
    shape = "x".join(str(size) for size in node["shape"])
    lines = call_of(node, values)
    after = []
    if lines[-1].startswith("wrong ="):
        after = [f"failure->node = {c_string(node['name'])};", "if (wrong != NULL) goto done;"]
    return [
        f"  {{ /* {c_comment(node['name'])}: {node['op']}, {shape} */",
        *(f"    {line}" for line in [*lines, *after]),
        "  }",
    ]


def _shapes(document: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = {node["name"]: tuple(node["shape"]) for node in document["nodes"]}
    return shapes | {document["input"]["name"]: tuple(document["input"]["shape"])}
