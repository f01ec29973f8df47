"""What a comparison amounts to: its events folded into curves, a table and one honest sentence."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import NamedTuple

import numpy as np

from softmoa.training.events import (
    ComparisonEvent,
    Planned,
    PlannedRun,
    Preparing,
    ProbeScored,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.training.fit import Evaluated, Evaluating, Started, Step
from softmoa.training.plan import title
from softmoa.training.statistics import clip_error, half_width, smallest_difference, spread

PROBE = "probe"  # in the place of a method
SATURATED = 0.98  # accuracy above which a task does not tell methods apart


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation of one run on the validation clips."""

    run: str
    method: str
    step: int
    seconds: float
    accuracy: float
    loss: float


@dataclass(frozen=True)
class MethodResult:
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


class Lead(NamedTuple):
    """How far the best method is ahead of the second. rows: of all methods, the best first. gap,
    half, seeds: see `Scoreboard.gap`. same: see `Scoreboard.same_answers`. clips: tested by all."""

    rows: list[MethodResult]
    gap: float
    half: float
    seeds: int
    same: bool
    clips: int

    @property
    def clear(self) -> bool:
        """By more than luck, with more than one seed."""
        return self.gap > self.half and self.seeds > 1


@dataclass
class Scoreboard:
    """Everything the events said so far; `add` takes the next one.

    balance: run -> shares of its experts, after each evaluation. progress: run -> share that is
    over. expected: run -> planned steps, at most. probes: (seed, split, fold) -> what the linear
    probe answers.
    """

    plan: Planned | None = None
    points: list[CurvePoint] = field(default_factory=list)
    finished: list[RunFinished] = field(default_factory=list)
    failed: list[RunFailed] = field(default_factory=list)
    balance: dict[str, list[RouterBalance]] = field(default_factory=dict)
    progress: dict[str, float] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    probes: dict[tuple[int, str, str], ProbeScored] = field(default_factory=dict)
    doing: str = ""

    def add(self, event: ComparisonEvent) -> None:
        if isinstance(event, RunEvent):
            self.doing = "training"
        match event:
            case Planned():
                self.plan = event
            case RouterBalance():
                self.balance.setdefault(event.run, []).append(event)
            case Preparing():
                self.doing = f"{event.what}, {event.done} of {event.total}"
            case ProbeScored():
                self.probes[event.seed, event.split, event.fold] = event
            case RunFinished():
                self.finished.append(event)
                self.progress[event.run] = 1.0
            case RunFailed():
                self.failed.append(event)
                self.progress[event.run] = 1.0
            case RunEvent(run=run, event=Started(steps=steps)):
                self.expected[run], self.progress[run] = steps, 0.0
            case RunEvent(run=run, event=Step(step=step, seconds=seconds)):
                assert self.plan is not None
                done = self.plan.training.share_done(step, self.expected[run], seconds)
                self.progress[run] = 0.95 * min(done, 1)
            case RunEvent(event=Evaluating(done=done, total=total)):
                self.doing = f"checking, {done} of {total} clips"
            case RunEvent(run=run, method=method, event=Evaluated() as of):
                at = of.step, of.seconds, of.accuracy, of.loss
                self.points.append(CurvePoint(run, method, *at))

    def add_all(self, events: Iterable[ComparisonEvent]) -> Scoreboard:
        for event in events:
            self.add(event)
        return self

    def rows(self) -> list[MethodResult]:
        """One row per method with a finished run, in the order they were started."""
        found = []
        for method in dict.fromkeys(run.method for run in self.finished):
            runs = [run for run in self.finished if run.method == method]
            seeds = dict.fromkeys(run.seed for run in runs)
            accuracies = [_pooled([run for run in runs if run.seed == seed]) for seed in seeds]
            found.append(
                MethodResult(
                    method=method,
                    trained_parameters=runs[0].trained_parameters,
                    seeds=len(seeds),
                    seconds=mean(run.seconds for run in runs),
                    clips_per_second=mean(run.clips_per_second for run in runs),
                    memory_mb=max(run.peak_memory_mb for run in runs),
                    val_accuracy=mean(run.val_accuracy for run in runs),
                    test_accuracy=mean(accuracies),
                    spread=spread(accuracies),
                )
            )
        return found

    def right(self, method: str) -> dict[int, np.ndarray]:
        """Seed -> 1 for every test clip answered right, 0 for wrong, NaN where the run of the fold
        that tests it is not over. PROBE: of the linear probe."""
        assert self.plan is not None
        truth = np.array(self.plan.truth, int)
        found: dict[int, np.ndarray] = defaultdict(lambda: np.full(len(truth), np.nan))
        if method == PROBE:
            tested = [p for p in self.probes.values() if p.split == "test" and p.predicted]
        else:
            tested = [run for run in self.finished if run.method == method]
        for of in tested:
            clips = self.plan.clips_in(of.fold)
            found[of.seed][clips] = np.equal(of.predicted, truth[clips])
        return found

    def probe(self, split: str = "test") -> float | None:
        """Accuracy of the linear probe, mean over seeds and folds; None before it is known."""
        found = [p.accuracy for (_, of, _), p in self.probes.items() if of == split]
        return mean(found) if found else None

    def same_answers(self, a: str, b: str) -> bool:
        """Whether two methods answer all clips with the same confidence in all common seeds, as
        runs of identical weights do: there is nothing to compare then."""

        of_a, of_b = (
            {
                (run.seed, run.fold): (run.predicted, run.confidence)
                for run in self.finished
                if run.method == method
            }
            for method in (a, b)
        )
        common = of_a.keys() & of_b.keys()
        return bool(common) and all(of_a[key] == of_b[key] for key in common)

    def gap(self, a: str, b: str) -> tuple[float, float, int]:
        """Test accuracy of method a less that of b over the seeds that both finished, the half
        width of its 95 % interval, and the number of those seeds.

        Half width: see `statistics.half_width`.
        """
        assert self.plan is not None
        of_a, of_b = self.right(a), self.right(b)
        seeds = [seed for seed in of_a if seed in of_b]
        if not seeds:
            return 0.0, math.inf, 0
        apart = np.stack([of_a[seed] - of_b[seed] for seed in seeds])  # (seeds, clips)
        known = ~np.isnan(apart).any(axis=0)  # clips of the folds that all of these runs finished
        if not known.any():
            return 0.0, math.inf, 0
        apart, groups = apart[:, known], np.array(self.plan.groups)
        groups = groups[known] if len(groups) else groups
        half = half_width(apart.mean(axis=1).tolist(), clip_error(apart, groups.tolist()))
        return float(apart.mean()), half, len(seeds)

    def lead(self) -> Lead | None:
        """None for fewer than two methods. The best one is that on the clips that all were tested
        on: a method may lack a fold, as where its run failed."""
        rows = self.rows()
        if len(rows) < 2 or self.plan is None or not self.plan.truth:
            return None
        right = {row.method: np.stack([*self.right(row.method).values()]) for row in rows}
        tested = ~np.isnan(np.concatenate([*right.values()])).any(axis=0)
        common = tested if tested.any() else np.ones_like(tested)
        rows.sort(key=lambda row: -np.nanmean(right[row.method][:, common]))
        best, second = rows[0].method, rows[1].method
        same = self.same_answers(best, second)
        return Lead(rows, *self.gap(best, second), same, int(common.sum()))


