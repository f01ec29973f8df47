"""The paper's table in one command: its methods by its recipe, on a benchmark's own folds.

A cell is one run: a method on a fold with a seed, in a folder of its own. A cell is over when its
folder holds a result; the same command goes on where it was stopped. Several processes, as those of
`torchrun`, share the cells.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from softmoa import ASSETS
from softmoa.data import tasks
from softmoa.data.tasks import LabelledFile, Task, TaskError
from softmoa.model import device
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.seeding import seeded
from softmoa.model.weights import Loaded, WeightsError, load_backbone
from softmoa.training.compare import Inputs, compare
from softmoa.training.cost import duration, estimate
from softmoa.training.events import ComparisonEvent
from softmoa.training.plan import Choice, Comparison
from softmoa.training.recipes import OF_PAPER
from softmoa.training.run_directory import left, record
from softmoa.training.scoreboard import Scoreboard
from softmoa.training.statistics import spread


@dataclass(frozen=True)
class Row:
    """A row of the table. entry: of `Choice.parse`, where a method's defaults are the papers'.
    published: accuracies on the benchmarks of SIZES, arXiv 2312.03694, table 1; those of arXiv
    2402.00828 are in none of its summaries."""

    title: str
    entry: str
    published: tuple[float, ...] = ()


TABLE = {
    "full": Row("Full fine-tuning", "full", (87.48, 84.31, 97.31, 93.29)),
    "linear": Row("Linear probe", "linear", (75.85, 77.93, 41.78, 27.52)),
    "bitfit": Row("BitFit", "bitfit", (86.05, 82.17, 85.51, 63.85)),
    "shallow-prompt": Row("Shallow prompts", "shallow-prompt", (84.30, 79.73, 75.28, 40.85)),
    "deep-prompt": Row("Deep prompts", "deep-prompt", (86.52, 83.67, 89.18, 68.60)),
    "prefix": Row("Prefix tuning", "prefix", (82.93, 81.39, 83.46, 55.75)),
    "lora": Row("LoRA", "lora", (86.45, 83.83, 93.61, 76.00)),
    "adapter": Row("Bottleneck, Pfeiffer", "adapter", (88.38, 83.44, 91.33, 73.19)),
    "adapter-houlsby": Row(
        "Bottleneck, Houlsby", "adapter:placement=houlsby", (88.00, 82.80, 91.75, 78.71)
    ),
    "conv-adapter": Row("Convolution, Pfeiffer", "conv-adapter", (88.30, 84.57, 96.28, 95.48)),
    "conv-adapter-houlsby": Row(
        "Convolution, Houlsby", "conv-adapter:placement=houlsby", (85.97, 83.59, 96.16, 96.34)
    ),
    "dense-moa": Row("Dense-MoA", "dense-moa"),
    "soft-moa": Row("Soft-MoA", "soft-moa"),
}
# Folds, classes and clips to train, validate and test, as published: for `--dry-run` without data.
SIZES = {
    "esc50": (5, 50, 1200, 400, 400),
    "urbansound8k": (10, 10, 7079, 816, 837),
    "speech-commands": (1, 35, 84_843, 9_981, 11_005),
    "fluent-speech-commands": (1, 31, 23_132, 3_118, 3_793),
}


@dataclass(frozen=True)
class Cell:
    """One run. test: the fold, "" where the split is fixed. epochs: 0 for the recipe's; shots:
    training clips of each class, 0 for all. out: folder of all cells."""

    benchmark: str
    test: str
    entry: str
    seed: int
    backbone: str
    out: str
    epochs: int = 0
    shots: int = 0
    checkpointed: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        fold = f", fold {self.test}" if self.test else ""
        return f"{self.benchmark}{fold}, {TABLE[self.entry].title}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        fold = f"fold{self.test}-" if self.test else ""
        return Path(self.out) / self.benchmark / f"{fold}{self.entry}-seed{self.seed}"

    @property
    def comparison(self) -> Comparison:
        recipe = OF_PAPER[self.benchmark]
        training = replace(
            recipe.training,
            epochs=self.epochs or recipe.training.epochs,
            checkpointed=self.checkpointed,
            compiled=self.compiled,
        )
        return Comparison(
            (Choice.parse(TABLE[self.entry].entry, rate=1),),
            training,
            (self.seed,),
            self.shots or None,
            recipe.start,
            clip_seconds=recipe.clip_seconds,
        )

    @property
    def result(self) -> dict[str, str] | None:
        """Its row of results.csv, if it is over. Raises TaskError if it was by another recipe."""
        try:
            with (self.folder / "events.jsonl").open(encoding="utf-8") as log:
                plan = json.loads(log.readline())
            with (self.folder / "results.csv").open(newline="") as table:
                row = next(csv.DictReader(table), None)
        except (OSError, ValueError):
            return None
        ours = self.comparison
        if row and (plan["training"]["epochs"], plan["shots"]) != (
            ours.training.epochs,
            ours.shots,
        ):
            raise TaskError(
                f"{self.folder} holds a run of other epochs or shots; name another --out."
            )
        return row

    def events(self) -> Iterator[ComparisonEvent]:
        inputs = _inputs(self.backbone, self.benchmark, self.test)
        earlier = left(self.folder)
        run = compare(inputs.base, inputs.task, self.comparison, inputs=inputs, earlier=earlier)
        yield from record(run, self.folder, earlier)

    def execute(self) -> dict[str, str]:
        """Run it, for an engine of analysis/studies; raises ValueError if nothing came of it."""
        for _ in () if self.result else self.events():
            pass
        if self.result is None:
            raise ValueError(f"{self} failed; see {self.folder / 'events.jsonl'}")
        return self.result


@lru_cache(maxsize=1)
def _inputs(backbone: str, benchmark: str, test: str) -> Inputs:
    """What the cells of a fold share: its log-mels, frozen features and probes."""
    task = tasks.load(benchmark, test)
    return Inputs(load_backbone(backbone), task, OF_PAPER[benchmark].clip_seconds)


def cells(
    benchmark: str,
    entries: Sequence[str],
    seeds: Sequence[int],
    folds: Sequence[str] = (),
    absent: bool = False,
    **common: Any,
) -> list[Cell]:
    """Fold by fold. folds: all, where none is named. absent: the data need not be there. Raises
    TaskError if they are not, or the paper has no table of them."""
    if benchmark not in SIZES:
        raise TaskError(f"The paper has no table for '{benchmark}'; it has {', '.join(SIZES)}.")
    if unknown := [name for name in entries if name not in TABLE]:
        raise TaskError(f"There is no row '{unknown[0]}'; there are {', '.join(TABLE)}.")
    try:
        known = tasks.folds(benchmark) or ("",)
    except TaskError:
        if not absent:
            raise
        count = SIZES[benchmark][0]
        known = tuple(str(fold + 1) for fold in range(count)) if count > 1 else ("",)
    if unknown := [fold for fold in folds if fold not in known]:
        raise TaskError(f"There is no fold '{unknown[0]}' of '{benchmark}'.")
    grid = product(folds or known, seeds, entries)
    return [Cell(benchmark, fold, entry, seed, **common) for fold, seed, entry in grid]


def shared(cells: Sequence[Cell]) -> Sequence[Cell]:
    """The cells of this process, where `torchrun` has started several."""
    return cells[int(os.environ.get("RANK", 0)) :: int(os.environ.get("WORLD_SIZE", 1))]


def run(cells: Sequence[Cell], costs: dict[str, float], say: Callable[[str], None]) -> None:
    """Run what is not over yet, with a line of progress. costs: seconds of a run of each entry, of
    which the shares alone count."""
    waiting = [cell for cell in cells if cell.result is None]
    whole, done, began = sum(costs[cell.entry] for cell in waiting), 0.0, time.monotonic()
    for number, cell in enumerate(waiting, len(cells) - len(waiting) + 1):
        board = Scoreboard()
        for event in cell.events():
            board.add(event)
            part = sum(board.progress.values()) * costs[cell.entry]
            rest = (time.monotonic() - began) * (whole / max(done + part, 1e-9) - 1)
            what = board.doing if part else "preparing"
            say(f"[{number}/{len(cells)}] {cell}: {what}; {duration(rest) if part else '?'} left")
        done += costs[cell.entry]
        write_page(cells)
        result = cell.result or {"test_accuracy": "failed"}
        say(f"[{number}/{len(cells)}] {cell}: test {result['test_accuracy']}\n")


def write_page(cells: Sequence[Cell]) -> Path:
    """results.md of the benchmark, from the results that are there."""
    first, column = cells[0], list(SIZES).index(cells[0].benchmark)
    found = [(cell, row) for cell in cells if (row := cell.result)]
    recipe = first.comparison.training
    lines = [
        f"# {first.benchmark} on `{first.backbone}`",
        "",
        f"{len(found)} of {len(cells)} runs are over, on "
        f"{', '.join(sorted({row['device'] for _, row in found})) or 'nothing'}: {recipe.epochs} "
        f"epochs, batch {recipe.batch}, seeds {sorted({cell.seed for cell in cells})}. Accuracy on "
        "the test clips, mean ± standard deviation over folds and seeds; parameters without head "
        "and final norm. Published: arXiv 2312.03694, table 1.",
        "",
        "| method | parameters | accuracy, % | runs | published, % | s a run | MB a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in dict.fromkeys(cell.entry for cell in cells):
        rows = [row for cell, row in found if cell.entry == entry]
        accuracy = [100 * float(row["test_accuracy"]) for row in rows]
        published = TABLE[entry].published[column] if TABLE[entry].published else ""
        parameters = score = seconds = memory = ""
        if rows:
            parameters = f"{int(rows[0]['trained_parameters']):,}"
            score = f"{mean(accuracy):.2f} ± {spread(accuracy):.2f}"
            seconds = f"{mean(float(row['seconds']) for row in rows):.0f}"
            memory = f"{max(float(row['peak_memory_mb']) for row in rows):.0f}"
        values = TABLE[entry].title, parameters, score, len(rows), published, seconds, memory
        lines.append(f"| {' | '.join(map(str, values))} |")
    path = Path(first.out) / first.benchmark / "results.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")  # several processes may write it
    part.write_text("\n".join([*lines, ""]), encoding="utf-8")
    part.replace(path)
    return path


def forecast(
    cells: Sequence[Cell], dry: bool = False, say: Callable[[str], None] = lambda line: None
) -> tuple[list[str], dict[str, float]]:
    """What will be run, with time and memory as a few steps of each method take them here, line by
    line; and the seconds of each entry. say: takes a line before each method is measured.

    dry: the weights and the data need not be there.
    """
    first = cells[0]
    base, task, notes = _measured_on(first, dry)
    entries = {cell.entry: cell.comparison for cell in cells}
    found = {}
    for number, (entry, comparison) in enumerate(entries.items(), 1):
        say(f"[{number}/{len(entries)}] measuring {TABLE[entry].title}\n")
        found[entry] = estimate(base, task, comparison)
    costs = {entry: expected.costs[0] for entry, expected in found.items()}
    preparing = [expected.preparing for expected in found.values()][-1]
    folds = len({cell.test for cell in cells})
    whole = folds * preparing + sum(costs[cell.entry].seconds for cell in cells)
    recipe = first.comparison.training
    lines = [
        f"{first.benchmark}: {len(cells)} runs ({len(costs)} methods, {folds} folds, "
        f"{len({cell.seed for cell in cells})} seeds), {recipe.epochs} epochs of batch "
        f"{recipe.batch}, on {device.title(base.model.device)}",
        *(
            f"  {TABLE[entry].title:22} {cost.trained_parameters:12,} parameters "
            f"{duration(cost.seconds):>8} a run {cost.memory_mb:8,.0f} MB a step"
            for entry, cost in costs.items()
        ),
        f"  reading and frozen features of a fold: {duration(preparing)}",
        f"  in all {duration(whole)} in one process",
        *notes,
    ]
    return lines, {entry: cost.seconds for entry, cost in costs.items()}


def _measured_on(cell: Cell, dry: bool) -> tuple[Loaded, Task, list[str]]:
    """The backbone and the task; if `dry`, where they are not there, random weights of the base
    size and rain in the published numbers, and what stands for what, one sentence each."""
    notes = []
    try:
        base = load_backbone(cell.backbone)
    except WeightsError:
        if not dry:
            raise
        with seeded(0):
            model = AST(ASTConfig(classes=0, pool="mean")).eval()
        base = Loaded("random", device.place(model, "these weights"), (), "")
        notes.append(f"Measured on random weights of the base size: {cell.backbone} is not here.")
    try:
        task = tasks.load(cell.benchmark, cell.test)
    except TaskError:
        if not dry:
            raise
        task = _as_published(cell.benchmark)
        notes.append("Measured on rain, in the published number of clips: the data are not here.")
    return base, task, notes


def _as_published(benchmark: str) -> Task:
    _, classes, *sizes = SIZES[benchmark]
    rain = ASSETS / "examples" / "rain.ogg"  # as long as the longest clip of them
    train, valid, test = (
        tuple(LabelledFile(rain, i % classes, "") for i in range(n)) for n in sizes
    )
    return Task(benchmark, benchmark, tuple(map(str, range(classes))), train, valid, test)
