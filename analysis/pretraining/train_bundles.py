"""Train the bundles of `assets/bundles`: five siblings for each task, on the frozen `ast-small`.

    python -m analysis.pretraining.train_bundles                # all tasks, one seed
    python -m analysis.pretraining.train_bundles esc10 --seeds 3

The siblings are those of a live race, by its recipe and with as many trained parameters as Soft-MoA
(within 5 %); but they train on the validation clips, too. The test clips are looked at once, after
the last step. The bundles of seed 0 are written in fp16, as the backbone is; every run is a row of
analysis/results/bundles.csv, beside the linear probe that its head started from. Several folds or
speakers in turn are what `softmoa compare --folds all` tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer
from torch import Tensor

from analysis import tables
from softmoa.data import tasks
from softmoa.methods import bundle
from softmoa.model import weights
from softmoa.model.ast import ASTConfig
from softmoa.training.compare import compare
from softmoa.training.events import RunFailed, RunFinished, TrainedBundle
from softmoa.training.plan import Comparison, plan

BUNDLES = weights.ASSETS / "bundles"
RESULTS = tables.RESULTS / "bundles.csv"
COLUMNS = (
    "task", "sibling", "seed", "trained_parameters", "train_clips", "epochs", "seconds",
    "probe_accuracy", "test_accuracy", "test_clips",
)  # fmt: skip
TASKS = ("esc10", "tones", "instruments", "digits", "initials")
SIBLINGS = {
    "soft-moa": "soft-moa",
    "dense-moa": "dense-moa",
    "top1-moa": "topk-moa",
    "top2-moa": "topk-moa:k=2",
    "adapter": "adapter",
}  # end of the bundle's name -> entry of a race


def race(config: ASTConfig, seeds: int) -> Comparison:
    """All siblings, one after another."""
    entries, drawn = tuple(SIBLINGS.values()), range(seeds)
    return plan(entries, config=config, seeds=drawn, equal_parameters=True, interleave=False)


def train_task(base: weights.Loaded, name: str, seeds: int) -> Iterator[dict[str, Any]]:
    """All siblings with all seeds; writes the bundles of the first. One row per run."""
    task, comparison = tasks.load(name), race(base.model.config, seeds)
    named = dict(zip(comparison.entries, SIBLINGS, strict=True))
    whole = replace(task, train=task.train + task.valid, valid=())
    trained = None
    for event in compare(base, whole, comparison):
        if isinstance(event, RunFailed):
            raise RuntimeError(f"{event.run}: {event.message}")
        if isinstance(event, TrainedBundle):
            trained = event
        if isinstance(event, RunFinished):
            typer.echo(f"{name}, {event.run}: test {event.test_accuracy:.3f}")
            sibling = named[event.method]
            if event.seed == 0 and trained is not None:
                save_half(trained.state, replace(trained.info, name=f"{name}-{sibling}"))
            row = {column: getattr(event, column, None) for column in COLUMNS}
            yield row | {"task": name, "sibling": sibling, "test_clips": len(task.test)}


def save_half(state: dict[str, Tensor], info: bundle.BundleInfo) -> None:
    """Write assets/bundles/NAME in fp16, as the backbone is: half the size."""
    halves = {key: value.detach().half() for key, value in state.items()}
    bundle.save(BUNDLES / f"{info.name}.safetensors", halves, info)


def keep(row: dict[str, Any]) -> None:
    """Put a row into the table in the place of that of the same task, sibling and seed."""

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return str(row["task"]), str(row["seed"]), str(row["sibling"])

    kept = [known for known in tables.read(RESULTS) if key(known) != key(row)]
    tables.write(RESULTS, sorted([*kept, row], key=key))


def main(
    names: Annotated[list[str] | None, typer.Argument(help="tasks; default: all")] = None,
    seeds: Annotated[int, typer.Option(help="how many, from 0")] = 1,
) -> None:
    """Train, write the bundles and the table of results."""
    base = weights.load("ast-small")
    BUNDLES.mkdir(exist_ok=True)
    for name in names or TASKS:
        for row in train_task(base, name, seeds):
            keep(row)


if __name__ == "__main__":
    typer.run(main)
