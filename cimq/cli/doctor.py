"""`cimq doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    model: Annotated[
        str, typer.Option("--model", help="package.module:factory of an nn.Module: plain, prepared or converted.")
    ],
    data: Annotated[str, typer.Option("--data", help="package.module:factory of an iterable of batches.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy file, for a model that is not prepared.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option("--hardware", help="Preset or file, for a model that is not prepared.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="package.module:factory of the fp32 model of a converted one.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Where the models are put, such as cuda.")] = None,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Batches to use at most.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows, converters and findings as JSON.")] = False,
) -> None:
    """Tell per layer where a quantised model loses accuracy, and what to change.

    A model that is not prepared is prepared for --policy (default: 8 bits) and --hardware (default: paper) and
    calibrated with the data. Modules are looked for in the present folder and on the Python path.
    """
    import cimq
    from cimq.cli.placing import placed
    from cimq.cli.search_config import named_function
    from cimq.quantization import QuantLayer
    from cimq.quantization.conversion.converted import CrossbarLayer

    network: Any = placed(named_function(model, "--model", Path.cwd())(), device, "--device")
    batches_of_data: Any = list(named_function(data, "--data", Path.cwd())())
    fp32: Any = None
    if reference is not None:
        fp32 = placed(named_function(reference, "--reference", Path.cwd())(), device, "--device")
    quantised = any(isinstance(module, (QuantLayer, CrossbarLayer)) for module in network.modules())
    if quantised and (policy is not None or hardware is not None):
        raise ValueError("doctor: --policy and --hardware are for a model that is not prepared; this one is")
    if not quantised:
        chosen = cimq.Policy.uniform(8, 8) if policy is None else cimq.Policy.load(policy)
        network = cimq.prepare(network, chosen, hardware or "paper")
        cimq.calibrate(network, batches_of_data, batches=batches)
    found = cimq.doctor(network, batches_of_data, batches=batches, reference=fp32)
    say(json.dumps(found.to_dict(), indent=1) if as_json else str(found))