def _pooled(runs: Sequence[RunFinished]) -> float:
    """Test accuracy of a seed over its folds, clip by clip."""
    right = sum(run.test_accuracy * len(run.predicted) for run in runs)
    return right / max(sum(len(run.predicted) for run in runs), 1)


def outlook(board: Scoreboard) -> str:
    """What can come of a race, once its probe is known and before anything has trained: where the
    probe is, the smallest difference that the test clips can tell, and whether that leaves room to
    win; empty before."""
    probe, plan = board.probe("valid"), board.plan
    if probe is None or plan is None or math.isnan(probe) or not plan.truth:
        return ""
    clips, seeds = len(plan.truth), len({run.seed for run in plan.runs})
    least = smallest_difference(probe, clips)
    said = f"The linear probe has {probe:.1%} on the validation clips. "
    if probe >= SATURATED or least > 1 - probe:
        return said + (
            f"Nothing can separate the methods here: {clips} test clips tell a difference of "
            f"{least:.1%} at best, and all is right above {1 - probe:.1%} more. Take fewer shots "
            "or a harder task."
        )
    said += f"{clips} test clips tell methods apart that differ by {least:.1%} or more"
    return said + (", with one seed for these runs only." if seeds < 2 else f", {seeds} seeds.")


def conclusion(board: Scoreboard) -> str:
    """One sentence on which method was best, or that the noise does not let one say; empty for
    fewer than two methods."""
    lead = board.lead()
    if lead is None or board.plan is None:
        return ""
    rows, gap, half, seeds, same, clips = lead
    best, second = rows[:2]
    names = f"{title(best.method)} ({best.test_accuracy:.1%})"
    other = f"{title(second.method)} ({second.test_accuracy:.1%})"
    if same:
        return (
            f"{names} and {other} answered every clip with the same confidence: the runs hold the "
            "same function, so nothing can be said of the methods. Train longer, or at a higher "
            "rate."
        )
    common = " that both finished" if seeds < max(best.seeds, second.seeds) else ""
    size = f"{clips} test clips and {seeds} seed{'s' * (seeds != 1)}{common}"
    if lead.clear:
        return (
            f"{names} was clearly better than {other}: the difference of {gap:.1%} ± {half:.1%} "
            f"is more than the luck of {size}."
        )
    if gap > half:
        return (
            f"{names} was ahead of {other} on these {clips} test clips, by more "
            f"than their luck ({gap:.1%} ± {half:.1%}). With one seed{common} that is no clear "
            "win: another seed may turn it round, so run three."
        )
    *first, last = (title(row.method) for row in tied(board, rows))
    return (
        f"No clear difference between {', '.join(first)} and {last}: with {size}, {names} against "
        f"{other} is within the noise" + (f" (± {half:.1%})." if math.isfinite(half) else ".")
    ) + _against_probe(board, rows)


