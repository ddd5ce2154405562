"""The network as layers.json and weights.safetensors describe it. Shapes are without the batch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from cimq.policy_rows import AS_THE_MACHINE, LayerMachine

_VERSION = "1.5.0"
_VERSION_OF_MACHINES = "1.6.0"  # written where a layer is not as the machine, so that other files stay what they were


@dataclasses.dataclass(frozen=True)
class CrossbarFacts:
    """What a crossbar layer is to the crossbars; the keys of its node in layers.json.

    Attributes:
        layer_name: Name in the policy.
        layer_index: Position in the policy order, which keeps the noise of layers apart.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Whether its input has a sign.
        outputs: Outputs of one group's matrix.
        inputs_per_output: Inputs of one group's matrix.
        invocations: Input vectors per sample and group.
        repeats: Groups.
        act_zero: Zero point of the input; 0 without an offset.
        machine: What the layer has otherwise than the machine; the keys adc_bits and mapping, where they are given.
    """

    layer_name: str
    layer_index: int
    weight_bits: int
    act_bits: int
    act_signed: bool
    outputs: int
    inputs_per_output: int
    invocations: int
    repeats: int
    act_zero: int = 0
    machine: LayerMachine = AS_THE_MACHINE


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation. `tensors` maps roles ("weight", "x_scale", ...) to values; `attrs` is plain JSON."""

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    crossbar: CrossbarFacts | None = None


@dataclasses.dataclass(frozen=True)
class Network:
    """Nodes in order of execution. `seed` and `chip` say which device variation the network runs with."""

    input_name: str
    input_shape: tuple[int, ...]
    output: str
    nodes: tuple[Node, ...]
    seed: int = 0
    chip: int = 0

    def crossbar_nodes(self) -> list[Node]:
        """Nodes that run on crossbars, in order of execution."""
        return [node for node in self.nodes if node.crossbar is not None]

    def layers_json(self) -> str:
        """The text of layers.json."""
        document = {
            "schema": "cimq.layers",
            "version": _VERSION_OF_MACHINES if self._chooses_machines() else _VERSION,
            "input": {"name": self.input_name, "shape": list(self.input_shape), "dtype": "float32"},
            "output": self.output,
            "chip": {"seed": self.seed, "chip": self.chip},
            "nodes": [_node_dict(node) for node in self.nodes],
        }
        return json.dumps(document, indent=1) + "\n"

    def _chooses_machines(self) -> bool:
        return any(node.crossbar is not None and node.crossbar.machine.given() for node in self.nodes)

    def weights(self) -> bytes:
        """The content of weights.safetensors."""
        tensors = {
            f"{node.name}.{role}": value.detach().cpu().contiguous().clone()
            for node in self.nodes
            for role, value in node.tensors.items()
        }
        return bytes(safetensors_bytes(tensors))


def _node_dict(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "shape": list(node.shape),
        "attrs": node.attrs,
        "tensors": {role: f"{node.name}.{role}" for role in node.tensors},
    }
    if node.crossbar is None:
        return entry
    facts = dataclasses.asdict(node.crossbar)
    if not facts["act_zero"]:
        del facts["act_zero"]
    del facts["machine"]
    return entry | facts | node.crossbar.machine.given()


def window_shape(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Height and width that a sliding window gives; padding as left, right, top, bottom."""
    left, right, top, bottom = padding
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return (
        (size[0] + top + bottom - reach[0]) // stride[0] + 1,
        (size[1] + left + right - reach[1]) // stride[1] + 1,
    )


def as_int8(weight: Tensor) -> Tensor:
    """Integer weights as the bundle stores them."""
    return weight.detach().to(torch.int8)
