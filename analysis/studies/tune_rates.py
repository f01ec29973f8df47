"""Learning rates for short runs, found with the same effort for every method.

    python -m analysis.studies.tune_rates --tasks tones
    python -m analysis.studies.tune_rates --tasks digits --shots 50 --epochs 4 \\
        --methods linear,full,bitfit,lora,prefix,adapter,conv-adapter,dense-moa,topk-moa,soft-moa

Each method, or an entry such as `soft-moa:experts=16`, trains from the warm head at the same
factors of its paper's rate, few-shot, and is asked on validation clips; the test clips are never
looked at. Chosen is the factor of FACTORS with the highest validation accuracy after the last
epoch, mean over tasks and seeds; ties go to the lower loss. The best epoch would favour rates that
leap about: the best of several noisy values is high. Other `--factors` show whether the grid ends
too early. Runs of the same backbone that are in rates.csv already are not run again, and rates.md
is of one backbone.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from analysis import tables
from analysis.studies.claims import Row
from analysis.studies.engine import Local, Result
from analysis.studies.pages import by
from analysis.studies.trial import backbone, load_task
from softmoa.methods import METHODS
from softmoa.training.compare import compare
from softmoa.training.fit import TrainingOptions
from softmoa.training.plan import Choice, Comparison
from softmoa.training.scoreboard import Scoreboard

BACKBONE = "ast-small"
FACTORS = (0.1, 0.3, 1.0)  # of the paper's rate
FAILED = "failed"  # in the place of an accuracy: the loss became infinite


@dataclass(frozen=True)
class Tuning:
    """A run that is asked on validation clips alone. backbone: what its sha256 begins with. method:
    an entry of `Choice.parse`. factor: of its paper's rate."""

    backbone: str
    task: str
    shots: int
    epochs: int
    seed: int
    method: str
    factor: float

    @property
    def row(self) -> dict[str, str]:
        """The run as rates.csv has it."""
        return {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in asdict(self).items()}

    def execute(self) -> Result:
        """Accuracy and loss after the last epoch."""
        choice = Choice.parse(self.method, self.factor)
        training = TrainingOptions(epochs=self.epochs)
        comparison = Comparison((choice,), training, (self.seed,), self.shots)
        task = replace(load_task(self.task), test=())
        board = Scoreboard().add_all(compare(backbone(BACKBONE), task, comparison))
        found = {"rate": f"{choice.learning_rate:g}", "accuracy": FAILED, "loss": FAILED}
        if not board.failed:
            last = board.points[-1]
            found |= {"accuracy": f"{last.accuracy:.4f}", "loss": f"{last.loss:.4f}"}
        return found


COLUMNS = (*(field.name for field in fields(Tuning)), "rate", "accuracy", "loss")


def tune(path: Path, runs: Sequence[Tuning], workers: int) -> None:
    """Append a row to `path` for every run that is not there yet."""
    done = [{name: row[name] for name in COLUMNS[:-3]} for row in tables.read(path)]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", buffering=1, newline="") as table:
        rows = csv.DictWriter(table, COLUMNS)
        if new:
            rows.writeheader()
        for run, found in Local(workers)([run for run in runs if run.row not in done]):
            if isinstance(found, Exception):
                raise found
            assert isinstance(run, Tuning)
            rows.writerow(run.row | {name: found[name] for name in COLUMNS[-3:]})
            print(*run.row.values(), found["accuracy"], flush=True)


def scores(rows: Sequence[Row]) -> dict[float, tuple[float, float]]:
    """Of one method: factor -> mean validation accuracy and minus mean loss; a failed run counts
    as 0 %."""
    found = {}
    for factor, of in sorted((float(factor), of) for factor, of in by(rows, "factor").items()):
        kept = [row for row in of if row["accuracy"] != FAILED]
        loss = mean(float(row["loss"]) for row in kept) if len(kept) == len(of) else 1e9
        found[factor] = sum(float(row["accuracy"]) for row in kept) / len(of), -loss
    return found


def report(rows: Sequence[Row]) -> str:
    """The table of rates.md, of the rows of one backbone."""
    order, by_method = list(METHODS), by(rows, "method")
    entries = sorted(by_method, key=lambda e: (order.index(e.partition(":")[0]), e))
    found = {entry: scores(by_method[entry]) for entry in entries}
    best = {entry: _chosen(of) for entry, of in found.items()}
    factors = sorted({factor for of in found.values() for factor in of})
    tried: dict[tuple[str, ...], set[float]] = {}
    for row in rows:
        run = row["task"], row["shots"], row["epochs"], row["seed"]
        tried.setdefault(run, set()).add(float(row["factor"]))
    runs = "; ".join(
        f"{task}, seed {seed} (`python -m analysis.studies.tune_rates --tasks {task} --shots "
        f"{shots} "
        f"--epochs {epochs} --seeds {seed} --factors {','.join(f'{f:g}' for f in sorted(of))}`)"
        for (task, shots, epochs, seed), of in sorted(tried.items())
    )
    body = []
    for entry, of in found.items():
        cells = [f"{100 * of[f][0]:.1f}" if f in of else "" for f in factors]
        cells = [f"**{c}**" if f == best[entry] else c for f, c in zip(factors, cells, strict=True)]
        rate, factor = Choice.parse(entry, 1).learning_rate, best[entry]
        chosen = "" if factor is None else f"{factor * rate:.2g}"
        body.append([entry, f"{rate:g}", *cells, chosen])
    heads = ["method", "paper's rate", *(f"× {factor:g}" for factor in factors), "chosen"]
    about = (
        f"Backbone ast-small, sha256 {rows[0]['backbone']}. "
        "Validation accuracy (%) after the last epoch of runs from the warm head, at factors of "
        f"the paper's rate, the same for every method. Runs: {runs}. The mean is over the runs of "
        "a row; rows that lack some are not comparable to others. "
        f"One of {' '.join(f'× {f:g}' for f in FACTORS)} is chosen. {_beyond(found)}"
    )
    return tables.page("Learning rates of short runs", about, tables.markdown(heads, body))


def _chosen(found: dict[float, tuple[float, float]]) -> float | None:
    """None before a factor of FACTORS was tried."""
    return max((f for f in found if f in FACTORS), key=lambda factor: found[factor], default=None)


def _beyond(found: dict[str, dict[float, tuple[float, float]]]) -> str:
    """What the factors that cannot be chosen would have gained."""
    gains = [
        (accuracy - of[best][0], entry, factor)
        for entry, of in found.items()
        for factor, (accuracy, _) in of.items()
        if (best := _chosen(of)) is not None and factor not in FACTORS
    ]
    if not gains:
        return "Beyond a choice at the edge of the grid there may be a better one."
    most, method, factor = max(gains)
    return (
        "The others (`--factors`) show whether that grid ends too early: the most that one gains "
        f"is {100 * most:.1f} points ({method} at × {factor:g})."
    )


def main(
    names: Annotated[str, typer.Option("--tasks")] = "tones",
    methods: str = ",".join(METHODS),
    factors: str = ",".join(f"{f:g}" for f in FACTORS),
    seeds: str = "0",
    shots: int = 10,
    epochs: int = 8,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    out: Path = tables.RESULTS,
) -> None:
    known = backbone(BACKBONE).sha256[:12]
    runs = [
        Tuning(known, task, shots, epochs, int(seed), method, float(factor))
        for task, seed, factor, method in product(
            *(text.split(",") for text in (names, seeds, factors, methods))
        )
    ]
    tune(out / "rates.csv", runs, workers)
    text = report([row for row in tables.read(out / "rates.csv") if row["backbone"] == known])
    (out / "rates.md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
