"""A comparison by the name of its backbone, on the GPU where one is lent."""

from __future__ import annotations

import math
from collections.abc import Generator

from softmoa import experiment, zero
from softmoa.classify import load_backbone
from softmoa.events import ComparisonEvent
from softmoa.plan import Comparison
from softmoa.tasks import Task

CLIPS_PER_SECOND = 100  # of training on a lent GPU; assumed, as are the seconds to prepare
PREPARING_SECONDS = 15.0


def seconds_lent(backbone: str, task: Task, comparison: Comparison) -> float:
    """For how long a comparison asks for the GPU."""
    del backbone
    recipe, train = comparison.training, len(task.train)
    if comparison.shots:
        train = min(train, comparison.shots * len(task.labels))
    steps, epochs = recipe.planned(train)
    passed = min(steps * recipe.batch, epochs * train) + (epochs + 1) * len(task.valid)
    training = min(recipe.seconds or math.inf, passed / CLIPS_PER_SECOND)
    testing = len(task.test) / CLIPS_PER_SECOND
    return PREPARING_SECONDS + len(comparison.run_names) * (training + testing)


@zero.on_gpu(seconds_lent)
def compare(
    backbone: str, task: Task, comparison: Comparison
) -> Generator[ComparisonEvent, None, None]:
    """`experiment.compare` on a backbone of `classify.load_backbone`."""
    base = load_backbone(backbone)
    zero.placed(base.model)
    yield from experiment.compare(base, task, comparison)
