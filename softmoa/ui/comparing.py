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
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import count
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
from softmoa.training.events import ComparisonEvent, Planned, Preparing, RunEvent, RunFinished
from softmoa.training.fit import Evaluating, Step
from softmoa.training.plan import Comparison, title
from softmoa.ui import jobs
from softmoa.ui.checks import not_stored
from softmoa.ui.jobs import Job

BACKBONE = "ast-small"
# Recorded, for those who do not want to wait: file in ASSETS -> what a button says of it.
RECORDED = {
    "initials": "Show the recorded race",
    "collapse": "Show one in which a router collapses",
}
# What visitors brought has a folder of its own in `runs`, so that it pushes out nobody's own.
REOPENED, MOST_REOPENED = "reopened", 10

IN_USE = (
    "Another server keeps its comparisons in {folder} too, and each may delete the other's; name "
    "another folder by SOFTMOA_RUNS."
)

_examples: dict[str, str] = {}  # ids
_brought: dict[str, bytes] = {}  # ids -> address of who reopened it
_locks: list[TextIO] = []  # open while the process lives
embedded_tasks = lru_cache(maxsize=1)(tasks.available)  # those whose sounds are at hand


@lru_cache(maxsize=1)
def runs() -> Path:
    """The folder of all comparisons of this server, by SOFTMOA_RUNS."""
    return Path(os.environ.get("SOFTMOA_RUNS") or folders.temporary("runs"))


def all_tasks(own: Sequence[Task] = ()) -> dict[str, Task]:
    """The tasks at hand and a visitor's own, by name."""
    return {**{task.name: task for task in own}, **embedded_tasks()}


def begin(task: Task, comparison: Comparison) -> Job:
    """Queue a comparison: of the Compare tab, of Your sounds, or of the HTTP interface.

    task: of several folds the first; the others are loaded here.
    Raises InputError if this server cannot run it, or not now.
    """
    seconds = {of.method: of.seconds for of in affordable(task, comparison).costs}
    folds = [task, *(tasks.load(task.name, fold) for fold in comparison.folds[1:])]
    weights = {run.name: seconds[run.entry] for run in comparison.runs}
    job = Job(task=task, weights=weights)
    job.folder = runs() / job.id
    return jobs.start(lambda: driver.run(BACKBONE, folds, comparison, job.folder), job)


def bounded(comparison: Comparison) -> Comparison:
    """A comparison whose runs end when this server says. Raises TaskError if they are too many."""
    training, most, runs = comparison.training, limits(), len(comparison.runs)
    if runs > most.runs:
        raise TaskError(
            f"Methods times seeds are {runs} runs; at most {most.runs} can be run here."
        )
    seconds = min(training.seconds or most.run_seconds, most.run_seconds)
    steps = min(training.steps or most.run_steps, most.run_steps)
    return replace(comparison, training=replace(training, seconds=seconds, steps=steps))


def affordable(task: Task, comparison: Comparison) -> Estimate:
    """Parameters, seconds and memory of a comparison. Raises TaskError if it cannot be run, or if
    this server does not give that much."""
    try:
        found = estimate(load_backbone(BACKBONE), task, comparison)
    except (MemoryError, RuntimeError) as error:  # a step of every new method is tried
        if not device.out_of_memory(error):
            raise
        device.release()
        raise TaskError("There is not enough memory for this now; please try less.") from None
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
    """A comparison by its id, if it is still kept; one that only its folder holds is read again."""
    job = jobs.find(identity)
    if job is not None or not re.fullmatch(r"[\w-]{12}", identity or "", re.ASCII):
        return job
    places = (runs() / str(identity), runs() / REOPENED / str(identity))
    with suppress(TaskError):
        return next((_saved(folder) for folder in places if folder.is_dir()), None)
    return None


