"""Train the bundles of `assets/bundles`: five siblings for each task, on the frozen `ast-small`.

    python -m analysis.pretraining.train_bundles                     # all tasks, one seed
    python -m analysis.pretraining.train_bundles esc10 --seeds 3
    python -m analysis.pretraining.train_bundles digits --folds  # Soft-MoA, every speaker held
    out in turn

The siblings are Soft-MoA, Dense-MoA, top-1 and top-2 MoA without a balancing loss and a single
adapter, all with as many trained parameters as Soft-MoA (within 5 %), the same clips, order and
budget. Rates and epochs were tried on the validation clips; the bundles then train on those, too,
and keep the last weights, so that the test clips are looked at once. The probe that every head
starts from is measured beside them. The bundles of the first seed are written; every run is a row
of analysis/results/bundles.csv. With `--folds` no bundle is written; the recipe of Soft-MoA is
tested on each official fold or speaker, trained on all others: analysis/results/folds.{csv,md}.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer
from torch import Tensor

from softmoa.data import tasks
from softmoa.data.tasks import Task
from softmoa.methods import METHODS, bundle
from softmoa.methods.adapters import AdapterOptions
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.methods.mixtures import DenseMoAOptions, SoftMoAOptions, TopKMoAOptions
from softmoa.model import weights
from softmoa.training.compare import compare
from softmoa.training.events import RunEvent, RunFailed, RunFinished, TrainedBundle
from softmoa.training.fit import Step, TrainingOptions
from softmoa.training.plan import Choice, Comparison

BUNDLES = weights.ASSETS / "bundles"
RESULTS = Path(__file__).parents[1] / "results" / "bundles.csv"
FOLDS = RESULTS.with_name("folds.csv")
COLUMNS = (
    "task", "sibling", "seed", "trained_parameters", "train_clips", "epochs", "learning_rate",
    "seconds", "test_accuracy", "test_clips",
)  # fmt: skip
FOLD = ("task", "fold", "method", "seed", "test_accuracy", "test_clips")
SOFT = SoftMoAOptions(experts=7, slots=1, reduction=32)
PROBE = Choice("linear", METHODS["linear"].options(), 1e-8)  # leaves the solution as it is
SIBLINGS: dict[str, tuple[str, Any]] = {
    "soft-moa": ("soft-moa", SOFT),
    "dense-moa": ("dense-moa", DenseMoAOptions()),
    "top1-moa": ("topk-moa", TopKMoAOptions(k=1)),
    "top2-moa": ("topk-moa", TopKMoAOptions(k=2)),
    "adapter": ("adapter", AdapterOptions()),
}  # end of the bundle's name -> method, and its options but for their size


@dataclass(frozen=True)
class Recipe:
    """Of one task, the same for all siblings; tried on its validation clips, of digits on two of
    the six speakers (lucas, george), whose folds are the less blind for it.

    masks: widest bands SpecAugment hides, mels and frames; as in the paper none for short clips,
    but for digits, whose speakers differ: there they were worth ten points with an earlier
    backbone (results/pretraining.md).
    """

    epochs: int
    rate: float
    masks: tuple[int, int] = (0, 0)


RECIPES = {
    "esc10": Recipe(5, 3e-4, masks=(24, 80)),
    "tones": Recipe(5, 3e-4),
    "instruments": Recipe(4, 3e-4),
    "digits": Recipe(4, 3e-4, masks=(48, 80)),
}


def siblings(base: weights.Loaded, rate: float) -> dict[str, Choice]:
    """The siblings with options solved for the parameters of Soft-MoA, and the probe."""
    config = base.model.config
    budget = parameters_of(config, "soft-moa", SOFT)
    solved = {
        name: Choice(method, matched_options(config, method, budget, options), rate)
        for name, (method, options) in SIBLINGS.items()
    }
    return {"probe": PROBE, **solved}


def runs_of(
    base: weights.Loaded, task: Task, methods: tuple[Choice, ...], seeds: int
) -> Iterator[tuple[RunFinished, TrainedBundle]]:
    """Train by the recipe of the task, on the validation clips too; says how far it is."""
    recipe = RECIPES[task.name]
    mask_mels, mask_frames = recipe.masks
    comparison = Comparison(
        methods,
        TrainingOptions(
            recipe.epochs, mask_mels=mask_mels, mask_frames=mask_frames, precision="bf16"
        ),
        seeds=tuple(range(seeds)),
        interleave=False,
    )
    whole = replace(task, train=task.train + task.valid, valid=())
    trained = None
    for event in compare(base, whole, comparison):
        if isinstance(event, RunEvent) and isinstance(event.event, Step):
            if event.event.step % 20 == 0:
                typer.echo(f"{task.name}, {event.run}: {event.event.step}, {event.event.loss:.3f}")
        elif isinstance(event, RunFailed):
            raise RuntimeError(f"{event.run}: {event.message}")
        elif isinstance(event, TrainedBundle):
            trained = event
        elif isinstance(event, RunFinished):
            typer.echo(f"{task.name}, {event.run}: test {event.test_accuracy:.3f}")
            assert trained is not None
            yield event, trained


def train_task(base: weights.Loaded, name: str, seeds: int) -> Iterator[dict[str, Any]]:
    """All siblings with all seeds; writes the bundles of the first. One row per run."""
    task, recipe = tasks.load(name), RECIPES[name]
    for sibling, choice in siblings(base, recipe.rate).items():
        for run, trained in runs_of(base, task, (choice,), seeds):
            if run.seed == 0 and sibling in SIBLINGS:
                save_half(trained.state, replace(trained.info, name=f"{name}-{sibling}"))
            row: dict[str, Any] = {column: getattr(run, column, None) for column in COLUMNS}
            row |= {"task": name, "sibling": sibling, "test_clips": len(task.test)}
            yield row | {"epochs": recipe.epochs, "learning_rate": choice.learning_rate}


def try_folds(base: weights.Loaded, name: str, seeds: int) -> None:
    """Soft-MoA and the probe it starts from on each fold that is not in the table yet."""
    methods = (PROBE, Choice("soft-moa", SOFT, RECIPES[name].rate))
    for fold in tasks.load(name).groups:
        known = read(FOLDS)
        if any((row["task"], row["fold"]) == (name, fold) for row in known):
            continue
        task = tasks.load(name, test=fold)
        rows = []
        for run, _ in runs_of(base, task, methods, seeds):
            row: dict[str, Any] = {column: getattr(run, column, None) for column in FOLD}
            rows.append(row | {"task": name, "fold": fold, "test_clips": len(task.test)})
        write_table(FOLDS, FOLD, [*known, *rows])
        FOLDS.with_suffix(".md").write_text(folds_page(read(FOLDS)))


def folds_page(rows: list[dict[str, Any]]) -> str:
    """Mean over the folds ± standard deviation between them, each fold the mean of its seeds."""
    lines = [
        "# Soft-MoA on every fold",
        "",
        "Written by `python -m analysis.pretraining.train_bundles TASK --folds`: the recipe of the "
        "shipped "
        "bundles, one fold or speaker tested, all others trained on. Test accuracy, %. Masks and "
        "epochs of the recipe of digits were chosen on lucas and george.",
        "",
        "| task | method | seeds | mean ± sd over the folds | fold by fold |",
        "|---|---|---|---|---|",
    ]
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        of = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        folds = {
            fold: mean(100 * float(row["test_accuracy"]) for row in of if row["fold"] == fold)
            for fold in dict.fromkeys(row["fold"] for row in of)
        }
        spread = f" ± {stdev(folds.values()):.1f}" if len(folds) > 1 else ""
        each = ", ".join(f"{fold} {accuracy:.1f}" for fold, accuracy in folds.items())
        seeds = len({row["seed"] for row in of})
        lines.append(
            f"| {task} | {METHODS[method].title} | {seeds} | {mean(folds.values()):.2f}{spread} "
            f"| {each} |"
        )
    return "\n".join(lines) + "\n"


def save_half(state: dict[str, Tensor], info: bundle.BundleInfo) -> None:
    """Write assets/bundles/NAME in fp16, as the backbone is: half the size."""
    halves = {key: value.detach().half() for key, value in state.items()}
    bundle.save(BUNDLES / f"{info.name}.safetensors", halves, info)


def keep(row: dict[str, Any]) -> None:
    """Put a row into the table in the place of that of the same task, sibling and seed."""

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return str(row["task"]), str(row["seed"]), str(row["sibling"])

    kept = [known for known in read(RESULTS) if key(known) != key(row)]
    write_table(RESULTS, COLUMNS, sorted([*kept, row], key=key))


def read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = [row[column] for column in columns]
            writer.writerow([round(v, 5) if isinstance(v, float) else v for v in values])


def main(
    names: Annotated[list[str] | None, typer.Argument(help="tasks; default: all")] = None,
    seeds: Annotated[int, typer.Option(help="how many, from 0")] = 1,
    folds: Annotated[
        bool, typer.Option("--folds", help="test every fold, write no bundle")
    ] = False,
) -> None:
    """Train, write the bundles and the table of results."""
    base = weights.load("ast-small")
    BUNDLES.mkdir(exist_ok=True)
    for name in names or RECIPES:
        if folds:
            try_folds(base, name, seeds)
        else:
            for row in train_task(base, name, seeds):
                keep(row)


if __name__ == "__main__":
    typer.run(main)
