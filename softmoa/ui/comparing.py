"""Comparisons that the page runs: starting, keeping and reopening them, and their files.

A comparison is a job of `softmoa.ui.jobs`; its id is the only key to it and to its folder. Folders
outlive the process: a server that was killed and started again still has what was finished.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from softmoa import ASSETS
from softmoa.data import folders, tasks
from softmoa.data.limits import limits
from softmoa.data.tasks import Task, TaskError, clip_name
from softmoa.model import device
from softmoa.model.weights import load_backbone
from softmoa.training import driver, run_directory
from softmoa.training.cost import Estimate, estimate
from softmoa.training.events import (
    ComparisonEvent,
    Planned,
    Preparing,
    RunEvent,
    RunFinished,
)
from softmoa.training.fit import Evaluating, Step
from softmoa.training.plan import Comparison, title
from softmoa.ui import jobs
from softmoa.ui.jobs import Job

BACKBONE = "ast-small"
# Recorded, for those who do not want to wait: file in ASSETS -> what a button says of it.
RECORDED = {
    "initials": "Show the recorded race",
    "collapse": "Show one in which a router collapses",
}
VISITING = "reopened"  # the folder in `runs` of what visitors brought

IN_USE = (
    "Another server keeps its comparisons in {folder} too, and each may delete the other's; name "
    "another folder by SOFTMOA_RUNS."
)

_examples: dict[str, Job] = {}
_locks: list[TextIO] = []  # open while the process lives


@dataclass(frozen=True)
class JobDetails:
    """What a job's `note` holds. task: None where a saved comparison's sounds are not at hand.
    weights: run -> estimated seconds."""

    folder: Path
    task: Task | None
    weights: dict[str, float]


@lru_cache(maxsize=1)
def runs() -> Path:
    """The folder of all comparisons of this server, by SOFTMOA_RUNS."""
    return Path(os.environ.get("SOFTMOA_RUNS") or folders.temporary("runs"))


@lru_cache(maxsize=1)
def embedded_tasks() -> dict[str, Task]:
    """The tasks whose sounds are at hand."""
    return tasks.available()


def all_tasks(own: Sequence[Task] = ()) -> dict[str, Task]:
    """The tasks at hand and a visitor's own, by name."""
    return {**{task.name: task for task in own}, **embedded_tasks()}


def cost(task: Task, comparison: Comparison) -> Estimate:
    """Parameters, seconds and memory of a comparison. Raises TaskError if it cannot be run."""
    try:
        return estimate(load_backbone(BACKBONE), task, comparison)
    except (MemoryError, RuntimeError) as error:  # a step of every new method is tried
        if not device.out_of_memory(error):
            raise
        device.release()
        raise TaskError("There is not enough memory for this now; please try less.") from None


def begin(task: Task, comparison: Comparison) -> Job:
    """Queue a comparison: of the Compare tab, of Your sounds, or of the HTTP interface.

    task: of several folds the first; the others are loaded here.
    Raises TaskError if this server cannot run it, or not now.
    """
    seconds = {of.method: of.seconds for of in affordable(task, comparison).costs}
    weights = {run.name: seconds[run.entry] for run in comparison.runs}
    folds = [task, *(tasks.load(task.name, fold) for fold in comparison.folds[1:])]
    job = _new_job(task, weights)
    folder = job.note.folder
    try:
        return jobs.start(
            lambda: driver.run(BACKBONE, folds, comparison, folder),
            job,
            limits().comparisons_waiting,
        )
    except jobs.Full as error:
        job.forget()
        raise TaskError(str(error)) from None


def affordable(task: Task, comparison: Comparison) -> Estimate:
    """The cost of a comparison. Raises TaskError if this server does not give that much."""
    found = cost(task, comparison)
    most = max(found.costs, key=lambda of: of.memory_mb)
    if most.memory_mb > limits().run_memory_mb:
        raise TaskError(
            f"A step of {title(most.method)} would hold {most.memory_mb:.0f} MB of memory; "
            f"at most {limits().run_memory_mb:g} MB are given here."
        )
    seconds = driver.seconds_lent(BACKBONE, task, comparison)
    if device.zero_gpu() and seconds > device.LONGEST:
        raise TaskError(
            f"This would need the GPU for some {seconds:.0f} s; it is lent for {device.LONGEST} s "
            "at most: choose fewer methods, seeds, clips or epochs."
        )
    return found


