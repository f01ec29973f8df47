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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from analysis.studies.trial import load_task
from softmoa.methods import METHODS
from softmoa.model import weights
from softmoa.model.weights import Loaded
from softmoa.training.compare import compare
from softmoa.training.events import Planned, RunEvent, RunFailed
from softmoa.training.fit import Evaluated, Finished, TrainingOptions
from softmoa.training.plan import Choice, Comparison

RESULTS = Path(__file__).parents[1] / "results"
FACTORS = (0.1, 0.3, 1.0)  # of the paper's rate
COLUMNS: tuple[str, ...] = (
    "backbone",  # what its sha256 begins with
    "task",
    "shots",
    "epochs",
    "seed",
    "method",
    "factor",
    "rate",
    "accuracy",
    "loss",
)
KEY: tuple[str, ...] = COLUMNS[:7]
FAILED = "failed"  # in the place of an accuracy: the loss became infinite

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


def tune(
    path: Path,
    base: Loaded,
    names: Sequence[str],
    factors: Sequence[float],
    seeds: Sequence[int],
    *,
    methods: Sequence[str],
    shots: int,
    epochs: int,
) -> None:
    """Append a row to `path` for every run that is not there yet."""
    done = {tuple(row[name] for name in KEY) for row in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", buffering=1, newline="") as table:
        rows = csv.DictWriter(table, COLUMNS)
        if new:
            rows.writeheader()
        for name in names:
            task = replace(load_task(name), test=())
            for seed in seeds:
                for factor in factors:
                    key = base.sha256[:12], name, str(shots), str(epochs), str(seed)
                    missing = [m for m in methods if (*key, m, f"{factor:g}") not in done]
                    if not missing:
                        continue
                    choices = tuple(Choice.parse(m, factor) for m in missing)
                    comparison = Comparison(
                        choices,
                        TrainingOptions(epochs=epochs),
                        (seed,),
                        shots,
                        interleave=False,
                    )
                    entries: dict[str, tuple[str, float]] = {}  # run -> entry and rate
                    last: dict[str, Evaluated] = {}
                    for event in compare(base, task, comparison):
                        if isinstance(event, Planned):
                            entries = {
                                of.run: (entry, of.learning_rate)
                                for of, entry in zip(event.runs, missing, strict=True)
                            }
                        if not isinstance(event, (RunEvent, RunFailed)):
                            continue
                        entry, rate = entries[event.run]
                        row = dict(zip(KEY, (*key, entry, f"{factor:g}"), strict=True))
                        row["rate"] = f"{rate:g}"
                        if isinstance(event, RunFailed):
                            rows.writerow(row | {"accuracy": FAILED, "loss": FAILED})
                        elif isinstance(event.event, Evaluated):
                            last[event.run] = event.event
                        elif isinstance(event.event, Finished):
                            result = last[event.run].accuracy, last[event.run].loss
                            row |= dict(
                                zip(("accuracy", "loss"), map("{:.4f}".format, result), strict=True)
                            )
                            rows.writerow(row)
                            print(*row.values(), flush=True)


def scores(rows: Sequence[Row], method: str) -> dict[float, tuple[float, float]]:
    """Factor -> mean validation accuracy and minus mean loss; a failed run counts as 0 %."""
    found = {}
    for factor in sorted({float(row["factor"]) for row in rows if row["method"] == method}):
        of = [row for row in rows if row["method"] == method and float(row["factor"]) == factor]
        kept = [row for row in of if row["accuracy"] != FAILED]
        loss = mean(float(row["loss"]) for row in kept) if len(kept) == len(of) else 1e9
        found[factor] = sum(float(row["accuracy"]) for row in kept) / len(of), -loss
    return found


def report(rows: Sequence[Row]) -> str:
    """The table of rates.md, of the rows of one backbone."""
    factors = sorted({float(row["factor"]) for row in rows})
    tried: dict[tuple[str, ...], set[float]] = {}
    for row in rows:
        run = row["task"], row["shots"], row["epochs"], row["seed"]
        tried.setdefault(run, set()).add(float(row["factor"]))
    lines = [
        "# Learning rates of short runs",
        "",
        f"Backbone ast-small, sha256 {rows[0]['backbone']}. "
        "Validation accuracy (%) after the last epoch of runs from the warm head, at factors of "
        "the paper's rate, the same for every method. Runs: "
        + "; ".join(
            f"{task}, seed {seed} (`python -m analysis.studies.tune_rates --tasks {task} --shots "
            f"{shots} "
            f"--epochs {epochs} --seeds {seed} --factors {','.join(f'{f:g}' for f in sorted(of))}`)"
            for (task, shots, epochs, seed), of in sorted(tried.items())
        )
        + ". The mean is over the runs of a row; rows that lack some are not comparable to others. "
        f"One of {' '.join(f'× {f:g}' for f in FACTORS)} is chosen. {_beyond(rows)}",
        "",
        "| method | paper's rate | " + " | ".join(f"× {f:g}" for f in factors) + " | chosen |",
        "|---|---|" + "---|" * (len(factors) + 1),
    ]
    for method in _entries(rows):
        found = scores(rows, method)
        best = _chosen(found)
        cells = [
            ("**{:.1f}**" if f == best else "{:.1f}").format(100 * found[f][0])
            if f in found
            else ""
            for f in factors
        ]
        rate = Choice.parse(method, 1).learning_rate
        chosen = "" if best is None else f"{best * rate:.2g}"
        lines.append(f"| {method} | {rate:g} | " + " | ".join([*cells, chosen]) + " |")
    return "\n".join(lines) + "\n"


def _entries(rows: Sequence[Row]) -> list[str]:
    """What was tuned, in the order of METHODS, each method before its entries with options."""
    there, order = {row["method"] for row in rows}, list(METHODS)
    return sorted(there, key=lambda entry: (order.index(entry.partition(":")[0]), entry))


def _chosen(found: dict[float, tuple[float, float]]) -> float | None:
    """None before a factor of FACTORS was tried."""
    return max((f for f in found if f in FACTORS), key=lambda factor: found[factor], default=None)


def _beyond(rows: Sequence[Row]) -> str:
    """What the factors that cannot be chosen would have gained."""
    gains = []
    for method in _entries(rows):
        found = scores(rows, method)
        best = _chosen(found)
        gains += [
            (of[0] - found[best][0], method, factor)
            for factor, of in found.items()
            if best is not None and factor not in FACTORS
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
    out: Path = RESULTS,
) -> None:
    base = weights.load("ast-small")
    tune(
        out / "rates.csv",
        base,
        names.split(","),
        [float(f) for f in factors.split(",")],
        [int(s) for s in seeds.split(",")],
        methods=methods.split(","),
        shots=shots,
        epochs=epochs,
    )
    rows = [row for row in read(out / "rates.csv") if row["backbone"] == base.sha256[:12]]
    text = report(rows)
    (out / "rates.md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
