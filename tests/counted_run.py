"""A run of a grid that counts how often it was tried, and fails or dies as often as it is told."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Counted:
    """Leaves a mark with its process in `folder` each time; `fails` or `dies` as often as told."""

    folder: str
    name: str
    fails: int = 0
    dies: int = 0
    seconds: float = 0

    @property
    def times(self) -> int:
        return len(list(Path(self.folder).glob(f"{self.name}-*")))

    def execute(self):
        mark = Path(self.folder) / f"{self.name}-{time.monotonic_ns()}"
        mark.write_text(str(os.getpid()))
        time.sleep(self.seconds)
        if self.times <= self.dies:
            os._exit(1)
        if self.times <= self.fails:
            raise ArithmeticError("not yet")
        node = None
        if "ray" in sys.modules:
            time.sleep(1)  # so that no node is free for all runs
            node = sys.modules["ray"].get_runtime_context().get_node_id()
        return {"answer": 42, "node": node}
