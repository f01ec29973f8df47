"""A comparison on disk: events.jsonl and results.csv as it goes, a bundle for every run.

The folder can be read again, by the app or a study, also after an interrupted comparison.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from softmoa import bundle
from softmoa.experiment import ComparisonEvent, RunEvent, RunFinished

COLUMNS = (
    "method", "seed", "trained_parameters", "train_clips", "epochs", "seconds",
    "clips_per_second", "peak_memory_mb", "val_accuracy", "test_accuracy",
)  # fmt: skip


def record(events: Iterable[ComparisonEvent], folder: Path) -> Iterator[ComparisonEvent]:
    """Pass the events on, each after it is safely in `folder`."""
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    with (
        (folder / "events.jsonl").open("w", buffering=1) as log,
        (folder / "results.csv").open("w", buffering=1, newline="") as table,
    ):
        rows = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
        rows.writeheader()
        for event in events:
            if isinstance(event, RunFinished):
                rows.writerow({name: _rounded(getattr(event, name)) for name in COLUMNS})
                save_bundle(event, folder / "bundles")
            log.write(json.dumps(as_line(event)) + "\n")
            yield event


def save_bundle(run: RunFinished, folder: Path) -> Path:
    """Write the bundle of a run."""
    path = bundle_path(run, folder)
    save_file(run.state, path, metadata=bundle.header(run.info))
    return path


def bundle_path(run: RunFinished, folder: Path) -> Path:
    """Where the bundle of a run lies: named by task, method and seed."""
    return folder / f"{run.info.name}-seed{run.seed}.safetensors"


def as_line(event: ComparisonEvent) -> dict[str, Any]:
    """One event as plain values; tensors stay out of the log."""
    if isinstance(event, RunEvent):
        kind = type(event.event).__name__
        return {"event": kind, "run": event.run, "method": event.method, "seed": event.seed} | {
            key: _rounded(value) for key, value in asdict(event.event).items()
        }
    if isinstance(event, RunFinished):
        kept = {name: _rounded(getattr(event, name)) for name in COLUMNS}
        return {"event": "RunFinished", "run": event.run, **kept, "predicted": event.predicted}
    return {"event": type(event).__name__, **asdict(event)}


@dataclass(frozen=True)
class SavedComparison:
    """What a folder holds: rows of results.csv and lines of events.jsonl, as plain values."""

    rows: tuple[dict[str, str], ...]
    lines: tuple[dict[str, Any], ...]
    bundles: tuple[Path, ...]


def read(folder: Path) -> SavedComparison:
    """Read a folder of `record`; a line that was cut off by an interruption is left out.

    Raises FileNotFoundError if it holds no comparison.
    """
    lines = []
    for line in (folder / "events.jsonl").read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    with (folder / "results.csv").open(newline="") as table:
        rows = tuple(csv.DictReader(table))
    return SavedComparison(rows, tuple(lines), tuple(sorted((folder / "bundles").iterdir())))


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value
