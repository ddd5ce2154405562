"""The files that every bundle has: the network, its weights and bits, the machine, the program."""

from __future__ import annotations

from pathlib import Path

from cimq.bundle.network import Network
from cimq.bundle.programs import PROGRAM, CompiledProgram, compile_layers
from cimq.hardware import Hardware
from cimq.policy import Policy


def write_network(folder: Path, network: Network, hardware: Hardware) -> CompiledProgram:
    """Writes layers.json, weights.safetensors, policy.json, hardware.json and program.jsonl; the program, compiled."""
    layers_json = network.layers_json()
    program = compile_layers(layers_json, hardware)
    (folder / "layers.json").write_text(layers_json)
    (folder / "hardware.json").write_text(hardware.to_json() + "\n")
    (folder / "weights.safetensors").write_bytes(network.weights())
    (folder / PROGRAM).write_text(program.text)
    _policy(network).save(folder / "policy.json")
    return program


def _policy(network: Network) -> Policy:
    facts = [node.crossbar for node in network.crossbar_nodes() if node.crossbar is not None]
    facts.sort(key=lambda entry: entry.layer_index)
    return Policy({entry.layer_name: (entry.weight_bits, entry.act_bits, *entry.machine) for entry in facts})
