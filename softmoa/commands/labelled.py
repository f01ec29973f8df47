"""Labelled sounds as a command names them: a task, or a folder or zip of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from softmoa import tasks
from softmoa.tasks import Task, TaskError, own
from softmoa.tasks.own import OwnData


@contextmanager
def chosen_task(name: str, test: str, valid: str, split_seed: int | None) -> Iterator[Task]:
    """A task by name, or one's own sounds, with what is odd about them on stderr."""
    path = Path(name)
    if name in tasks.TASKS:
        if split_seed is not None:
            raise TaskError(f"The split of '{name}' is fixed; --split-seed is for your own sounds.")
        yield tasks.load(name, test, valid)
    elif not name or not path.exists():  # an empty name is the path of the current folder
        raise TaskError(
            f"There is no task '{name}', nor a folder or zip of that name; "
            f"there are {', '.join(tasks.TASKS)}."
        )
    elif test or valid:
        raise TaskError("Folds can be chosen for benchmarks only; give your sounds a split.")
    else:
        with own.opened(path, seed=split_seed or 0) as mine:
            print(own_data(mine), file=sys.stderr)
            yield mine.task


@contextmanager
def labelled(name: str, everything: bool, test: str, split_seed: int | None) -> Iterator[Task]:
    """A task, or one's own sounds: to take all of them, they need not suffice to train on."""
    if not (everything and name and Path(name).exists()) or name in tasks.TASKS:
        with chosen_task(name, test, "", split_seed) as task:
            yield task
        return
    with own.listed(Path(name)) as (rows, remarks):
        for remark in remarks:
            print(remark.message, file=sys.stderr)
        labels = sorted({row.label for row in rows})
        rows = [replace(row, split="test") for row in rows]
        yield tasks.task_of(own.name_of(Path(name)), name, labels, rows)


def own_data(mine: OwnData) -> str:
    """The clips of every class by split, and the remarks, as text."""
    counts = mine.task.counts
    lines = [f"{mine.task.name}: {mine.task.summary}"]
    for i, label in enumerate(mine.task.labels):
        lines.append(f"  {label}: " + ", ".join(f"{n[i]} {split}" for split, n in counts.items()))
    return "\n".join([*lines, *(remark.message for remark in mine.remarks)])
