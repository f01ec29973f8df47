"""The command that trains: several methods on one task, compared."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softmoa.commands.labelled import chosen_task
from softmoa.commands.terminal import Json, SplitSeed, UserError

if TYPE_CHECKING:
    from softmoa.events import ComparisonEvent
    from softmoa.scoreboard import Scoreboard

INTERRUPTED = 130  # as shells say it


def compare(
    task: Annotated[str, typer.Option(help="Name of a task, or a folder or zip of your sounds.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, events.jsonl, bundles/.")],
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas; without it all, full included.")
    ] = "",
    preset: Annotated[str, typer.Option(help="Recipe: short or paper.")] = "short",
    epochs: Annotated[int, typer.Option(min=0, help="0: the recipe's.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Steps of each run, not epochs; 0: no.")] = 0,
    seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of each run, not epochs; 0: no.")
    ] = 0,
    shots: Annotated[int, typer.Option(min=0, help="Training clips per class; 0: all.")] = 0,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    backbone: Annotated[str, typer.Option(help="Backbone, as for classify.")] = "ast-small",
    batch: Annotated[int, typer.Option(min=0, help="0: the recipe's.")] = 0,
    rate: Annotated[
        float, typer.Option(help="Learning rate, as a factor of the papers'; 0: the recipe's.")
    ] = 0,
    equal_parameters: Annotated[
        bool, typer.Option("--equal-parameters", help="Resize methods to Soft-MoA's parameters.")
    ] = False,
    test: Annotated[str, typer.Option(help="Fold or speaker to test on.")] = "",
    valid: Annotated[str, typer.Option(help="Fold or speaker to validate on.")] = "",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """Train several methods on one task and compare them."""
    from softmoa import cost, experiment, plan, recipes, run_directory, scoreboard, weights
    from softmoa.methods import METHODS

    chosen = [name.strip() for name in methods.split(",")] if methods else list(METHODS)
    if unknown := [name for name in chosen if name not in METHODS]:
        raise UserError(f"There is no method '{unknown[0]}'; there are {', '.join(METHODS)}.")
    if not all(seed.strip().isdecimal() and int(seed) < 2**32 for seed in seeds.split(",")):
        raise UserError("Seeds are whole numbers below 2^32 separated by commas, such as 0,1,2.")
    if not (0 <= rate < math.inf and seconds < math.inf):
        raise UserError("A rate and seconds are numbers above 0.")
    if sum(map(bool, (epochs, steps, seconds))) > 1:
        raise UserError("A run is limited by one of --epochs, --steps and --seconds, not by two.")
    _make_folder(out)
    try:
        recipe = recipes.recipe(preset, task)
        base = weights.load(backbone)
        comparison = plan.plan(
            chosen,
            recipe,
            seconds or steps or epochs or recipe.training.epochs,
            "seconds" if seconds else "steps" if steps else "epochs",
            config=base.model.config,
            seeds=[int(seed) for seed in seeds.split(",")],
            shots=shots or None,
            rate=rate,
            batch=batch,
            equal_parameters=equal_parameters,
        )
    except weights.WeightsError:
        raise
    except ValueError as error:
        raise UserError(f"This comparison cannot be run: {error}.") from None
    with chosen_task(task, test, valid, split_seed) as data:
        if not as_json:
            expected = cost.estimate(base, data, comparison)
            memory = max(of.memory_mb for of in expected.costs)
            print(f"About {expected.seconds:.0f} s; a step holds up to {memory:.0f} MB.")
        board = _followed(experiment.compare(base, data, comparison), out, quiet=as_json)
    if as_json:
        lines = map(run_directory.as_line, board.finished)
        print(json.dumps([{name: line[name] for name in run_directory.COLUMNS} for line in lines]))
    else:
        titles = {name: METHODS[name].title for name in chosen}
        if verdict := scoreboard.conclusion(board, titles):
            print(verdict)
        print(f"Results, events and bundles are in {out}.")
    if not board.finished:
        raise typer.Exit(1)


def _followed(comparison: Iterator[ComparisonEvent], out: Path, quiet: bool) -> Scoreboard:
    """Run a comparison into a folder, with a line for what a person waits for."""
    from softmoa import run_directory, scoreboard

    board = scoreboard.Scoreboard()
    try:
        for event in run_directory.record(comparison, out):
            board.add(event)
            _progress(event, quiet)
    except KeyboardInterrupt:
        print(f"Interrupted; what was finished is in {out}.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise UserError(
            f"The results cannot be stored in {out}: {error.strerror}; what was finished is kept."
        ) from None
    return board


def _make_folder(out: Path) -> None:
    """A folder for a comparison; raises UserError if it cannot be made or holds one already."""
    try:
        (out / "bundles").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be made: {error.strerror}.") from None
    events = out / "events.jsonl"
    if events.exists() and events.stat().st_size:  # empty: refused before it began
        raise UserError(f"The folder {out} holds a comparison already; name another one.")


def _progress(event: object, quiet: bool) -> None:
    """One line for the events a person waits for; if `quiet`, for failures alone."""
    from softmoa import events, training

    if isinstance(event, events.RunFailed):
        print(f"{event.run}: {event.message}", file=sys.stderr)
    elif quiet:
        return
    elif isinstance(event, events.Preparing) and event.done == event.total:
        print(f"{event.what}: {event.total} clips")
    elif isinstance(event, events.RunEvent) and isinstance(event.event, training.Evaluated):
        e = event.event
        print(f"{event.run}: epoch {e.epoch}, {e.seconds:.1f} s, validation {e.accuracy:.3f}")
    elif isinstance(event, events.RunFinished):
        print(
            f"{event.run}: test {event.test_accuracy:.3f}, {event.trained_parameters} parameters, "
            f"{event.seconds:.1f} s"
        )
