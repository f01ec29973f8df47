"""Comparisons behind the Compare tab: starting, keeping and reopening them, and their files.

A comparison is a job of `softmoa.jobs`; its id is the only key to it and to its folder. Folders
outlive the process: a server that was killed and started again still has what was finished.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from softmoa import ASSETS, folders, jobs, race, run_directory, tasks, zero
from softmoa.classify import load_backbone
from softmoa.cost import Estimate, estimate
from softmoa.events import ComparisonEvent, RunFinished
from softmoa.experiment import out_of_memory
from softmoa.jobs import Job
from softmoa.limits import LIMITS
from softmoa.methods import METHODS
from softmoa.plan import Comparison, run_name
from softmoa.scoreboard import Scoreboard
from softmoa.tasks import Task, TaskError, clip_name

BACKBONE = "ast-small"
EXAMPLE = ASSETS / "comparisons" / "digits.zip"  # recorded, for those who do not want to wait
RUNS = Path(os.environ.get("SOFTMOA_RUNS") or folders.temporary("runs"))


_examples: list[Job[ComparisonEvent]] = []


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
    try:
        return estimate(load_backbone(BACKBONE), task, comparison)
    except (MemoryError, RuntimeError) as error:  # a step of every new method is tried
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        raise TaskError("There is not enough memory for this now; please try less.") from None


def begin(task: Task, comparison: Comparison) -> Job[ComparisonEvent]:
    """Queue a comparison. Raises TaskError if this server cannot run it, or not now."""
    costs = affordable(task, comparison).costs
    seconds = {of.method: of.seconds for of in costs}
    weights = {
        run_name(choice.method, seed): seconds[choice.method]
        for seed in comparison.seeds
        for choice in comparison.choices
    }
    identity = jobs.new_id()
    folder = _folder(identity)

    def events() -> Generator[ComparisonEvent, None, None]:
        for event in run_directory.record(race.compare(BACKBONE, task, comparison), folder):
            # The tensors are in the bundle now, and a page may be open for hours.
            yield replace(event, state={}) if isinstance(event, RunFinished) else event

    try:
        return jobs.start(
            events,
            Race(folder, task, weights),
            lambda: _remove(folder),
            identity,
            LIMITS.comparisons_waiting,
        )
    except jobs.Full as error:
        _remove(folder)
        raise TaskError(str(error)) from None


def affordable(task: Task, comparison: Comparison) -> Estimate:
    """The cost of a comparison. Raises TaskError if this server does not give that much."""
    found = cost(task, comparison)
    most = max(found.costs, key=lambda of: of.memory_mb)
    if most.memory_mb > LIMITS.run_memory_mb:
        raise TaskError(
            f"A step of {METHODS[most.method].title} would hold {most.memory_mb:.0f} MB of memory; "
            f"at most {LIMITS.run_memory_mb:g} MB are given here."
        )
    seconds = race.seconds_lent(BACKBONE, task, comparison)
    if zero.PRESENT and seconds > zero.LONGEST:
        raise TaskError(
            f"This would need the GPU for some {seconds:.0f} s; it is lent for {zero.LONGEST} s at "
            "most: choose fewer methods, seeds, clips or epochs."
        )
    return found


def find(identity: str | None) -> Job[ComparisonEvent] | None:
    """A comparison by its id, if it is still kept; one of an earlier process is read again."""
    job = jobs.find(identity)
    if job is not None or not re.fullmatch(r"[\w-]{12}", identity or "", re.ASCII):
        return job
    try:
        return _reopened(RUNS / str(identity), str(identity))
    except TaskError:
        return None


def reopen(path: Path, own: Sequence[Task] = ()) -> Job[ComparisonEvent]:
    """A saved comparison, from its zip or its events.jsonl.

    Raises TaskError with one sentence if it is neither.
    """
    identity = jobs.new_id()
    folder = _folder(identity)
    try:
        if path.suffix == ".zip":
            run_directory.unpack(path, folder)
        else:
            shutil.copyfile(path, folder / "events.jsonl")
        return _reopened(folder, identity, own)
    except TaskError:
        _remove(folder)
        raise
    except OSError as error:
        _remove(folder)
        raise TaskError(_not_stored(error)) from None


def example() -> Job[ComparisonEvent]:
    """The recorded comparison, opened once for all visitors, or it would crowd out theirs.

    Raises TaskError if it cannot be opened now.
    """
    if _examples and _examples[-1].note.folder.is_dir() and find(_examples[-1].id):
        return _examples[-1]
    _examples[:] = [reopen(EXAMPLE)]
    return _examples[-1]


def _reopened(folder: Path, identity: str, own: Sequence[Task] = ()) -> Job[ComparisonEvent]:
    saved = run_directory.read(folder)
    cut_off = run_directory.cut_off(saved.events)
    plan = Scoreboard().add_all(saved.events[:1]).plan
    task = all_tasks(own).get(plan.task) if plan else None
    if task and plan and tuple(clip_name(file) for file in task.test) != plan.clips:
        task = None  # another task of the same name
    return jobs.reopen(
        [*saved.events, *cut_off],
        Race(folder, task, {}),
        lambda: _remove(folder),
        identity,
        "interrupted" if cut_off else "finished",
    )


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
    job = find(identity) if kind == "run" else None
    run = finished_run(job, name)
    return bundle_path(job, run) if job and run else None


def _folder(identity: str) -> Path:
    """A new folder; those that are kept no longer are removed first."""
    try:
        folders.make_private(RUNS)
        sweep()
        (RUNS / identity).mkdir()
    except OSError as error:
        raise TaskError(_not_stored(error)) from None
    return RUNS / identity


def sweep() -> None:
    """Remove the comparisons that are kept no longer."""

    def written(folder: Path) -> float:
        try:
            return (folder / "events.jsonl").stat().st_mtime
        except OSError:  # none yet, or another sweep was here
            return time.time()

    kept = [path for path in RUNS.iterdir() if path.is_dir()]
    for place, folder in enumerate(sorted(kept, key=written, reverse=True)):
        job = jobs.find(folder.name)
        aged = time.time() - written(folder) > 3600 * LIMITS.comparison_hours
        if (aged or place >= LIMITS.comparisons) and (job is None or job.over):
            _remove(folder)


def _not_stored(error: OSError) -> str:
    return f"This server cannot store a comparison now: {error.strerror}."


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".zip").unlink(missing_ok=True)
