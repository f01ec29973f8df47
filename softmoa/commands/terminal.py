"""What commands share: options, tables, and the words for what cannot be followed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SplitSeed = Annotated[
    int | None, typer.Option(help="Seed of the split of your own sounds.  [default: 0]")
]


class UserError(ValueError):
    """Words on the command line that cannot be followed, in one sentence."""


def print_rows(rows: list[dict], as_json: bool, line: str) -> None:
    print(json.dumps(rows) if as_json else "\n".join(line.format(**row) for row in rows))