def tied(board: Scoreboard, rows: Sequence[MethodResult]) -> list[MethodResult]:
    """The first of the rows, which is the best, and those that luck may put behind it."""
    best, *others = rows
    found = [best]
    for row in others:
        apart, noise, _ = board.gap(best.method, row.method)
        if apart <= noise and not board.same_answers(best.method, row.method):
            found.append(row)
    return found


def probe_title(rows: Iterable[MethodResult | PlannedRun]) -> str:
    """What the probe is called beside the rows: a linear one among them was trained on from it."""
    return "the linear probe" + " before training" * any(row.method == "linear" for row in rows)


def _against_probe(board: Scoreboard, rows: list[MethodResult]) -> str:
    """A sentence on which methods are better than the linear probe; empty where it is not known."""
    probe, called = board.probe(), probe_title(rows)
    if probe is None or not board.right(PROBE):
        return ""
    gaps = {title(row.method): board.gap(row.method, PROBE)[:2] for row in rows}
    above = {
        name: f"{100 * gap:+.1f} ± {100 * half:.1f}"
        for name, (gap, half) in gaps.items()
        if gap > half
    }
    if len(above) == len(rows):
        first, *_, last = above.values()
        return (
            f" All are above {called} ({probe:.1%}) by more points than the luck of the clips, "
            f"from {last} to {first}."
        )
    said = ", ".join(f"{name} ({by})" for name, by in above.items()) or "none of them"
    return f" Above {called} ({probe:.1%}) by more points than the luck of the clips: {said}."


COSTS = ("trained_parameters", "seconds", "memory_mb")  # less is better; of all else more


def frontier(rows: Iterable[MethodResult], x: str, y: str) -> list[MethodResult]:
    """The Pareto line of two columns of `MethodResult`, in the order of x: the methods that no
    other one equals or betters on both and betters on one."""
    rows = sorted(rows, key=lambda row: getattr(row, x))
    signs = [1 if column in COSTS else -1 for column in (x, y)]
    at = np.array([[getattr(row, x), getattr(row, y)] for row in rows]).reshape(-1, 2) * signs
    beats = np.all(at[:, None] <= at, axis=2) & np.any(at[:, None] < at, axis=2)
    return [row for k, row in enumerate(rows) if not beats[:, k].any()]


def confusion(run: RunFinished, plan: Planned) -> np.ndarray:
    """Counts (true class, predicted class) of a run on the test clips."""
    counts = np.zeros((len(plan.labels),) * 2, int)
    truth = [plan.truth[k] for k in plan.clips_in(run.fold)]
    np.add.at(counts, (truth, list(run.predicted)), 1)
    return counts


def worst(run: RunFinished, plan: Planned, count: int = 6) -> list[Miss]:
    """The test clips whose true class the run found least probable, worst first."""
    answers = zip(plan.clips_in(run.fold), run.predicted, run.confidence, strict=True)
    misses = [Miss(clip, plan.truth[clip], said, sure) for clip, said, sure in answers]
    return sorted(misses, key=lambda miss: miss.confidence)[:count]
