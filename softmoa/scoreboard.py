"""What a comparison amounts to: its events folded into curves, a table and one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

import numpy as np

from softmoa.events import (
    ComparisonEvent,
    Planned,
    Preparing,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.training import Evaluated, Evaluating, Finished, Started, Step

# Student's t at 97.5 % for 1, 2, ... degrees of freedom; from the last on it changes little.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


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
    over. steps: run -> steps taken. expected: run -> planned steps, at most. kept: run -> step
    whose weights were kept, the best on the validation clips; 0 is before training.
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
    kept: dict[str, int] = field(default_factory=dict)
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
        elif isinstance(event, Finished):
            self.kept[run] = event.best_step

    def rows(self) -> list[Row]:
        """One row per method with a finished run, in the order they were started."""
        methods = dict.fromkeys(run.method for run in self.finished)
        return [self._row([r for r in self.finished if r.method == m]) for m in methods]

    def gap(self, a: str, b: str) -> tuple[float, float, int]:
        """Test accuracy of method a less that of b over the seeds that both finished, the half
        width of its 95 % interval, and the number of those seeds.

        Half width: sqrt((1.96 SE_clips)^2 + (t SE_seeds)^2), t of as many degrees of freedom as
        there are seeds but one. Of a single seed it holds the luck of the clips alone; without a
        common seed it is infinite.
        """
        assert self.plan is not None
        right = {
            (run.method, run.seed): np.equal(run.predicted, self.plan.truth).astype(float)
            for run in self.finished
        }
        seeds = [seed for method, seed in right if method == a and (b, seed) in right]
        if not seeds:
            return 0.0, math.inf, 0
        apart = np.stack([right[a, seed] - right[b, seed] for seed in seeds])  # (seeds, clips)
        half = 1.96 * clip_error(apart, self.plan.groups)
        if len(seeds) > 1:
            t = STUDENT[min(len(seeds), len(STUDENT) + 1) - 2]
            half = math.hypot(half, t * math.sqrt(apart.mean(axis=1).var(ddof=1) / len(seeds)))
        return float(apart.mean()), half, len(seeds)

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


def conclusion(board: Scoreboard, titles: dict[str, str]) -> str:
    """One sentence on which method was best, or that the noise does not let one say; empty for
    fewer than two methods."""
    rows = sorted(board.rows(), key=lambda row: -row.test_accuracy)
    if len(rows) < 2 or board.plan is None or not board.plan.truth:
        return ""
    best, second = rows[:2]
    names = f"{titles[best.method]} ({best.test_accuracy:.1%})"
    other = f"{titles[second.method]} ({second.test_accuracy:.1%})"
    gap, half, seeds = board.gap(best.method, second.method)
    common = " that both finished" if seeds < max(best.seeds, second.seeds) else ""
    size = f"{len(board.plan.truth)} test clips and {seeds} seed{'s' * (seeds != 1)}{common}"
    if gap > half and seeds > 1:
        return (
            f"{names} was clearly better than {other}: the difference of {gap:.1%} ± {half:.1%} "
            f"is more than the luck of {size}."
        )
    if gap > half:
        return (
            f"{names} was ahead of {other} on these {len(board.plan.truth)} test clips, by more "
            f"than their luck ({gap:.1%} ± {half:.1%}). With one seed{common} that is no clear "
            "win: another seed may turn it round, so run three."
        )
    gaps = {row.method: board.gap(best.method, row.method) for row in rows[1:]}
    tied = [best.method] + [method for method, (gap, half, _) in gaps.items() if gap <= half]
    *first, last = (titles[method] for method in tied)
    return (
        f"No clear difference between {', '.join(first)} and {last}: with {size}, {names} against "
        f"{other} is within the noise" + (f" (± {half:.1%})." if math.isfinite(half) else ".")
    )


def clip_error(apart: np.ndarray, groups: Sequence[int]) -> float:
    """Standard error, over the test clips, of the mean difference of two methods' answers.

    apart: (seeds, clips), 1 where one is right and the other wrong, -1 the other way round, else 0.
    groups: of every clip, such as its speaker; clips of one group count as one draw. Where all are
    of one group, or none is named, every clip counts by itself, and nothing is said about other
    groups. As Agresti and Min (2005) advise for paired answers, clips that fall on either side are
    added, so that methods that agree on every clip are not taken for equal with certainty.
    """
    of_clip = apart.mean(axis=0)
    if len(set(groups)) <= 1:
        groups = range(len(of_clip))
    of_group = np.bincount(np.asarray(groups), of_clip - of_clip.mean())
    return math.sqrt(float(of_group @ of_group) + 1) / (len(of_clip) + 2)


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
