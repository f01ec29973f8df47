"""Train the bundles of `assets/bundles`: four siblings for each task, on the frozen `ast-small`.

    python -m analysis.train_bundles                     # all tasks, one seed
    python -m analysis.train_bundles esc10 --seeds 3

The siblings are Soft-MoA, Dense-MoA, top-1 MoA without a balancing loss and a single adapter, all
with as many trained parameters as Soft-MoA (within 5 %), the same clips, order and budget. Rates
and epochs were tried on the validation clips; the bundles then train on those, too, and keep the
last weights, so that the test clips are looked at once. The probe that every head starts from is
measured beside them. The bundles of the first seed are written; every run is a row of
analysis/results/bundles.csv.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from safetensors.torch import save_file
from torch import Tensor

from softmoa import bundle, experiment, tasks, weights
from softmoa.events import RunEvent, RunFailed, RunFinished
from softmoa.methods import METHODS
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.plan import Choice, Comparison
from softmoa.training import Step, TrainingOptions

BUNDLES = weights.ASSETS / "bundles"
RESULTS = Path(__file__).parent / "results" / "bundles.csv"
COLUMNS = (
    "task", "method", "seed", "trained_parameters", "train_clips", "epochs", "learning_rate",
    "seconds", "test_accuracy", "test_clips",
)  # fmt: skip
SOFT = SoftMoAOptions(experts=7, slots=1, reduction=32)
PROBE = Choice("linear", METHODS["linear"].options(), 1e-8)  # leaves the solution as it is
SIBLINGS = {
    "soft-moa": "soft-moa",
    "dense-moa": "dense-moa",
    "topk-moa": "top1-moa",
    "adapter": "adapter",
}  # method -> end of the bundle's name


@dataclass(frozen=True)
class Recipe:
    """Of one task, the same for all siblings; tried on its validation clips.

    masks: widest bands SpecAugment hides, mels and frames; as in the paper none for short clips.
    """

    epochs: int
    rate: float
    masks: tuple[int, int] = (0, 0)


RECIPES = {
    "esc10": Recipe(5, 3e-4, masks=(24, 80)),
    "tones": Recipe(5, 3e-4),
    "instruments": Recipe(4, 3e-4),
    "digits": Recipe(5, 1e-3),
}


def choices(base: weights.Loaded, rate: float) -> tuple[Choice, ...]:
    """The siblings with options solved for the parameters of Soft-MoA."""
    config = base.model.config
    budget = parameters_of(config, "soft-moa", SOFT)
    matched = {method: matched_options(config, method, budget) for method in SIBLINGS}
    siblings = tuple(
        Choice(method, SOFT if method == "soft-moa" else options, rate)
        for method, options in matched.items()
    )
    return (PROBE, *siblings)


def train_task(base: weights.Loaded, name: str, seeds: int) -> list[dict[str, Any]]:
    """All siblings with all seeds; writes the bundles of the first. One row per run."""
    task, recipe = tasks.load(name), RECIPES[name]
    task = replace(task, train=task.train + task.valid, valid=())
    mask_mels, mask_frames = recipe.masks
    comparison = Comparison(
        choices(base, recipe.rate),
        TrainingOptions(
            recipe.epochs, mask_mels=mask_mels, mask_frames=mask_frames, precision="bf16"
        ),
        seeds=tuple(range(seeds)),
        interleave=False,
    )
    rows = []
    for event in experiment.compare(base, task, comparison):
        if isinstance(event, RunEvent) and isinstance(event.event, Step):
            if event.event.step % 20 == 0:
                typer.echo(f"{name}, {event.run}: step {event.event.step}, {event.event.loss:.3f}")
        elif isinstance(event, RunFailed):
            raise RuntimeError(f"{event.run}: {event.message}")
        elif isinstance(event, RunFinished):
            typer.echo(f"{name}, {event.run}: test {event.test_accuracy:.3f}")
            if event.seed == 0 and event.method in SIBLINGS:
                write(event)
            row: dict[str, Any] = {column: getattr(event, column, None) for column in COLUMNS}
            row |= {"task": name, "learning_rate": recipe.rate, "test_clips": len(task.test)}
            rows.append(row)
    return rows


def write(run: RunFinished) -> None:
    """The bundle under its name in assets/bundles."""
    save_half(run.state, replace(run.info, name=f"{run.info.task}-{SIBLINGS[run.method]}"))


def save_half(state: dict[str, Tensor], info: bundle.BundleInfo) -> None:
    """Write assets/bundles/NAME in fp16, as the backbone is: half the size; in one step."""
    out = BUNDLES / f"{info.name}.safetensors"
    halves = {key: value.detach().half().contiguous() for key, value in state.items()}
    save_file(halves, out.with_suffix(".part"), bundle.header(info))
    os.replace(out.with_suffix(".part"), out)


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows into the table in the place of those of the same task, method and seed."""
    known: list[dict[str, Any]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as table:
            known = list(csv.DictReader(table))
    new = {(str(row["task"]), str(row["method"]), str(row["seed"])) for row in rows}
    kept = [row for row in known if (row["task"], row["method"], row["seed"]) not in new]
    with RESULTS.open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted([*kept, *rows], key=lambda row: (str(row["task"]), str(row["seed"]))):
            values = [row[column] for column in COLUMNS]
            writer.writerow([round(v, 5) if isinstance(v, float) else v for v in values])


def main(
    names: Annotated[list[str] | None, typer.Argument(help="tasks; default: all")] = None,
    seeds: Annotated[int, typer.Option(help="how many, from 0")] = 1,
) -> None:
    """Train, write the bundles and the table of results."""
    base = weights.load("ast-small")
    BUNDLES.mkdir(exist_ok=True)
    for name in names or RECIPES:
        keep(train_task(base, name, seeds))


if __name__ == "__main__":
    typer.run(main)
