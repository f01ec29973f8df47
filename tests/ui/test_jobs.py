"""Jobs take turns, stop at once, survive a reload and are given up when nobody watches."""

import contextlib
import errno
import os
import threading
import time

import pytest
import torch

from softmoa.data.limits import LimitError, Limits
from softmoa.ui import jobs


def ticking(closed: threading.Event, count: int = 10_000):
    try:
        for k in range(count):
            time.sleep(0.01)
            yield k
    finally:
        closed.set()


@pytest.fixture
def closed():
    return threading.Event()


def test_a_job_gathers_all_events(closed):
    job = jobs.start(lambda: ticking(closed, 5))
    with job.watched():
        job.wait(20)
    assert job.state == "finished" and job.events == [0, 1, 2, 3, 4] and closed.is_set()
    assert jobs.find(job.id) is job and jobs.find("nonsense") is None and jobs.find(None) is None


def test_a_job_that_nobody_watches_is_given_up(closed, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE", 0.2)
    job = jobs.start(lambda: ticking(closed))
    with job.watched():
        left = jobs.start(lambda: ticking(threading.Event()))  # waits, and nobody waits for it
        time.sleep(0.4)
        assert job.state == "running" and jobs.ahead_of(left) == 0 and left.state == "stopped"
    job.wait(20)
    assert job.state == "stopped" and closed.is_set()


def test_a_fault_of_the_program_is_logged_and_the_next_job_runs(caplog):
    def faulty():
        yield 1
        raise RuntimeError("shapes do not fit")

    job = jobs.start(faulty)
    job.wait(20)
    assert job.state == "failed" and "fault" in job.message
    assert "shapes do not fit" in caplog.text
    following = jobs.start(lambda: (k for k in ()))
    following.wait(20)
    assert following.state == "finished"


def test_old_jobs_are_forgotten(monkeypatch):
    monkeypatch.setattr(jobs, "limits", lambda: Limits(comparisons=2))
    kept = []
    for _ in range(5):
        job = jobs.start(lambda: (k for k in ()))
        job.wait(20)
        kept.append(job)
    assert sum(jobs.find(job.id) is not None for job in kept) == 2
    assert jobs.find(kept[-1].id) is kept[-1]


def so_many(monkeypatch, comparisons: int) -> None:
    """Of which so many may run or wait."""
    monkeypatch.setattr(jobs, "limits", lambda: Limits(comparisons_waiting=comparisons))


def test_so_many_wait_and_no_more(closed, monkeypatch):
    so_many(monkeypatch, 1)
    first = jobs.start(lambda: ticking(closed))
    with pytest.raises(LimitError, match="queue is full: 1 comparisons"):
        jobs.start(lambda: ticking(threading.Event()))
    so_many(monkeypatch, 2)
    second = jobs.start(lambda: ticking(threading.Event()))
    for job in (second, first):
        job.stop()
        job.wait(20)
        assert job.state == "stopped"


def test_no_more_are_taken_when_many_ask_at_once(monkeypatch):
    """A job is in the queue from the moment it is taken, in the order it was."""
    so_many(monkeypatch, 2)
    ask, taken = threading.Barrier(12), []

    def start() -> None:
        ask.wait()
        with contextlib.suppress(LimitError):
            taken.append(jobs.start(lambda: ticking(threading.Event())))

    threads = [threading.Thread(target=start) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 2 and sorted(map(jobs.ahead_of, taken)) == [0, 1]
    for job in taken:
        job.stop()
        job.wait(20)


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "stored here: No space left on device."),
        (MemoryError(), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
    ],
)
def test_what_the_machine_lacks_is_told(error, words):
    def lacking():
        yield 1
        raise error

    job = jobs.start(lacking)
    job.wait(20)
    assert job.state == "failed" and job.events == [1] and words in job.message
