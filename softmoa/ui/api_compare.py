"""The HTTP endpoint `/compare`: a bounded comparison of methods, streamed while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from softmoa.data import tasks
from softmoa.data.limits import limits
from softmoa.data.values import InputError
from softmoa.model.weights import load_backbone
from softmoa.training.plan import Comparison, plan
from softmoa.training.scoreboard import Scoreboard, conclusion
from softmoa.ui import comparing, jobs
from softmoa.ui.checks import refuse, text, whole

SECONDS_BETWEEN = 1.0  # two answers of a stream


def compare(
    task: str = "instruments",
    methods: str = "linear,adapter,soft-moa",
    shots: int = 5,
    epochs: int = 2,
    seeds: str = "0",
) -> Iterator[dict]:
    """Train several fine-tuning methods on the same few clips and say which was best.

    Args:
        task: Name of a task with labelled sounds, such as "instruments" or "tones".
        methods: Names of methods, separated by commas.
        shots: Training clips per class.
        epochs: Passes over the training clips of every run.
        seeds: Seeds, separated by commas; every method is run with each.

    Returns:
        While it runs, once a second, {"status": "running", "progress", "doing"}; at the end
        {"status": "done", "task", "test_clips", "rows": [{"method", "trained_parameters", "seeds",
        "seconds", "clips_per_second", "memory_mb", "val_accuracy", "test_accuracy", "spread"}],
        "failed": [{"run", "message"}], "conclusion"}. A caller who asks for one answer gets the
        last. Runs and their seconds are limited by the server.
    """
    if text(task, "task") not in tasks.TASKS:
        raise refuse(f"There is no such task; there are {', '.join(tasks.TASKS)}.")
    board, seen = Scoreboard(), 0
    try:
        comparison = _comparison(methods, shots, epochs, seeds)
        data = tasks.load(task)
        job = comparing.begin(data, comparison)
    except InputError as error:
        raise refuse(str(error)) from None
    try:
        with job.watched():
            while not job.over:
                job.wait(SECONDS_BETWEEN)
                news = job.events[seen:]
                seen += len(news)
                board.add_all(news)
                over = sum(board.progress.values()) / len(comparison.runs)
                yield {"status": "running", "progress": round(over, 3), "doing": board.doing}
    finally:
        job.stop()
        job.wait()
        jobs.drop(job)
    board.add_all(job.events[seen:])
    if job.state == "failed":
        raise refuse(job.message)
    rows = board.rows()
    yield {
        "status": "done",
        "task": task,
        "test_clips": len(data.test),
        "rows": [_rounded(asdict(row)) for row in rows],
        "failed": [{"run": run.run, "message": run.message} for run in board.failed],
        "conclusion": conclusion(board),
    }


def _comparison(methods: object, shots: object, epochs: object, seeds: object) -> Comparison:
    """What is asked for; raises InputError if it cannot be run."""
    numbers = [seed.strip() for seed in text(seeds, "seeds").split(",")]
    if not all(seed.isascii() and seed.isdecimal() and len(seed) < 10 for seed in numbers):
        raise refuse("seeds must be whole numbers separated by commas, such as 0,1,2.")
    try:
        asked = plan(
            text(methods, "methods").split(","),
            amount=whole(epochs, "epochs", 1, 1000),
            config=load_backbone(comparing.BACKBONE).model.config,
            seeds=[int(seed) for seed in numbers],
            shots=whole(shots, "shots", 1, limits().clips),
        )
    except InputError:
        raise
    except ValueError as error:
        raise refuse(f"This comparison cannot be run: {error}.") from None
    return comparing.bounded(asked)


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None  # JSON has no NaN


def _rounded(row: dict) -> dict:
    return {key: _number(v) if isinstance(v, float) else v for key, v in row.items()}
