"""Comparisons behind the Compare tab: starting, keeping and reopening them, and their files.

A comparison is a job of `softmoa.jobs`; its id is the only key to it and to its folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from softmoa import jobs, race, run_directory, tasks
from softmoa.classify import load_backbone
from softmoa.cost import Estimate, estimate
from softmoa.experiment import ComparisonEvent, RunFinished, clip_name
from softmoa.jobs import Job
from softmoa.plan import Comparison, run_name
from softmoa.scoreboard import Scoreboard
from softmoa.tasks import Task

BACKBONE = "ast-small"
_RUNS = tempfile.TemporaryDirectory(prefix="softmoa-runs-", ignore_cleanup_errors=True)


@dataclass(frozen=True)
class Race:
    """What a job's `note` holds. task: None where a saved comparison's sounds are not at hand.
    weights: run -> estimated seconds."""

    folder: Path
    task: Task | None
    weights: dict[str, float]


@lru_cache(maxsize=1)
def embedded_tasks() -> dict[str, Task]:
    """The tasks whose sounds are at hand."""
    return {name: tasks.load(name) for name in tasks.available()}


def all_tasks(own: Sequence[Task] = ()) -> dict[str, Task]:
    """The tasks at hand and a visitor's own, by name."""
    return {**{task.name: task for task in own}, **embedded_tasks()}


def cost(task: Task, comparison: Comparison) -> Estimate:
    """Parameters, seconds and memory of a comparison. Raises TaskError if it cannot be run."""
    return estimate(load_backbone(BACKBONE), task, comparison)


def begin(task: Task, comparison: Comparison) -> Job[ComparisonEvent]:
    """Queue a comparison."""
    seconds = {of.method: of.seconds for of in cost(task, comparison).costs}
    weights = {
        run_name(choice.method, seed): seconds[choice.method]
        for seed in comparison.seeds
        for choice in comparison.choices
    }
    folder = _folder()

    def events() -> Generator[ComparisonEvent, None, None]:
        for event in run_directory.record(race.compare(BACKBONE, task, comparison), folder):
            # The tensors are in the bundle now, and a page may be open for hours.
            yield replace(event, state={}) if isinstance(event, RunFinished) else event

    return jobs.start(events, Race(folder, task, weights), forget=lambda: _remove(folder))


def reopen(path: Path, own: Sequence[Task] = ()) -> Job[ComparisonEvent]:
    """A saved comparison, from its zip or its events.jsonl.

    Raises TaskError with one sentence if it is neither.
    """
    folder = _folder()
    try:
        if path.suffix == ".zip":
            run_directory.unpack(path, folder)
        else:
            shutil.copyfile(path, folder / "events.jsonl")
        saved = run_directory.read(folder)
    except tasks.TaskError:
        _remove(folder)
        raise
    plan = Scoreboard().add_all(saved.events[:1]).plan
    task = all_tasks(own).get(plan.task) if plan else None
    if task and plan and tuple(clip_name(file) for file in task.test) != plan.clips:
        task = None  # another task of the same name
    return jobs.reopen(saved.events, Race(folder, task, {}), forget=lambda: _remove(folder))


def finished_run(job: Job | None, run: str | None) -> RunFinished | None:
    """The result of a run by its name."""
    for event in list(job.events) if job else []:
        if isinstance(event, RunFinished) and event.run == run:
            return event
    return None


def bundle_path(job: Job, run: RunFinished) -> Path | None:
    """The bundle of a run; None where a saved comparison came without."""
    path = run_directory.bundle_path(run, job.note.folder / "bundles")
    return path if path.is_file() else None


def bundle_key(job: Job, run: RunFinished) -> str:
    """What stands for a run's bundle in a page: it tells no path, and cannot be guessed."""
    return f"run/{job.id}/{run.run}"


def bundle_of_key(key: str) -> Path | None:
    """The bundle that a `bundle_key` stands for, if it is still kept."""
    kind, _, rest = key.partition("/")
    identity, _, name = rest.partition("/")
    job = jobs.find(identity) if kind == "run" else None
    run = finished_run(job, name)
    return bundle_path(job, run) if job and run else None


def _folder() -> Path:
    return Path(tempfile.mkdtemp(dir=_RUNS.name))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".zip").unlink(missing_ok=True)
