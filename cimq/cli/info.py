"""`cimq info`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show versions, compiler, CUDA, instruction sets and threads."""
    from cimq.build_report import build_info

    facts = build_info()
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        say(f"{key:<{width}}  {', '.join(value) or 'none' if isinstance(value, list) else value}")
