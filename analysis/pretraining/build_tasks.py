"""Build the embedded tasks, assets/tasks: `instruments`, `tones`, `initials` and `words`.

    python -m analysis.pretraining.build_tasks            build what differs from the manifests
    python -m analysis.pretraining.build_tasks words      that one alone
    python -m analysis.pretraining.build_tasks --check    build in a temporary folder and compare
    only

Sources are three Debian packages, downloaded once into $SOFTMOA_CORPUS/debs and read, never
installed, and of `words` the dataset in $SOFTMOA_DATA/SpeechCommands. Each task is a folder per
split and class with a manifest.csv: path, label, split, group (what is never shared by two splits),
source, licence, what was played or said, seconds and sha256. The same packages and the same
libsndfile give the same bytes.

What is in them: `instruments`, `syllables` and `commands` beside this file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from analysis import tables
from analysis.pretraining.clips import Clip, encode
from analysis.pretraining.commands import words
from analysis.pretraining.instruments import instruments
from analysis.pretraining.syllables import initials, tones
from softmoa.data.audio import SAMPLE_RATE
from softmoa.data.tasks import EMBEDDED

BUILDERS = {"instruments": instruments, "tones": tones, "initials": initials, "words": words}
LIMIT_BYTES = 13 * 10**6


@dataclass(frozen=True)
class Row:
    path: str
    label: str
    split: str
    group: str
    source: str
    licence: str
    detail: str
    seconds: str
    sha256: str


def build(name: str, target: Path) -> list[Row]:
    """Write the clips and the manifest of one task into an empty folder."""
    rows = []
    for serial, clip in enumerate(sorted(BUILDERS[name](), key=split_of)):
        data = encode(clip.samples, serial)
        path = target / clip.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(
            Row(
                clip.path,
                clip.label,
                clip.split,
                clip.group,
                clip.source,
                clip.licence,
                clip.detail,
                f"{len(clip.samples) / SAMPLE_RATE:g}",
                hashlib.sha256(data).hexdigest(),
            )
        )
    tables.write(target / "manifest.csv", [asdict(row) for row in rows])
    return rows


def split_of(clip: Clip) -> int:
    return ("train", "valid", "test").index(clip.split)


def read_rows(name: str) -> list[Row]:
    """The manifest of a task as it is; empty where there is none."""
    return [Row(**row) for row in tables.read(EMBEDDED / name / "manifest.csv")]


def damaged(name: str, rows: list[Row]) -> list[str]:
    """Paths of clips that are missing or differ from their rows."""
    bad = []
    for row in rows:
        path = EMBEDDED / name / row.path
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
            bad.append(row.path)
    return bad


def main(
    names: Annotated[list[str] | None, typer.Argument(help="tasks; default: all")] = None,
    check: bool = False,
) -> None:
    """Build the tasks, or check that a build gives what is there."""
    total = 0
    for name in names or BUILDERS:
        with tempfile.TemporaryDirectory() as scratch:
            rows = build(name, Path(scratch))
            size = sum(path.stat().st_size for path in Path(scratch).rglob("*.*"))
            same = rows == read_rows(name) and not damaged(name, rows)
            if not same and check:
                raise SystemExit(f"{name}: the build differs from {EMBEDDED / name}")
            if not same:
                shutil.rmtree(EMBEDDED / name, ignore_errors=True)
                shutil.copytree(scratch, EMBEDDED / name)
        total += size
        typer.echo(
            f"{name}: {len(rows)} clips, {size / 1e6:.2f} MB, {'as' if same else 'not as'} before"
        )
    if total > LIMIT_BYTES:
        raise SystemExit(f"{total / 1e6:.1f} MB are more than {LIMIT_BYTES / 1e6:g} MB")


if __name__ == "__main__":
    typer.run(main)
