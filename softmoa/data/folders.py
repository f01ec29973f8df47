"""Folders beside the app's own, for what visitors leave and fetch."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path


def temporary(name: str) -> Path:
    """Where files of a kind go; of this user alone, so that another one of the machine cannot put
    folders there."""
    return Path(tempfile.gettempdir()) / f"softmoa-{name}-{os.getuid()}"


def sweep(root: Path, minutes: float) -> None:
    """Remove the folders in `root` that nothing was put into for so long."""
    for old in root.iterdir():
        with suppress(FileNotFoundError):  # another visitor sweeps at the same time
            if time.time() - old.lstat().st_mtime > 60 * minutes:
                remove(old)


def remove(path: Path) -> None:
    """A folder with all that is in it, or a link, but not what it leads to."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can look into, unless it is there.

    Raises PermissionError if it is there and others may put something into it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o002:
        raise PermissionError(errno.EPERM, "it is not yours alone", str(folder))
