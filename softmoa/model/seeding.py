"""Draws that are the same in every thread: torch's initialisers know only one, global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_one_at_a_time = RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the `with`, the global generator starts at `seed`; afterwards it is as it was.

    Threads wait for each other. Whatever draws from the global generator beside them would change
    what they draw, so nothing in this package does so outside of it.
    """
    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
