"""Zip files of strangers: checked before anything is unpacked, bounded while it is."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from softmoa.tasks.task import TaskError

CHUNK = 2**20
# What zipfile and its decompressors raise on bytes that are not what they claim to be.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    UnicodeDecodeError,
)
# What a disk says that takes no more, however sound the zip.
NOT_WRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})


class TooMuch(TaskError):
    """A zip of more files or bytes than may be unpacked in all."""


@dataclass(frozen=True)
class ZipLimits:
    """What an archive may hold, whatever its headers say.

    files: entries that are no folders. ratio: bytes after unpacking to bytes before; silence packs
    well, sound does not. depth: parts of a path.
    """

    files: int = 2_500
    file_mb: float = 25.0
    total_mb: float = 500.0
    ratio: float = 100.0
    depth: int = 6


def unpack(archive: Path, target: Path, limits: ZipLimits, suffixes: frozenset[str]) -> int:
    """Unpack the files of these (lower-case) suffixes into the new folder `target`.

    Returns how many others were left out. Raises TaskError if the archive is damaged, encrypted,
    too large or would write outside, and OSError if the disk is full; then there is no `target`.
    """
    target.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            wanted, left_out = _checked(zipped, limits, suffixes)
            for entry, path in wanted:
                _extract(zipped, entry, target / path)
    except BaseException as error:
        shutil.rmtree(target)
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise TaskError("The zip holds two files of one name.") from None
        if isinstance(error, DAMAGE) and not not_writable(error):
            raise TaskError("This is not a zip file that can be read, or it is damaged.") from None
        raise
    return left_out


def not_writable(error: BaseException) -> bool:
    """Whether it is the disk, and not the zip, that cannot be used."""
    return isinstance(error, OSError) and error.errno in NOT_WRITABLE


def _checked(
    zipped: zipfile.ZipFile, limits: ZipLimits, suffixes: frozenset[str]
) -> tuple[list[tuple[zipfile.ZipInfo, PurePosixPath]], int]:
    """Entries to unpack with their paths, and the number of others."""
    files = [entry for entry in zipped.infolist() if not entry.is_dir()]
    if len(files) > limits.files:
        raise TooMuch(f"The zip holds {len(files)} files; at most {limits.files} are read.")
    unpacked = sum(entry.file_size for entry in files)
    packed = sum(entry.compress_size for entry in files)
    if unpacked > limits.total_mb * 1e6:
        raise TooMuch(
            f"The zip unpacks to {unpacked / 1e6:.0f} MB; at most {limits.total_mb:g} MB are read."
        )
    if unpacked > limits.ratio * max(packed, 1):
        raise TaskError(
            f"The zip unpacks to more than {limits.ratio:g} times its size, as no sounds do."
        )
    wanted = []
    for entry in files:
        path = _path(entry, limits)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if not hidden and path.suffix.lower() in suffixes:
            wanted.append((entry, path))
    return wanted, len(files) - len(wanted)


def _path(entry: zipfile.ZipInfo, limits: ZipLimits) -> PurePosixPath:
    name, path = entry.filename, PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the packer was no Unix
    if kind not in (0, stat.S_IFREG):
        raise TaskError(f"The zip holds a link or a device, '{_shown(name)}'.")
    elsewhere = path.is_absolute() or ".." in path.parts or name[1:2] == ":"  # a drive
    if elsewhere or set(name) & set("\\\0") or not path.parts:
        raise TaskError(f"The zip holds a path that leads elsewhere, '{_shown(name)}'.")
    if len(path.parts) > limits.depth:
        raise TaskError(f"The zip holds folders more than {limits.depth - 1} deep.")
    if entry.flag_bits & 1:
        raise TaskError("The zip is encrypted; please pack it without a password.")
    if entry.file_size > limits.file_mb * 1e6:
        raise TaskError(
            f"'{_shown(name)}' in the zip has {entry.file_size / 1e6:.0f} MB; at most "
            f"{limits.file_mb:g} MB are read."
        )
    return path


def _extract(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """zipfile gives no more than `file_size` bytes, whatever the data unpack to, and then compares
    their checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(entry) as source, path.open("xb") as out:
        shutil.copyfileobj(source, out, CHUNK)


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:60])
