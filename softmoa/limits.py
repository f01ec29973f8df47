"""Every bound of a server that strangers use, in one typed object.

The owner of a server changes a bound by its environment variable: `SOFTMOA_MAX_UPLOAD_MB=5` for
`upload_mb`. They are read once, when the process starts. The page shows them, and every handler
keeps to them, since a page does not bind those who call the server without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "SOFTMOA_MAX_"


class LimitError(ValueError):
    """More was asked for than this server gives; the message is one sentence for who asked."""


def _bound(default: float, least: float, most: float, says: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "says": says})


@dataclass(frozen=True)
class Limits:
    """The bounds, each with its default, its own range and what it means.

    Raises LimitError if a value is outside its range.
    """

    audio_seconds: float = _bound(30.0, 1, 600, "{} s of a sound are used")
    upload_mb: float = _bound(25.0, 0.1, 2000, "{} MB may be sent as one file")
    upload_minutes: int = _bound(30, 1, 1440, "{} minutes after which what was sent is deleted")
    download_minutes: int = _bound(10, 1, 1440, "{} minutes after which a download is deleted")
    queue: int = _bound(20, 1, 10_000, "{} requests may wait")
    sessions: int = _bound(200, 1, 100_000, "{} visitors are remembered at a time")
    classes: int = _bound(50, 2, 10_000, "{} classes in a data set")
    clips: int = _bound(2000, 4, 1_000_000, "{} clips in a data set")
    balance_sounds: int = _bound(200, 1, 100_000, "{} sounds to measure balance over")
    runs: int = _bound(12, 1, 1000, "{} runs (methods times seeds) in a comparison")
    run_steps: int = _bound(5000, 1, 10_000_000, "{} steps of training for each run")
    run_memory_mb: float = _bound(4000.0, 1, 1e6, "{} MB of memory for a step of training")
    comparisons_waiting: int = _bound(10, 1, 1000, "{} comparisons run or wait for their turn")
    comparisons: int = _bound(50, 1, 10_000, "{} comparisons are kept")
    comparison_hours: float = _bound(24.0, 0.1, 10_000, "{} hours after which one is deleted")
    run_seconds: float = _bound(60.0, 1, 86_400, "{} s of training for each run")
    model_mb: float = _bound(500.0, 1, 100_000, "{} MB for a model of the Hub")
    models: int = _bound(4, 0, 1000, "{} different models are fetched from the Hub")
    bundle_mb: float = _bound(50.0, 0.1, 10_000, "{} MB for a bundle of adapters")
    bundles: int = _bound(100, 0, 100_000, "{} bundles are fetched from the Hub")

    def __post_init__(self) -> None:
        for bound in fields(self):
            value, low, high = getattr(self, bound.name), *_range(bound)
            if not low <= value <= high:  # also refuses NaN
                raise LimitError(
                    f"{PREFIX}{bound.name.upper()} must be from {low:g} to {high:g}, not {value:g}."
                )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Limits:
        """The defaults but for what the environment says; raises LimitError on what is no limit."""
        known = {PREFIX + bound.name.upper(): bound for bound in fields(cls)}
        values = {}
        for name in sorted(name for name in environment if name.startswith(PREFIX)):
            if name not in known:
                raise LimitError(f"There is no limit {name}; there are {', '.join(known)}.")
            bound = known[name]
            number = int if isinstance(bound.default, int) else float
            try:
                values[bound.name] = number(environment[name])
            except ValueError:
                kind = "a whole number" if number is int else "a number"
                raise LimitError(f"{name} must be {kind}, not {environment[name]!r}.") from None
        return cls(**values)

    def sentences(self) -> list[str]:
        """Each bound in plain words, for people."""
        return [b.metadata["says"].format(f"{getattr(self, b.name):g}") for b in fields(self)]

    def check_upload(self, path: str | os.PathLike, most_mb: float | None = None) -> None:
        """Raises LimitError if a file is larger than `most_mb`, or than an upload may be.

        The web server checks what is uploaded to it; a caller may also have it fetch an address.
        """
        most = self.upload_mb if most_mb is None else most_mb
        size = Path(path).stat().st_size / 1e6
        if size > most:
            raise LimitError(f"The file has {size:.1f} MB; at most {most:g} MB can be used here.")


def _range(bound: Any) -> tuple[float, float]:
    return bound.metadata["least"], bound.metadata["most"]


def _of_this_process() -> Limits:
    try:
        return Limits.of(os.environ)
    except LimitError as error:  # no front door may open on a limit that its owner mistyped
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


LIMITS = _of_this_process()
