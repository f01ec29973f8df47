"""Grids of independent runs: in processes of this machine or on a Ray cluster, to be continued.

A run is a frozen dataclass with plain fields and a method `execute` that returns plain values. Its
id is a hash of its kind and fields, so that a finished run is known again. Every run has one
thread: its numbers are then the same beside others, on any engine.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Protocol

ROOT = Path(__file__).parents[2]

Result = dict[str, Any]


class Run(Protocol):
    """One cell of a grid. execute: its result, of values that JSON knows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def execute(self) -> Result: ...


class Engine(Protocol):
    """Executes runs in any order and says how each ended: with a result or with an exception."""

    def __call__(self, runs: Sequence[Run]) -> Iterator[tuple[Run, Result | Exception]]: ...

    def one_at_a_time(self) -> Engine: ...


def run_id(run: Run) -> str:
    """The same for the same kind and fields, on every machine; and for the same `resolved`, where
    a run has one: what its fields leave to defaults, which may change."""
    text = json.dumps(
        [type(run).__name__, asdict(run), getattr(run, "resolved", None)], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def execute(run: Run) -> Result:
    """In the process of a worker."""
    if torch := sys.modules.get("torch"):  # imported with the kind of run, if that needs it
        torch.set_num_threads(1)
    return run.execute() | {"machine": platform.node()}


def _end_with_parent() -> None:
    """A worker would wait for its next run for ever, were the process that gives them killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _process() -> ProcessPoolExecutor:
    """A pool of one, so that a process that dies takes no other run along."""
    return ProcessPoolExecutor(1, get_context("spawn"), _end_with_parent)


@dataclass(frozen=True)
class Local:
    """In so many processes of this machine, which share its GPU where there is one."""

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __call__(self, runs: Sequence[Run]) -> Iterator[tuple[Run, Result | Exception]]:
        idle = [_process() for _ in range(self.workers)]

        def one(run: Run) -> Result | Exception:
            process = idle.pop()
            try:
                return process.submit(execute, run).result()
            except Exception as error:
                if isinstance(error, BrokenProcessPool):  # it was killed
                    process.shutdown()
                    process = _process()
                return error
            finally:
                idle.append(process)

        threads = ThreadPoolExecutor(self.workers)
        under_way = {threads.submit(one, run): run for run in runs}
        try:
            for future in as_completed(under_way):
                yield under_way[future], future.result()
        finally:
            threads.shutdown(cancel_futures=True)
            for process in idle:
                process.shutdown()

    def one_at_a_time(self) -> Local:
        return replace(self, workers=1)


@dataclass(frozen=True)
class OnRay:
    """On a Ray cluster, or on one that is started here where no address is given.

    gpus: the part of a GPU that a run takes. The code and assets of this folder are sent along; the
    packages must be there, and SOFTMOA_DATA must name the same folder on every node.
    """

    address: str | None = None
    gpus: float = 0.0
    at_once: int | None = None  # None: as many as the cluster has room for

    def __call__(self, runs: Sequence[Run]) -> Iterator[tuple[Run, Result | Exception]]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray  # an optional extra
        from ray.exceptions import RayError, RayTaskError

        ray.init(self.address, log_to_driver=False, runtime_env=self._environment())
        try:
            # A crashed worker is a failed run like any other, for `run_grid` to try again.
            remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=0)(execute)
            waiting, under_way = list(reversed(runs)), {}
            while waiting or under_way:
                while waiting and len(under_way) < (self.at_once or len(runs)):
                    run = waiting.pop()
                    under_way[remote.remote(run)] = run
                [done], _ = ray.wait(list(under_way), num_returns=1)
                run = under_way.pop(done)
                try:
                    yield run, ray.get(done)
                except RayTaskError as error:
                    yield run, error.cause
                except RayError as error:
                    yield run, error
        finally:
            ray.shutdown()

    def _environment(self) -> dict[str, Any]:
        data = os.environ.get("SOFTMOA_DATA")
        return {
            "env_vars": {"SOFTMOA_DATA": data} if data else {},
            "working_dir": str(ROOT),
            "excludes": [".venv", ".git", "/tests", "/runs", "/build", "__pycache__"],
        }

    def one_at_a_time(self) -> OnRay:
        return replace(self, at_once=1)


@dataclass(frozen=True)
class Grid:
    """What became of a grid. results: by id of the run. failed: run and why, of those that failed
    twice. earlier: how many results an earlier call had left."""

    results: dict[str, Result]
    failed: dict[Run, str]
    earlier: int


def run_grid(runs: Sequence[Run], path: Path, engine: Engine) -> Grid:
    """Execute what is not in `path` yet, which keeps every finished run as a line of JSON.

    A run that fails is tried once more when the others are over, alone.
    """
    wanted = {run_id(run): run for run in runs}
    found = {key: result for key, result in finished(path).items() if key in wanted}
    waiting = [run for key, run in wanted.items() if key not in found]
    earlier = len(found)
    say(f"{path.stem}: {len(wanted)} runs, {earlier} of them finished before")
    path.parent.mkdir(parents=True, exist_ok=True)
    failed: dict[Run, str] = {}
    code = commit()
    with path.open("a", buffering=1) as log:
        for attempt, with_engine in enumerate((engine, engine.one_at_a_time()), start=1):
            failed = {}
            for run, outcome in with_engine(waiting) if waiting else ():
                if isinstance(outcome, Exception):
                    failed[run] = f"{type(outcome).__name__}: {outcome}"
                    say(f"failed, attempt {attempt}: {run}: {failed[run]}")
                    continue
                outcome |= {"commit": code}
                found[run_id(run)] = outcome
                line = {
                    "id": run_id(run),
                    "kind": type(run).__name__,
                    "run": asdict(run),
                    "attempts": attempt,
                    "result": outcome,
                }
                log.write(json.dumps(line) + "\n")
                say(f"{len(found)}/{len(wanted)} {run}")
            waiting = list(failed)
    return Grid(found, failed, earlier)


def finished(path: Path) -> dict[str, Result]:
    """Results by id; a line that was cut off by an interruption is left out, and its run repeated.

    The file is left ending in a whole line, so that more can be appended.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["id"]: line["result"] for line in lines}


def commit() -> str:
    """Of the code that runs, and whether it was changed since."""
    git = ["git", "-C", str(ROOT)]
    try:
        short = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        edited = subprocess.check_output(
            [*git, "status", "--porcelain", "--", "softmoa", "analysis/*.py"], text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short + " with changes" * bool(edited)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
