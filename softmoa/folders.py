"""Folders beside the app's own, for what visitors leave and fetch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def temporary(name: str) -> Path:
    """Where files of a kind go; of this user alone, so that another one of the machine cannot put
    folders there."""
    return Path(tempfile.gettempdir()) / f"softmoa-{name}-{os.getuid()}"


def make_private(folder: Path) -> None:
    """Make a folder that only this user can look into, unless it is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
