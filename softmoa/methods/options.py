"""Options of methods, checked by their types: what a header or a form says may be anything."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Options:
    """Base of the options of every method; the defaults are its paper's.

    Whole numbers are at least 1, other numbers positive, choices among those of their Literal.
    Raises ValueError naming the field.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if problem := _problem(value, hints[field.name]):
                raise ValueError(f"{field.name} must be {problem}, not {value!r}")


def _problem(value: Any, kind: Any) -> str | None:
    """What `value` should be, if it is not."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if get_origin(kind) is Literal:
        return None if value in get_args(kind) else f"one of {', '.join(map(repr, get_args(kind)))}"
    if kind is bool:
        return None if isinstance(value, bool) else "True or False"
    if kind is int:
        return None if number and isinstance(value, int) and value >= 1 else "at least 1"
    assert kind is float, f"no rule for options of type {kind}"
    # The bounds keep a stranger's header from overflowing what is computed from it.
    return None if number and 1e-6 <= value <= 1e6 else "a number from 1e-6 to 1e6"
