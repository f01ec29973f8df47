"""What visitors leave is deleted when its time is over, whether or not another one comes."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from softmoa.data import collection, folders
from softmoa.data.limits import limits
from softmoa.ui import comparing, explore_files

EVERY = 60.0  # seconds


def start() -> None:
    """Sweep from now on, until the process ends."""
    threading.Thread(target=_go_on, name="sweeper", daemon=True).start()


def sweep() -> None:
    """Remove the takes, downloads and comparisons that are kept no longer."""
    for remove in (
        partial(folders.sweep, collection.ROOT, limits().upload_minutes),
        partial(folders.sweep, explore_files.EXPORTS, limits().download_minutes),
        comparing.sweep,
    ):
        try:
            remove()
        except FileNotFoundError:  # none yet
            continue
        except OSError:  # the others go on, and this one next time
            logging.exception("a sweep failed")


def _go_on() -> None:
    while True:
        time.sleep(EVERY)
        sweep()
