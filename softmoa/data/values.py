"""Values from outside: what they may be is declared with pydantic, and said in one sentence."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # first letters that a spreadsheet acts upon


class InputError(ValueError):
    """Something from outside cannot be used; the message is one sentence for who gave it."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # it may quote a cell of several lines


# Numbers that can have been counted, measured or chosen; of a share all digits but the last.
Count = Annotated[int, Field(ge=0, le=10**12)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Measure = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=-1e-6, le=1 + 1e-6)]

# Of models and dataclasses: no "7" for 7, no True for 1, no field that is not declared.
STRICT = ConfigDict(strict=True, extra="forbid")


def to_json(value: Any) -> str:
    """JSON on one line; a NaN or an infinity, for which JSON has no word, is null."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))


def to_cell(text: str) -> str:
    """A text for a table, where no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def of_cell(cell: str) -> str:
    """What `to_cell` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


def sentence(error: ValidationError) -> str:
    """The first problem that pydantic found, as one plain sentence for a person, such as
    `experts must be greater than or equal to 1, not 0.`"""
    problem = error.errors(include_url=False)[0]
    name = ".".join(map(str, problem["loc"])) or "the whole"
    message, value = problem["msg"].partition(", unable to parse")[0], repr(problem["input"])
    shown = value if len(value) <= 40 else value[:40] + "…"
    match problem["type"]:
        case "missing":
            return f"{name} is missing."
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{name} is unknown."
        case "json_invalid":
            return f"{message}."
        case "value_error":
            return f"{message.removeprefix('Value error, ')}."
    return f"{name} {message.replace('Input should', 'must', 1)}, not {shown}."
