"""The sounds inside a package: found in its archives and catalogues, and decoded."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from softmoa.data.audio import SAMPLE_RATE

FILE_SECONDS = 60  # of one file, so that no long piece of music outweighs a hundred effects
AUDIO = (".ogg", ".oga", ".opus", ".wav", ".flac", ".mp3", ".g722", ".au", ".aif", ".aiff")
ARCHIVES = (".zip", ".pk3", ".pk4", ".wz")


@contextmanager
def opened(package: Path) -> Iterator[tarfile.TarFile]:
    """The files of a .deb or a .tar.gz as one stream."""
    if package.suffix == ".gz":
        with tarfile.open(package, mode="r|gz") as tar:
            yield tar
        return
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
        yield tar
    unpack.wait()


def members(package: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every sound and copyright file, archives inside the package opened.

    The folder that holds everything in an archive of GitHub is not part of the path.
    """
    with opened(package) as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            if package.suffix == ".gz":
                path = path.partition("/")[2]
            name = path.lower()
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:  # a folder or a link
                continue
            if name.endswith(AUDIO) or name.endswith("/copyright"):
                yield path, file.read()
            elif name.endswith(ARCHIVES):
                data = io.BytesIO(file.read())
                if zipfile.is_zipfile(data):
                    with zipfile.ZipFile(data) as archive:
                        for inner in archive.namelist():
                            if inner.lower().endswith(AUDIO):
                                yield f"{path}/{inner}", archive.read(inner)
            elif name.endswith(".rcc"):
                for inner, data in qt_resources(file.read()):
                    if inner.lower().endswith(AUDIO):
                        yield path + inner, data
            elif name.endswith(".cat"):
                yield from openttd_sounds(path, file.read())


def qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a Qt resource bundle (.rcc).

    Header: magic `qres`, then big-endian version and the offsets of the tree, the data and the
    names. A tree entry holds its name's offset, flags (1: zlib, 2: folder) and either its children
    or the offset of its data; from version 2 on it is followed by a time stamp.
    """
    version, tree, payload, names = struct.unpack_from(">4I", data, 4)
    size = 14 if version == 1 else 22

    def name(entry: int) -> str:
        at = names + struct.unpack_from(">I", data, tree + entry * size)[0]
        letters = struct.unpack_from(">H", data, at)[0]
        return data[at + 6 : at + 6 + 2 * letters].decode("utf-16-be")

    def walk(entry: int, path: str) -> Iterator[tuple[str, bytes]]:
        flags = struct.unpack_from(">H", data, tree + entry * size + 4)[0]
        if flags & 2:
            count, first = struct.unpack_from(">II", data, tree + entry * size + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{path}/{name(child)}")
            return
        at = payload + struct.unpack_from(">I", data, tree + entry * size + 10)[0]
        content = data[at + 4 : at + 4 + struct.unpack_from(">I", data, at)[0]]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def openttd_sounds(path: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The RIFF files inside an OpenTTD sound catalogue, found by their magic."""
    for match in re.finditer(rb"RIFF(....)WAVE", data, re.DOTALL):
        length = 8 + struct.unpack("<I", match[1])[0]
        yield f"{path}/{match.start()}.wav", data[match.start() : match.start() + length]


def decode(path: str, data: bytes) -> np.ndarray:
    """The first FILE_SECONDS as mono float32 at 16 kHz; empty if the file cannot be read."""
    try:
        if path.endswith(".g722"):
            import av

            with av.open(io.BytesIO(data), mode="r", format="g722") as container:
                frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
            return np.concatenate(frames)[: FILE_SECONDS * SAMPLE_RATE] / np.float32(2**15)
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate = sound.samplerate
            samples = sound.read(FILE_SECONDS * rate, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, OSError, ValueError):
        return np.zeros(0, np.float32)
    samples = soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples
    peak = np.abs(samples).max(initial=0)
    return (samples / max(peak, 1)).astype(np.float32) if np.isfinite(peak) else samples[:0]
