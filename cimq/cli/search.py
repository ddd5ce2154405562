"""`cimq search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    config: Annotated[
        Path, typer.Argument(help="YAML or JSON: model, data, hardware, max_accuracy_drop or min_speedup, out, ...")
    ],
) -> None:
    """Search a policy as CONFIG says.

    Fine-tunes the best one and writes everything to the folder `out`.
    """
    import cimq
    from cimq.cli.search_config import read_search_config

    arguments = read_search_config(config)
    result: Any = cimq.search(arguments.pop("model"), arguments.pop("loader"), **arguments)
    result.save(arguments["out"])
    say(f"best policy: {result.policy.rows()}")
    say(f"results: {arguments['out']}")
