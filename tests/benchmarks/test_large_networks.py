"""benchmarks/compiler: the shapes that the compiler is timed with are those of the networks."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from cimq.bundle.programs import compile_layers
from cimq.hardware import Hardware

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def benchmark_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "compiler"))


@pytest.mark.parametrize("network", ["vgg16", "resnet18"])
def test_convolutional_networks_are_the_published_ones(network: str) -> None:
    wanted = json.loads((ROOT / "tests" / "data" / "policies_date2026.json").read_text())["layers"][network]
    made: Any = getattr(importlib.import_module(f"_{network}"), network)([(8, 8)] * len(wanted))
    facts = [node.crossbar for node in made.crossbar_nodes()]
    keys = {"outputs": "outputs", "inputs": "inputs_per_output", "invocations": "invocations", "repeats": "repeats"}
    assert [{key: getattr(one, name) for key, name in keys.items()} for one in facts] == [
        {key: layer[key] for key in keys} for layer in wanted
    ]


def test_vit_writes_every_head() -> None:
    network = importlib.import_module("_vit").vit_b((8, 8))
    program = compile_layers(network.layers_json(), Hardware.preset("paper"))
    assert len(program.layers) == 74
    layers = {layer.name: layer for layer in program.layers}
    qk, av = layers["block3.qk"], layers["block3.av"]
    assert (qk.outputs, qk.inputs, qk.invocations, qk.repeats) == (50, 64, 50, 12)
    assert (av.outputs, av.inputs, av.invocations, av.repeats) == (64, 50, 50, 12)
    assert program.simulated.time_us == program.latency.time_us
