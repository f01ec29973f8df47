"""Unlabelled sounds from files and zips, one at a time and bounded; nothing is left on disk."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from torch import Tensor

from softmoa import audio

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".m4a", ".aac", ".webm"}
MAX_SOUNDS = 200
MAX_BYTES = 25_000_000  # of one sound
MAX_SECONDS = 10.0  # of one sound; the rest of it is not listened to


def log_mels(paths: Sequence[Path]) -> Iterator[tuple[str, Tensor | str]]:
    """(name, log-mel (frames, 128)) of each sound, or (name, what is wrong with it).

    Of a zip every file with a sound's suffix counts, in any folder; no name of it is ever used as
    a path. After `MAX_SOUNDS` sounds no more are read.
    """
    for count, (name, source) in enumerate(_sources(paths)):
        if count == MAX_SOUNDS:
            yield "", f"Only the first {MAX_SOUNDS} sounds were used."
            return
        if isinstance(source, str):
            yield name, source
            continue
        try:
            yield name, audio.log_mel(audio.load(source, MAX_SECONDS).waveform)
        except audio.AudioError as error:
            yield name, str(error)


def count(paths: Sequence[Path]) -> int:
    """How many sounds `log_mels` will give at most, without reading them."""
    total = 0
    for path in paths:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                total += len(_members(archive))
        else:
            total += 1
    return min(total, MAX_SOUNDS)


def _sources(paths: Sequence[Path]) -> Iterator[tuple[str, Path | str]]:
    for path in paths:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in _members(archive):
                    yield from _unpacked(archive, member)
        elif path.suffix.lower() == ".zip":
            yield path.name, "This zip is damaged; please make it again."
        else:
            yield path.name, path


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [
        member
        for member in archive.infolist()
        if (name := PurePosixPath(member.filename)).suffix.lower() in SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in name.parts)
    ]


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> Iterator[tuple[str, Path | str]]:
    """A file of a zip, on disk while the caller uses it."""
    name = PurePosixPath(member.filename).name
    try:
        with archive.open(member) as packed:
            data = packed.read(MAX_BYTES + 1)  # the size in the zip's own list may lie
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError):
        yield name, "It cannot be unpacked: it is damaged or has a password."
        return
    if len(data) > MAX_BYTES:
        yield name, f"It is larger than {MAX_BYTES // 10**6} MB."
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield name, Path(file.name)
