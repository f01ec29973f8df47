"""The example clips that the tabs offer."""

from __future__ import annotations

import filecmp
from pathlib import Path

from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"


def example_clips() -> dict[str, Path]:
    """The example clips by name."""
    return {p.stem: p for p in sorted(EXAMPLES.iterdir()) if p.suffix in (".ogg", ".flac")}


def clip_name(path: str | None) -> str:
    """Name of the example clip that a sound is; empty for the visitor's own."""
    if not path or (example := example_clips().get(Path(path).stem)) is None:
        return ""
    try:
        return example.stem if filecmp.cmp(path, example, shallow=False) else ""
    except FileNotFoundError:  # swept away
        return ""