def reopen(path: Path, own: Sequence[Task] = (), address: bytes = b"") -> Job:
    """A saved comparison, from its zip or its events.jsonl. address: of who brings it.

    Raises TaskError with one sentence if it is neither.
    """
    folder = runs() / REOPENED / jobs.new_id()
    try:
        sweep()
        folder.mkdir(parents=True)
        if path.suffix == ".zip":
            run_directory.unpack(path, folder)
        else:
            shutil.copyfile(path, folder / "events.jsonl")
        job = _saved(folder)
    except (OSError, TaskError) as error:
        _remove(folder)
        raise TaskError(not_stored(error) if isinstance(error, OSError) else str(error)) from None
    job.task, _brought[job.id] = _task_of(plan_of(job), own), address
    return job


def example(name: str = "initials") -> Job:
    """A recorded comparison, opened once for all visitors, or it would crowd out theirs.

    Raises TaskError if it cannot be opened now.
    """
    if (job := find(_examples.get(name))) is None:
        job = reopen(ASSETS / "comparisons" / f"{name}.zip")
        _examples[name] = job.id
    return job


@lru_cache(maxsize=4)  # the largest take some 6 MB each; the others are read again
def _saved(folder: Path) -> Job:
    """What a folder holds; raises TaskError if that is no comparison."""
    saved = run_directory.read(folder)
    cut_off = run_directory.cut_off(saved)
    job = Job(folder.name, folder=folder, events=[*_without_steps(saved), *cut_off])
    job.state, job.task = "interrupted" if cut_off else "finished", _task_of(plan_of(job))
    return job


def _task_of(plan: Planned, own: Sequence[Task] = ()) -> Task | None:
    """The task that was compared on; None where another one has its name."""
    task = all_tasks(own).get(plan.task)
    there = {clip_name(file) for file in task.files} if task else set()
    return task if there >= set(plan.clips) else None


def _without_steps(events: Sequence[ComparisonEvent]) -> list[ComparisonEvent]:
    """But for the last of each run, which tells how far it came: a log may hold 400,000."""
    last = {e.run: e for e in events if isinstance(e, RunEvent) and isinstance(e.event, Step)}

    def passing(e: ComparisonEvent) -> bool:
        if isinstance(e, RunEvent) and isinstance(e.event, (Step, Evaluating)):
            return last.get(e.run) is not e
        return isinstance(e, Preparing)

    return [e for e in events if not passing(e)]


def plan_of(job: Job) -> Planned:
    """What a comparison that has begun is about."""
    return next(event for event in job.events if isinstance(event, Planned))


def finished_run(job: Job | None, run: str | None) -> RunFinished | None:
    """The result of a run by its name."""
    events = list(job.events) if job else []
    return next((e for e in events if isinstance(e, RunFinished) and e.run == run), None)


def bundle_path(job: Job, run: RunFinished) -> Path | None:
    """The bundle of a run; None where a saved comparison came without."""
    path = run_directory.bundle_path(job.folder, plan_of(job), run.run)
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


def forget(job: Job) -> None:
    """Keep a comparison no longer."""
    jobs.drop(job.id)
    _remove(job.folder)


def sweep() -> None:
    """Remove the comparisons that are kept no longer."""
    for place, most in ((runs(), limits().comparisons), (runs() / REOPENED, MOST_REOPENED)):
        found = [path for path in place.glob("*/") if path.name != REOPENED]
        newest, turns = sorted(found, key=_written, reverse=True), defaultdict(count)
        # One of every visitor before the second of any, so that nobody's push out another's.
        newest.sort(key=lambda path: next(turns[_brought.get(path.name)]))
        for newer, folder in enumerate(newest):
            job = jobs.find(folder.name)
            aged = time.time() - _written(folder) > 3600 * limits().comparison_hours
            if (aged or newer >= most) and (job is None or job.over):
                _remove(folder)
                _brought.pop(folder.name, None)


def _written(folder: Path) -> float:
    try:
        return (folder / "events.jsonl").stat().st_mtime
    except OSError:  # none yet, or another sweep was here
        return time.time()


def _remove(folder: Path) -> None:
    folders.remove(folder)
    folder.with_suffix(".zip").unlink(missing_ok=True)
