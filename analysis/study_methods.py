"""Every method on every task, with default and with matched options, several seeds.

    python -m analysis.study_methods                    4 tasks, 12 methods, 3 seeds: hours
    python -m analysis.study_methods --tasks tones --methods linear,soft-moa --seeds 0

Writes results/methods.csv, a row per run, and results/methods.md. Runs that are in the table
already are not run again, so the study can be interrupted and continued. Tasks whose sounds are
not at hand are left out, and said so.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import typer

from softmoa import run_directory, tasks, weights
from softmoa.experiment import RunFailed, RunFinished, compare
from softmoa.methods import METHODS
from softmoa.plan import plan

RESULTS = Path(__file__).parent / "results"
SETTING = ("task", "shots", "budget", "options")
COLUMNS = (*SETTING, *run_directory.COLUMNS)
OPTIONS = {"default": False, "matched": True}  # whether parameters are made equal

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


def study(
    path: Path, names: Sequence[str], methods: Sequence[str], seeds: Sequence[int], *,
    options: Sequence[str], shots: int, epochs: int,
) -> None:  # fmt: skip
    """Append a row to `path` for every run that is not there yet."""
    base = weights.load("ast-small")
    sized = [name for name in methods if METHODS[name].sizes]
    done = {tuple(row[n] for n in (*SETTING, "method", "seed")) for row in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", buffering=1, newline="") as table:
        rows = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
        if new:
            rows.writeheader()
        for name in names:
            task = tasks.load(name)
            for option in options:
                setting = dict(
                    zip(SETTING, (name, str(shots), f"{epochs} epochs", option), strict=True)
                )
                for seed in seeds:
                    # Without a size, matched options are the default ones.
                    candidates = sized if OPTIONS[option] else methods
                    missing = [
                        m for m in candidates if (*setting.values(), m, str(seed)) not in done
                    ]
                    if not missing:
                        continue
                    comparison = plan(
                        missing,
                        amount=epochs,
                        config=base.model.config,
                        seeds=(seed,),
                        shots=shots or None,
                        equal_parameters=OPTIONS[option],
                        interleave=False,
                    )
                    for event in compare(base, task, comparison):
                        if isinstance(event, RunFinished):
                            row = setting | run_directory.as_line(event)
                            rows.writerow(row)
                            print(*(row[column] for column in COLUMNS), flush=True)
                        elif isinstance(event, RunFailed):
                            print(event.run, event.message, flush=True)


def report(rows: Sequence[Row]) -> str:
    """A table per task: mean ± standard deviation of test accuracy over the seeds."""
    lines = [
        "# Methods",
        "",
        "Written by `python -m analysis.study_methods`: test accuracy in %, mean ± standard "
        "deviation over seeds; trained parameters without head and final norm. Matched: options "
        "solved for as many parameters as Soft-MoA has by default.",
    ]
    for setting in dict.fromkeys(tuple(row[n] for n in SETTING[:3]) for row in rows):
        task, shots, budget = setting
        of_task = [row for row in rows if tuple(row[n] for n in SETTING[:3]) == setting]
        clips = f"{shots} clips per class" if shots != "0" else "all training clips"
        lines += [
            "",
            f"## {task}, {clips}, {budget}",
            "",
            "| method | parameters | default | seconds | parameters | matched | seconds | seeds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for method in METHODS:
            cells, seeds = [], 0
            for option in OPTIONS:
                of = [r for r in of_task if (r["method"], r["options"]) == (method, option)]
                seeds = max(seeds, len(of))
                cells += _cells(of)
            if seeds:
                lines.append(f"| {METHODS[method].title} | {' | '.join(cells)} | {seeds} |")
    return "\n".join(lines) + "\n"


def _cells(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["", "", ""]
    tests = [100 * float(row["test_accuracy"]) for row in rows]
    spread = f" ± {stdev(tests):.1f}" if len(tests) > 1 else ""
    seconds = mean(float(row["seconds"]) for row in rows)
    size = int(rows[0]["trained_parameters"])
    return [f"{size:,}", f"{mean(tests):.1f}{spread}", f"{seconds:.0f}"]


def main(
    names: Annotated[str, typer.Option("--tasks")] = "instruments,tones,esc10,digits",
    methods: str = ",".join(METHODS),
    seeds: str = "0,1,2",
    options: str = ",".join(OPTIONS),
    shots: int = 10,
    epochs: int = 8,
    out: Path = RESULTS,
) -> None:
    wanted, at_hand = names.split(","), tasks.available()
    if absent := [name for name in wanted if name not in at_hand]:
        print(f"Left out, their sounds are not at hand: {', '.join(absent)}")
    study(
        out / "methods.csv",
        [name for name in wanted if name in at_hand],
        methods.split(","),
        [int(seed) for seed in seeds.split(",")],
        options=options.split(","),
        shots=shots,
        epochs=epochs,
    )
    text = report(read(out / "methods.csv"))
    (out / "methods.md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
