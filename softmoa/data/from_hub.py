"""Public benchmarks from the Hub, laid out as their authors publish them.

There they are parquet files: a row holds the sound and its line of the dataset's own table. Both
are written into a folder of SOFTMOA_DATA, and from then on the benchmark is read as any other,
without the Hub.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softmoa.data import hub
from softmoa.data.benchmarks import ON_HUB, Listed, data_root
from softmoa.data.hub import HubError, Repository
from softmoa.data.task import TaskError

MOST_MB = 2000  # of one file


def fetch(name: str) -> Path:
    """The folder of a benchmark, downloaded if it is not there yet; a bar is drawn on stderr.

    Raises TaskError if it cannot be had; then nothing is left but what the Hub's cache holds.
    """
    if name not in ON_HUB:
        raise TaskError(f"'{name}' is not fetched from the Hub; {', '.join(ON_HUB)} are.")
    dataset, root = ON_HUB[name], data_root()
    folder = root / dataset.folder
    if folder.exists():
        return folder
    _pyarrow()  # before anything is downloaded
    try:
        repository = Repository(dataset.hub, kind="dataset")
        files = [f for f in hub.listing(repository) if f.endswith(".parquet")]
        if not files:
            raise TaskError(f"'{repository}' on the Hub holds no parquet files.")
        source = hub.fetch(repository, files, MOST_MB)
    except HubError as error:
        raise TaskError(str(error)) from None
    with tempfile.TemporaryDirectory(prefix=f".{dataset.folder}-", dir=root) as unfinished:
        try:
            finished = Path(unfinished) / dataset.folder
            lay_out(dataset, [source / file for file in sorted(files)], finished)
            finished.rename(folder)
        except OSError as error:
            raise TaskError(f"{folder} cannot be written: {error.strerror}.") from None
    return folder


def lay_out(dataset: Listed, files: list[Path], folder: Path) -> None:
    """Write the sounds and the table of parquet files into `folder`.

    Raises TaskError if a row lacks what the table needs, or would be written elsewhere.
    """
    table = folder / dataset.table
    table.parent.mkdir(parents=True)
    with table.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.DictWriter(lines, dataset.columns)
        rows.writeheader()
        for row in _rows(dataset, files):
            values = {name: row[name] for name in dataset.columns}
            if any(re.search(r"[/\\\0]|^\.*$", str(value)) for value in values.values()):
                raise TaskError(f"A name in '{dataset.hub}' is a path, which is refused.")
            clip = folder / dataset.clip.format(**values)
            sound = (row["audio"] or {}).get("bytes")
            if not sound:
                raise TaskError(f"The clip {clip.name} of '{dataset.hub}' has no sound.")
            clip.parent.mkdir(parents=True, exist_ok=True)
            clip.write_bytes(sound)
            rows.writerow(values)


def _rows(dataset: Listed, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows with the dataset's columns and `audio`, a few at a time."""
    arrow, columns = _pyarrow(), [*dataset.columns, "audio"]
    for file in files:
        try:
            table = arrow.parquet.ParquetFile(file)
            if missing := [name for name in columns if name not in table.schema_arrow.names]:
                raise TaskError(f"'{dataset.hub}' has no column '{missing[0]}'.")
            for part in table.iter_batches(batch_size=64, columns=columns):
                yield from part.to_pylist()
        except arrow.ArrowException:
            raise TaskError(f"{file.name} of '{dataset.hub}' cannot be read.") from None


def _pyarrow() -> Any:
    """An optional extra."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise TaskError(
            "Benchmarks from the Hub need pyarrow: pip install '.[hub-datasets]'."
        ) from None
    return pyarrow
