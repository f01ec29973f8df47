"""What a section of the Experts tab hands to the tab that holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """Events to chain. redraw: after a new sound. rechoose: after another expert was chosen.

    reset: what a new sound sets anew.
    """

    redraw: dict[str, Any]
    rechoose: dict[str, Any] = field(default_factory=dict)
    reset: tuple[Any, ...] = ()
