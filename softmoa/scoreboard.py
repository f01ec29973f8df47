"""What a comparison amounts to: its events folded into curves, a table and one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from softmoa.events import (
    ComparisonEvent,
    Planned,
    Preparing,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.training import Evaluated, Evaluating, Started, Step

CLEAR = 2.0  # standard errors between two methods before one is called better


@dataclass(frozen=True)
class Point:
    """One evaluation of one run on the validation clips."""

    run: str
    method: str
    step: int
    seconds: float
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Row:
    """One method over its finished seeds; a spread is the standard deviation, 0 for one seed."""

    method: str
    trained_parameters: int
    seeds: int
    seconds: float
    clips_per_second: float
    memory_mb: float
    val_accuracy: float
    test_accuracy: float
    spread: float


@dataclass(frozen=True)
class Miss:
    """A test clip and how one run did on it. clip: its index in the plan."""

    clip: int
    truth: int
    said: int
    confidence: float


@dataclass
class Scoreboard:
    """Everything the events said so far; `add` takes the next one.

    balance: run -> shares of its experts, after each evaluation. progress: run -> share that is
    over. steps: run -> steps taken. expected: run -> planned steps, at most.
    """

    plan: Planned | None = None
    points: list[Point] = field(default_factory=list)
    finished: list[RunFinished] = field(default_factory=list)
    failed: list[RunFailed] = field(default_factory=list)
    preparing: Preparing | None = None
    balance: dict[str, list[RouterBalance]] = field(default_factory=dict)
    progress: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    doing: str = ""

    def add(self, event: ComparisonEvent) -> None:
        if isinstance(event, Planned):
            self.plan = event
        elif isinstance(event, RouterBalance):
            self.balance.setdefault(event.run, []).append(event)
        elif isinstance(event, Preparing):
            self.preparing, self.doing = event, f"{event.what}, {event.done} of {event.total}"
        elif isinstance(event, RunFinished):
            self.finished.append(event)
            self.progress[event.run] = 1.0
        elif isinstance(event, RunFailed):
            self.failed.append(event)
            self.progress[event.run] = 1.0
        elif isinstance(event, RunEvent):
            self._add_run(event)

    def add_all(self, events: Iterable[ComparisonEvent]) -> Scoreboard:
        for event in events:
            self.add(event)
        return self

    def _add_run(self, tagged: RunEvent) -> None:
        event, run = tagged.event, tagged.run
        if not isinstance(event, Evaluating):
            self.doing = "training"
        if isinstance(event, Started):
            self.expected[run] = event.steps
            self.progress[run] = 0.0
        elif isinstance(event, Step):
            self.steps[run] = event.step
            limit = self.plan.training["seconds"] if self.plan else None
            by_time = event.seconds / limit if limit else 0.0
            self.progress[run] = 0.95 * min(max(event.step / self.expected[run], by_time), 1)
        elif isinstance(event, Evaluating):
            self.doing = f"checking, {event.done} of {event.total} clips"
        elif isinstance(event, Evaluated):
            self.points.append(
                Point(run, tagged.method, event.step, event.seconds, event.accuracy, event.loss)
            )

    def rows(self) -> list[Row]:
        """One row per method with a finished run, in the order they were started."""
        methods = dict.fromkeys(run.method for run in self.finished)
        return [self._row([r for r in self.finished if r.method == m]) for m in methods]

    @staticmethod
    def _row(runs: Sequence[RunFinished]) -> Row:
        tests = [run.test_accuracy for run in runs]
        return Row(
            runs[0].method,
            runs[0].trained_parameters,
            len(runs),
            mean(run.seconds for run in runs),
            mean(run.clips_per_second for run in runs),
            max(run.peak_memory_mb for run in runs),
            mean(run.val_accuracy for run in runs),
            mean(tests),
            stdev(tests) if len(tests) > 1 else 0.0,
        )


def standard_error(row: Row, test_clips: int) -> float:
    """Of a method's mean test accuracy p: sqrt(p (1 - p) / clips + spread^2 / seeds).

    The first part is the luck of the test clips, the second that of the seeds. One wrong and one
    right clip are added to each (Agresti and Coull), so that 100 % is not taken for certainty.
    """
    p = (row.test_accuracy * test_clips + 1) / (test_clips + 2)
    return math.sqrt(p * (1 - p) / (test_clips + 2) + row.spread**2 / row.seeds)


def conclusion(rows: Sequence[Row], test_clips: int, titles: dict[str, str]) -> str:
    """One sentence on which method was best, or that the noise does not let one say."""
    if len(rows) < 2 or not test_clips:
        return ""
    best, second, *_ = sorted(rows, key=lambda row: -row.test_accuracy)
    names = f"{titles[best.method]} ({best.test_accuracy:.1%})"
    other = f"{titles[second.method]} ({second.test_accuracy:.1%})"
    noise = math.hypot(standard_error(best, test_clips), standard_error(second, test_clips))
    difference = best.test_accuracy - second.test_accuracy
    seeds = f"{best.seeds} seed" + "s" * (best.seeds > 1)
    if difference > CLEAR * noise:
        return (
            f"{names} was clearly better than {other}: the difference is more than {CLEAR:g} "
            f"standard errors, with {test_clips} test clips and {seeds}."
        )
    tied = [
        titles[row.method]
        for row in sorted(rows, key=lambda row: -row.test_accuracy)
        if best.test_accuracy - row.test_accuracy
        <= CLEAR * math.hypot(standard_error(best, test_clips), standard_error(row, test_clips))
    ]
    return (
        f"No clear difference between {', '.join(tied[:-1])} and {tied[-1]}: with {test_clips} "
        f"test clips and {seeds}, {names} against {other} is within the noise "
        f"(± {CLEAR * noise:.1%})."
    )


def confusion(run: RunFinished, truth: Sequence[int]) -> list[list[int]]:
    """Counts [true class][predicted class] of a run on the test clips."""
    classes = len(run.info.labels)
    counts = [[0] * classes for _ in range(classes)]
    for label, guess in zip(truth, run.predicted, strict=True):
        counts[label][guess] += 1
    return counts


def worst(run: RunFinished, truth: Sequence[int], count: int = 6) -> list[Miss]:
    """The test clips whose true class the run found least probable, worst first."""
    misses = [
        Miss(clip, *values)
        for clip, values in enumerate(zip(truth, run.predicted, run.confidence, strict=True))
    ]
    return sorted(misses, key=lambda miss: miss.confidence)[:count]
