"""Zip files of strangers: checked before anything is unpacked, bounded while it is."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from softmoa.data.names import page_of, shown
from softmoa.data.task import TaskError

CHUNK = 2**20
LONGEST = 255  # bytes of a name of a file
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
    depth: int = 10


def unpack(
    archive: Path, target: Path, limits: ZipLimits, endings: tuple[str, ...] = ("",)
) -> None:
    """Unpack what is not hidden and has a name of one of the endings into the empty or new folder.

    Raises TaskError if the archive is encrypted, too large or would write outside, all before there
    is a folder, or if it is damaged, and OSError if the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = _checked(zipped, limits)
            target.mkdir(parents=True, exist_ok=True)
            for entry, path in entries:
                if not path.name.endswith(endings):
                    continue
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                # zipfile gives no more than `file_size` bytes, whatever the data unpack to, and
                # then compares their checksum.
                with zipped.open(entry) as source, (target / path).open("xb") as out:
                    shutil.copyfileobj(source, out, CHUNK)
    except (FileExistsError, NotADirectoryError):
        raise TaskError("The zip holds two files of one name.") from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            raise
        raise TaskError("This is not a zip file that can be read, or it is damaged.") from None


def _names(files: list[zipfile.ZipInfo]) -> list[str]:
    """In UTF-8 if they are marked so or Info-ZIP wrote that beside them, else in the likeliest code
    page."""
    coded = {e: e.orig_filename.encode("cp437") for e in files if not e.flag_bits & 0x800}
    page = page_of(b"\n".join(coded.values()))
    return [
        _beside(entry, coded[entry]) or coded[entry].decode(page)
        if entry in coded
        else entry.orig_filename
        for entry in files
    ]


def _beside(entry: zipfile.ZipInfo, name: bytes) -> str:
    """What the extra field "up" calls an entry, if it holds the checksum of its name."""
    before, _, after = entry.extra.partition(b"\1" + zlib.crc32(name).to_bytes(4, "little"))
    length = int.from_bytes(before[-2:], "little") - 5
    return after[:length].decode() if before[-4:-2] == b"up" else ""


def _checked(
    zipped: zipfile.ZipFile, limits: ZipLimits
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Entries that are files and not hidden, with their paths."""
    files = [entry for entry in zipped.infolist() if not entry.is_dir()]
    if len(files) > limits.files:
        raise TaskError(f"The zip holds {len(files)} files; at most {limits.files} are read.")
    unpacked = sum(entry.file_size for entry in files)
    packed = sum(entry.compress_size for entry in files)
    if unpacked > limits.total_mb * 1e6:
        raise TaskError(
            f"The zip unpacks to {unpacked / 1e6:.0f} MB; at most {limits.total_mb:g} MB are read."
        )
    if unpacked > limits.ratio * max(packed, 1):
        raise TaskError(f"The zip unpacks to more than {limits.ratio:g} times its size.")
    paths = [(e, _path(e, name, limits)) for e, name in zip(files, _names(files), strict=True)]
    return [pair for pair in paths if all(map(shown, pair[1].parts))]


def _path(entry: zipfile.ZipInfo, name: str, limits: ZipLimits) -> PurePosixPath:
    name = name.partition("\0")[0].replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the packer was no Unix
    if kind not in (0, stat.S_IFREG):
        raise TaskError(f"The zip holds a link or a device, '{_printable(name)}'.")
    elsewhere = path.is_absolute() or ".." in path.parts or name[1:2] == ":"  # a drive
    if elsewhere or not path.parts:
        raise TaskError(f"The zip holds a path that leads elsewhere, '{_printable(name)}'.")
    if any(len(part.encode("utf-8", "replace")) > LONGEST for part in path.parts):
        raise TaskError(f"A name in the zip is too long for a file: '{_printable(name)}…'.")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise TaskError(
            f"Names such as '{_printable(name)}' need PYTHONUTF8=1 to be set."
        ) from None
    if len(path.parts) > limits.depth:
        raise TaskError(f"The zip holds folders more than {limits.depth - 1} deep.")
    if entry.flag_bits & 1:
        raise TaskError("The zip is encrypted; please pack it without a password.")
    if entry.file_size > limits.file_mb * 1e6:
        raise TaskError(
            f"'{_printable(name)}' in the zip has {entry.file_size / 1e6:.0f} MB; at most "
            f"{limits.file_mb:g} MB are read."
        )
    return path


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:60])
