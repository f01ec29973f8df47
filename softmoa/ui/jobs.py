"""Comparisons that run in the background, one at a time, while people watch, leave and come back.

A job belongs to nobody's page: a visitor who reloads finds it again by its id. A job that nobody
has watched for `GRACE` seconds is stopped, so a closed page frees the model.
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from softmoa.data.limits import LimitError, limits
from softmoa.data.tasks import Task
from softmoa.model import device

GRACE = 20.0  # seconds without a watcher
State = Literal["waiting", "running", "finished", "stopped", "failed", "interrupted"]
new_id = partial(secrets.token_urlsafe, 9)  # 12 letters, digits, - and _ that cannot be guessed


@dataclass(eq=False)
class Job:
    """Events of a generator, gathered in the background.

    `events` only grows and may be read at any time; `times` are theirs, in seconds since the job
    got its turn. A generator must come back at least once a second for `stop` to be quick.
    Whoever knows `id` may look; `key` is for who began.

    folder: where the results lie. task: None where a saved comparison's sounds are not at hand.
    weights: run -> estimated seconds.
    """

    id: str = field(default_factory=new_id)
    key: str = field(default_factory=new_id)
    folder: Path = Path()
    task: Task | None = None
    weights: dict[str, float] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    state: State = "waiting"
    message: str = ""
    watchers: int = 0
    last_seen: float = field(default_factory=time.monotonic)
    asked_to_stop: bool = False
    future: Future = field(default_factory=Future)

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def seconds(self) -> float:
        """From its turn to its latest event."""
        return self.times[-1] if self.times else 0.0

    @property
    def unwanted(self) -> bool:
        left = not self.watchers and time.monotonic() - self.last_seen > GRACE
        return left or self.asked_to_stop

    def stop(self) -> None:
        """Ask the job to end at its next event; what it has done so far stays readable."""
        self.asked_to_stop = True
        if not self.over and self.future.cancel():  # it still waited for its turn
            self.state = "stopped"

    def wait(self, seconds: float | None = None) -> None:
        """Block until the job is over, or for so many seconds."""
        with suppress(CancelledError, TimeoutError):
            if not self.over:
                self.future.result(seconds)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While somebody watches, the job is not given up."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1
            self.last_seen = time.monotonic()

    def run(self, make: Callable[[], Generator[Any, None, None]]) -> None:
        self.state, began, over = "running", time.monotonic(), "failed"
        try:
            with closing(make()) as events:
                while not self.unwanted and (event := next(events, None)) is not None:
                    self.times.append(time.monotonic() - began)
                    self.events.append(event)
            over = "stopped" if self.unwanted else "finished"
        except ValueError as error:  # what the visitor asked for cannot be done
            self.message = str(error)
        except OSError as error:  # a full disk, most of all
            self.message = f"The results cannot be stored here: {error.strerror or error}."
        except Exception as error:
            if device.out_of_memory(error):
                self.message = "There is not enough memory for this now; please try less."
                device.release()
            else:
                self.message = "The run failed by a fault of the program; the log has the details."
                logging.getLogger(__name__).exception("a job failed")
        finally:
            self.state = over


_worker = ThreadPoolExecutor(1, "jobs")
_lock = threading.RLock()
_jobs: dict[str, Job] = {}  # in the order in which they get their turns


def start(make: Callable[[], Generator[Any, None, None]], job: Job | None = None) -> Job:
    """Queue a new job; the oldest that are over are forgotten. Raises LimitError if enough run or
    wait already."""
    job, most = job or Job(), limits().comparisons_waiting
    with _lock:
        if len(_queue()) >= most:
            raise LimitError(
                f"The queue is full: {most} comparisons run or wait; please try later."
            )
        over = [other.id for other in _jobs.values() if other.over and not other.watchers]
        for old in over[: max(0, len(_jobs) + 1 - limits().comparisons)]:
            drop(old)
        _jobs[job.id] = job
        # In the context of who asked: ZeroGPU wants to know whose request it is.
        job.future = _worker.submit(contextvars.copy_context().run, job.run, make)
    return job


def drop(identity: str) -> None:
    with _lock:
        _jobs.pop(identity, None)


def find(identity: str | None) -> Job | None:
    """A job by its id, if it is still kept."""
    return _jobs.get(identity or "")


def ahead_of(job: Job) -> int:
    """How many jobs come before this one."""
    queue = _queue()
    return queue.index(job) if job in queue else 0


def _queue() -> list[Job]:
    """The jobs that run or wait; those that wait for nobody any more are stopped."""
    with _lock:
        for job in _jobs.values():
            if job.state == "waiting" and job.unwanted:
                job.stop()
        return [job for job in _jobs.values() if not job.over]


def close() -> None:
    """Stop everything: the process is about to end, and would wait for the worker."""
    for job in list(_jobs.values()):
        job.stop()