def claim() -> None:
    """Take the folder of comparisons for the life of this process, and say if another has it.

    Raises TaskError if it cannot be used.
    """
    try:
        folders.make_private(runs())
        _locks.append((runs() / "lock").open("w"))
        fcntl.flock(_locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(IN_USE.format(folder=runs()), file=sys.stderr)
    except OSError as error:
        said = f"Comparisons cannot be kept in {runs()}: {error.strerror}."
        raise TaskError(f"{said} Name another folder by SOFTMOA_RUNS.") from None


def find(identity: str | None) -> Job | None:
    """A comparison by its id, if it is still kept; one of an earlier process is read again."""
    job = jobs.find(identity)
    if job is not None or not re.fullmatch(r"[\w-]{12}", identity or "", re.ASCII):
        return job
    try:
        return _reopened(_job_of(runs() / str(identity)))
    except TaskError:
        return None


def reopen(path: Path, own: Sequence[Task] = ()) -> Job:
    """A saved comparison, from its zip or its events.jsonl.

    Raises TaskError with one sentence if it is neither.
    """
    job = _new_job(None, {}, visiting=True)
    try:
        if path.suffix == ".zip":
            run_directory.unpack(path, job.note.folder)
        else:
            shutil.copyfile(path, job.note.folder / "events.jsonl")
        return _reopened(job, own)
    except TaskError:
        job.forget()
        raise
    except OSError as error:
        job.forget()
        raise TaskError(_not_stored(error)) from None


def example(name: str = "initials") -> Job:
    """A recorded comparison, opened once for all visitors, or it would crowd out theirs.

    Raises TaskError if it cannot be opened now.
    """
    job = _examples.get(name)
    if not (job and job.note.folder.is_dir() and find(job.id)):
        job = _examples[name] = reopen(ASSETS / "comparisons" / f"{name}.zip")
    return job


def _reopened(job: Job, own: Sequence[Task] = ()) -> Job:
    """Fill a job with what its folder holds; raises TaskError if that is no comparison."""
    events = run_directory.read(job.note.folder)
    cut_off = run_directory.cut_off(events)
    job.events = [*_without_steps(events), *cut_off]
    job.state = "interrupted" if cut_off else "finished"
    plan = plan_of(job)
    task = all_tasks(own).get(plan.task)
    if task and {clip_name(file) for file in task.files} >= set(plan.clips):
        job.note = replace(job.note, task=task)  # else it is another task of the same name
    return jobs.keep(job)


def _without_steps(events: Sequence[ComparisonEvent]) -> list[ComparisonEvent]:
    """But for the last of each run, which tells how far it came: a log may hold 400,000."""
    last = {e.run: e for e in events if isinstance(e, RunEvent) and isinstance(e.event, Step)}
    passing = (Step, Evaluating)
    return [
        e
        for e in events
        if not isinstance(e, Preparing)
        and not (
            isinstance(e, RunEvent) and isinstance(e.event, passing) and last.get(e.run) is not e
        )
    ]


def plan_of(job: Job) -> Planned:
    """What a comparison that has begun is about."""
    return next(event for event in job.events if isinstance(event, Planned))


def finished_run(job: Job | None, run: str | None) -> RunFinished | None:
    """The result of a run by its name."""
    for event in list(job.events) if job else []:
        if isinstance(event, RunFinished) and event.run == run:
            return event
    return None


def bundle_path(job: Job, run: RunFinished) -> Path | None:
    """The bundle of a run; None where a saved comparison came without."""
    path = run_directory.bundle_path(job.note.folder, plan_of(job), run.run)
    return path if path.is_file() else None


def bundle_key(job: Job, run: RunFinished) -> str:
    """What stands for a run's bundle in a page: it tells no path, and cannot be guessed."""
    return f"run/{job.id}/{run.run}"


def bundle_of_key(key: str) -> Path | None:
    """The bundle that a `bundle_key` stands for, if it is still kept."""
    kind, _, rest = key.partition("/")
    identity, _, name = rest.partition("/")
    job = find(identity) if kind == "run" else None
    run = finished_run(job, name)
    return bundle_path(job, run) if job and run else None


def _new_job(task: Task | None, weights: dict[str, float], visiting: bool = False) -> Job:
    """A job with a new folder; those that are kept no longer are removed first."""
    folder = (runs() / VISITING if visiting else runs()) / jobs.new_id()
    try:
        folders.make_private(runs())
        sweep()
        folder.mkdir(parents=True)
    except OSError as error:
        raise TaskError(_not_stored(error)) from None
    job = _job_of(folder, task, weights)
    job.visiting = visiting
    return job


def _job_of(folder: Path, task: Task | None = None, weights: dict[str, float] | None = None) -> Job:
    details = JobDetails(folder, task, weights or {})
    return Job(id=folder.name, note=details, forget=lambda: _remove(folder))


def sweep() -> None:
    """Remove the comparisons that are kept no longer."""

    def written(folder: Path) -> float:
        try:
            return (folder / "events.jsonl").stat().st_mtime
        except OSError:  # none yet, or another sweep was here
            return time.time()

    brought = runs() / VISITING
    for folder in brought.iterdir() if brought.is_dir() else ():
        if jobs.find(folder.name) is None and time.time() - written(folder) > 60:
            _remove(folder)
    kept = [path for path in runs().iterdir() if path.is_dir() and path != brought]
    for place, folder in enumerate(sorted(kept, key=written, reverse=True)):
        job = jobs.find(folder.name)
        aged = time.time() - written(folder) > 3600 * limits().comparison_hours
        if (aged or place >= limits().comparisons) and (job is None or job.over):
            _remove(folder)


def _not_stored(error: OSError) -> str:
    return f"This server cannot store a comparison now: {error.strerror}."


def _remove(folder: Path) -> None:
    folders.remove(folder)
    folder.with_suffix(".zip").unlink(missing_ok=True)
