"""Every bound of a server that strangers use, in one typed object.

The owner of a server changes a bound by its environment variable: `SOFTMOA_MAX_UPLOAD_MB=5` for
`upload_mb`. The page shows them, and every handler keeps to them, since a page does not bind those
who call the server without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from softmoa.data.values import InputError, sentence

PREFIX = "SOFTMOA_MAX_"


class LimitError(InputError):
    """More was asked for than this server gives."""


def _bound(default: float, least: float, most: float, says: str) -> Any:
    return Field(default, ge=least, le=most, description=says)


class Limits(
    BaseModel,
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    alias_generator=lambda name: PREFIX + name.upper(),
    validate_by_name=True,
):
    """The bounds, each with its default, its own range and what it means."""

    audio_seconds: float = _bound(30.0, 1, 600, "{} s of a sound are used")
    timeline_seconds: float = _bound(3600.0, 1, 1e6, "{} s of a long sound are put on a timeline")
    upload_mb: float = _bound(25.0, 0.1, 2000, "{} MB may be sent as one file")
    uploads_mb: float = _bound(10_000.0, 1, 1e7, "{} MB of what is sent are kept at a time")
    upload_minutes: int = _bound(30, 1, 1440, "{} minutes after which what was sent is deleted")
    download_minutes: int = _bound(10, 1, 1440, "{} minutes after which a download is deleted")
    queue: int = _bound(200, 1, 10_000, "{} requests may wait")
    visitor_queue: int = _bound(30, 1, 10_000, "{} requests of one visitor are taken at a time")
    sessions: int = _bound(200, 1, 100_000, "{} visitors are remembered at a time")
    classes: int = _bound(50, 2, 10_000, "{} classes in a data set")
    clips: int = _bound(2000, 4, 1_000_000, "{} clips in a data set")
    balance_sounds: int = _bound(200, 1, 100_000, "{} sounds to measure balance over")
    runs: int = _bound(20, 1, 1000, "{} runs (methods times seeds) in a comparison")
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

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Limits:
        """The defaults but for what the environment says; raises LimitError on what is no limit."""
        said = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise LimitError(sentence(error)) from None

    def sentences(self) -> list[str]:
        """Each bound in plain words, for people."""
        return [
            str(field.description).format(f"{getattr(self, name):g}")
            for name, field in Limits.model_fields.items()
        ]

    def check_upload(self, path: str | os.PathLike) -> None:
        """Raises LimitError if a file is larger than an upload may be.

        The web server checks what is uploaded to it; a caller may also have it fetch an address.
        """
        size, most = Path(path).stat().st_size / 1e6, self.upload_mb
        if size > most:
            raise LimitError(f"The file has {size:.1f} MB; at most {most:g} MB can be used here.")


@lru_cache(maxsize=1)
def limits() -> Limits:
    """Of this process, read from the environment at the first call. Raises LimitError."""
    return Limits.of(os.environ)
