"""Folders beside the app's own, for what visitors leave and fetch."""

from __future__ import annotations

import os
import shutil
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
            if time.time() - old.stat().st_mtime > 60 * minutes:
                shutil.rmtree(old, ignore_errors=True)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can look into, unless it is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
