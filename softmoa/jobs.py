"""Comparisons that run in the background, one at a time, while people watch, leave and come back.

A job belongs to nobody's page: a visitor who reloads finds it again by its id. A job that nobody
has watched for `GRACE` seconds is stopped, so a closed page frees the model.
"""

from __future__ import annotations

import contextvars
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Generic, Literal, TypeVar

from softmoa.limits import LIMITS

GRACE = 20.0  # seconds without a watcher
KEPT = LIMITS.comparisons  # jobs that can still be read

Event = TypeVar("Event")
State = Literal["waiting", "running", "finished", "stopped", "failed", "interrupted"]


class Full(ValueError):
    """No more jobs are taken for now; the message is one sentence for who asked."""


def new_id() -> str:
    """A name for a job that cannot be guessed: 12 letters, digits, - and _."""
    return secrets.token_urlsafe(9)


class Job(Generic[Event]):
    """Events of a generator, gathered by a thread of its own.

    `events` only grows and may be read at any time. A generator must come back at least once a
    second for `stop` to be quick. `note` is the caller's, such as where the results lie;
    `forget` is called when the job is dropped. Whoever knows `id` may look; `key` is for who began.
    """

    def __init__(
        self,
        make: Callable[[], Generator[Event, None, None]] | None,
        note: Any = None,
        forget: Callable[[], None] = lambda: None,
        identity: str = "",
    ):
        self.id = identity or new_id()
        self.key = new_id()
        self.note, self.forget = note, forget
        self.seconds = 0.0  # since it got its turn
        self.events: list[Event] = []
        self.times: list[float] = []  # of the events, in seconds since it got its turn
        self.state: State = "waiting"
        self.message = ""
        self._stop = threading.Event()
        self._watchers = 0
        self._last_seen = time.monotonic()
        self._thread: threading.Thread | None = None
        if make is not None:
            with _lock:
                _queue.append(self)
            self._thread = threading.Thread(
                target=contextvars.copy_context().run,  # ZeroGPU asks whose request it is
                args=(self._run, make),
                name=f"job-{self.id}",
                daemon=True,
            )
            self._thread.start()

    @property
    def over(self) -> bool:
        return self.state in ("finished", "stopped", "failed", "interrupted")

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and is not yet over."""
        return self._stop.is_set() and not self.over

    def stop(self) -> None:
        """Ask the job to end at its next event; what it has done so far stays readable."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Block until the job is over, or for so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While somebody watches, the job is not given up."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            self._last_seen = time.monotonic()

    @property
    def _unwanted(self) -> bool:
        left = not self._watchers and time.monotonic() - self._last_seen > GRACE
        return left or self._stop.is_set()

    def _run(self, make: Callable[[], Generator[Event, None, None]]) -> None:
        with _turn(self):
            if self._unwanted:
                self.state = "stopped"
                return
            self.state = "running"
            began = time.monotonic()
            try:
                with closing(make()) as events:
                    for event in events:
                        self.seconds = time.monotonic() - began
                        self.times.append(self.seconds)
                        self.events.append(event)
                        if self._unwanted:
                            self.state = "stopped"
                            return
                self.state = "finished"
            except ValueError as error:  # what the visitor asked for cannot be done
                self.message = str(error)
                self.state = "failed"
            except OSError as error:  # a full disk, most of all
                self.message = f"The results cannot be stored here: {error.strerror or error}."
                self.state = "failed"
            except MemoryError:
                self.message = "There is not enough memory for this now; please try less."
                self.state = "failed"
            except BaseException:
                self.message = "The run failed by a fault of the program; the log has the details."
                self.state = "failed"
                raise


_lock = threading.Condition()
_queue: list[Job] = []
_jobs: dict[str, Job] = {}


@contextmanager
def _turn(job: Job) -> Iterator[None]:
    """Wait until the job is first in the queue; leave the queue at the end."""
    with _lock:
        while _queue[0] is not job and not job._unwanted:
            _lock.wait(0.5)
    try:
        yield
    finally:
        with _lock:
            _queue.remove(job)
            _lock.notify_all()


def start(
    make: Callable[[], Generator[Event, None, None]],
    note: Any = None,
    forget: Callable[[], None] = lambda: None,
    identity: str = "",
    most: int | None = None,
) -> Job[Event]:
    """Queue a new job; the oldest jobs that are over are forgotten.

    Raises Full if `most` jobs run or wait already.
    """
    with _lock:
        if most is not None and len(_queue) >= most:
            raise Full(f"The queue is full: {most} comparisons run or wait; please try later.")
        job = Job(make, note, forget, identity)
    return _kept(job)


def reopen(
    events: Sequence[Event],
    note: Any = None,
    forget: Callable[[], None] = lambda: None,
    identity: str = "",
    state: State = "finished",
) -> Job[Event]:
    """A job that is over, with the events of an earlier time; nothing is run."""
    job: Job[Event] = Job(None, note, forget, identity)
    job.events, job.state = list(events), state
    return _kept(job)


def _kept(job: Job[Event]) -> Job[Event]:
    with _lock:
        over = [kept for kept in _jobs.values() if kept.over and not kept._watchers]
        gone = over[: max(0, len(_jobs) + 1 - KEPT)]
        for old in gone:
            del _jobs[old.id]
        _jobs[job.id] = job
    for old in gone:
        old.forget()
    return job


def find(identity: str | None) -> Job | None:
    """A job by its id, if it is still kept."""
    return _jobs.get(identity or "")


def drop(job: Job) -> None:
    """Keep a job no longer that nobody can ask for again."""
    with _lock:
        _jobs.pop(job.id, None)


def busy() -> bool:
    """Whether any job is running or waiting."""
    with _lock:
        return bool(_queue)


def ahead_of(job: Job) -> int:
    """How many jobs come before this one."""
    with _lock:
        return _queue.index(job) if job in _queue else 0
