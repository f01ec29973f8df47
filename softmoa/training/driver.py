"""The one way to start a comparison, for the page, its HTTP interface and the command line."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from softmoa.data.tasks import Task
from softmoa.model import device
from softmoa.model.weights import load_backbone
from softmoa.training.compare import compare
from softmoa.training.cost import Pace, run_seconds
from softmoa.training.events import ComparisonEvent, Earlier
from softmoa.training.plan import Comparison
from softmoa.training.run_directory import left, record

# Assumed of a lent GPU.
PREPARING_SECONDS = 15.0
PACE = Pace(train=0.01, check=0.01, clip_mb=0, fixed_mb=0)


def run(
    backbone: str, task: Task | Sequence[Task], comparison: Comparison, folder: Path
) -> Generator[ComparisonEvent, None, None]:
    """Run a comparison on a backbone of `weights.load`, on the GPU where one is lent.

    Goes on with what `folder` holds of the same comparison. Each event comes after it is safely
    there; see `run_directory.record`.
    """
    earlier = left(folder)
    yield from record(_compare(backbone, task, comparison, earlier), folder, earlier)


def seconds_lent(
    backbone: str,
    task: Task | Sequence[Task],
    comparison: Comparison,
    earlier: Earlier | None = None,
) -> float:
    """For how long a comparison asks for the GPU."""
    task = task if isinstance(task, Task) else task[0]
    train, valid, test = len(task.train), len(task.valid), len(task.test)
    if comparison.shots:
        train = min(train, comparison.shots * len(task.labels))
    seconds = run_seconds(PACE, comparison.training, train, valid, test)
    return PREPARING_SECONDS + len(comparison.runs) * seconds


@device.on_gpu(seconds_lent)
def _compare(
    backbone: str, task: Task | Sequence[Task], comparison: Comparison, earlier: Earlier
) -> Iterator[ComparisonEvent]:
    base = load_backbone(backbone)
    device.placed(base.model)
    yield from compare(base, task, comparison, earlier=earlier)
