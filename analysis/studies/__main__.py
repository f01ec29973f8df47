"""`python -m analysis.studies NAME`: a study of the paper's claims, as NAME.csv, .md and .png.

A study is a grid of independent runs. NAME.jsonl keeps every run that is finished; the same command
continues a grid that was interrupted, on this machine or on a Ray cluster. Fine-tuning runs are
few-shot, over the frozen embedded backbone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import tables
from analysis.studies import costs, pages
from analysis.studies.catalogue import TRAINING, Training
from analysis.studies.claims import NEGLIGIBLE
from analysis.studies.conditions import Condition
from analysis.studies.engine import ROOT, Engine, Grid, Local, OnRay, run_grid, run_id
from analysis.studies.trial import Trial, backbone, usual_budget
from softmoa.data import tasks
from softmoa.data.tasks import TaskError
from softmoa.model import device
from softmoa.model.weights import BACKBONES, WeightsError

UNSHOWN = ("right", "groups", "curve")  # of a result, too long for a table
QUICK = ROOT / "runs" / "quick"
STUDIES = {study.name: study for study in TRAINING}
COSTS = "costs"
COSTS_MINUTES = 2
NAMES = (*STUDIES, COSTS)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _times() -> str:
    said = [f"{s.name} {s.minutes} min ({', '.join(s.tasks)})" for s in TRAINING]
    said.append(f"{COSTS} {COSTS_MINUTES} min")
    return "Times of the defaults on two processor cores: " + "; ".join(said) + "."


@app.command(help=f"{__doc__}\n\n{_times()}")
def main(
    names: Annotated[list[str], typer.Argument(help=f"one or more of {', '.join(NAMES)}, or all")],
    task_names: Annotated[
        str, typer.Option("--tasks", help="with commas between; by default the study's own")
    ] = "",
    seeds: Annotated[str, typer.Option(help="with commas between")] = "0,1,2",
    shots: Annotated[
        int, typer.Option(min=0, help="training clips per class; 0: the task's usual number")
    ] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="0: the task's usual number")] = 0,
    quick: Annotated[
        bool, typer.Option(help="tones, 1 seed, 2 shots, 1 epoch, into runs/quick: does it work?")
    ] = False,
    engine: Annotated[str, typer.Option(help="local: processes; ray: a Ray cluster")] = "local",
    workers: Annotated[
        int, typer.Option(min=1, help="processes of the local engine, one thread each")
    ] = os.cpu_count() or 1,
    address: Annotated[
        str | None, typer.Option(help="of the Ray cluster; without it one is started here")
    ] = None,
    gpus: Annotated[
        float, typer.Option(min=0, help="part of a GPU that Ray reserves for a run, such as 0.25")
    ] = 0.0,
    backbone_file: Annotated[
        str, typer.Option("--backbone", help="ast-small, or a file of an embedded backbone")
    ] = "ast-small",
    out: Annotated[Path | None, typer.Option(help="by default analysis/results")] = None,
    on: Annotated[
        str, typer.Option("--device", envvar="SOFTMOA_DEVICE", help="auto, cpu, cuda, cuda:N, mps")
    ] = "auto",
) -> None:
    try:
        device.choose(on)
        os.environ["SOFTMOA_DEVICE"] = on  # of the processes that are started
        chosen = list(NAMES) if names == ["all"] else names
        if unknown := [name for name in chosen if name not in NAMES]:
            raise ValueError(f"There is no study '{unknown[0]}'; there are {', '.join(NAMES)}.")
        with_engine = _engine(engine, workers, address, gpus)
        seed_list = (0,) if quick else _numbers(seeds)
        if backbone_file not in BACKBONES:
            backbone_file = str(Path(backbone_file).resolve())
        folder = out or (QUICK if quick else tables.RESULTS)
        setting = {"shots": 2, "epochs": 1} if quick else {"shots": shots, "epochs": epochs}
        grids = []
        for name in chosen:
            if name == COSTS:
                grids.append(measure(folder, with_engine, quick))
                continue
            study = STUDIES[name]
            wanted = ("tones",) if quick else study.tasks
            wanted = tuple(task_names.split(",")) if task_names else wanted
            at_hand = _at_hand(wanted, asked_for=bool(task_names))
            setting |= {"backbone": backbone_file}
            grids.append(train(study, folder, with_engine, at_hand, seed_list, setting))
    except (ValueError, TaskError, WeightsError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    if any(grid.failed for grid in grids):
        raise typer.Exit(1)


def train(
    study: Training,
    folder: Path,
    engine: Engine,
    task_names: Sequence[str],
    seeds: Sequence[int],
    setting: dict[str, Any],
) -> Grid:
    """Run a study as far as it is not finished in `folder`, and write its files there.

    setting: shots and epochs (0: the task's usual numbers) and backbone of every `Trial`.
    """
    base = backbone(setting["backbone"])
    asked = {name: count for name in ("shots", "epochs") if (count := setting[name])}
    budgets = {task: usual_budget(task) | asked for task in task_names}
    setting = setting | {"weights": base.sha256[:12], "watched": study.watched}
    conditions = study.conditions(base.model.config)
    tested = {task: _tested(task, seeds) for task in task_names}
    cells = [
        (
            condition,
            _trial(task, condition, seed, setting | budgets[task] | {"test": tested[task][seed]}),
        )
        for seed in seeds
        for task in task_names
        for condition in conditions
    ]
    grid = run_grid([trial for _, trial in cells], folder / f"{study.name}.jsonl", engine)
    rows: list[dict[str, Any]] = [
        {
            "condition": condition.label,
            "task": trial.task,
            "seed": trial.seed,
            "test": trial.test,
            "method": trial.arm.method,
            "series": condition.series,
            "at": condition.at,
            "shots": trial.shots,
            "epochs": trial.epochs,
            "learning_rate": trial.learning_rate,
        }
        | grid.results[run_id(trial)]
        for condition, trial in cells
        if run_id(trial) in grid.results
    ]
    varied = sorted({condition.shots for condition in conditions})
    span = f"{varied[0]} to {varied[-1]}" if varied[-1] else ""
    said = [_said(task, span, budgets[task], tested[task]) for task in task_names]
    about = (
        f"Backbone {base.name}, sha256 {base.sha256[:12]}, frozen. Training: "
        f"{'; '.join(said)}; seeds "
        f"{', '.join(map(str, seeds))}. A "
        "difference is between runs of the same task and seed, with its 95 % interval, widened so "
        "that all of the page hold together (Bonferroni): of accuracies over seeds and test clips "
        "(where another part is tested with every seed, over the clips of all, or over the seeds "
        "where their groups are few), of other measures over seeds alone. An accuracy "
        f"counts as equal within {100 * NEGLIGIBLE:g} points. Seconds are of a machine that did "
        "other work as well: differences below a factor of two mean nothing."
    )
    if rows:
        lines = [*pages.claims_of(study, rows), *pages.results_of(study, rows)]
        figure = pages.figure_of(study, rows)
        _write(folder, study.name, study.title, about, lines, rows, grid, figure)
    return grid


def _trial(task: str, condition: Condition, seed: int, setting: dict[str, Any]) -> Trial:
    setting = setting | {"shots": condition.shots or setting["shots"]}
    return Trial(task, condition.arm, seed, condition.arm.choice.learning_rate, **setting)


def _tested(task: str, seeds: Sequence[int]) -> dict[int, str]:
    """By seed the fold or speaker that is tested, each in its turn; "" where the split is fixed.

    The sixth of digits is the speaker whose clips helped to choose the rates of the methods
    (`analysis.studies.tune_rates`): it validates the first.
    """
    parts = tasks.folds(task) or ("",)
    return {seed: parts[seed % len(parts)] for seed in seeds}


def _said(task: str, shots: str, budget: dict[str, int], tested: dict[int, str]) -> str:
    turn = f", tested on {', '.join(dict.fromkeys(tested.values()))} in turn"
    said = f"{task}, {shots or budget['shots']} clips per class, {budget['epochs']} epochs"
    return said + (turn if any(tested.values()) else "")


def measure(folder: Path, engine: Engine, quick: bool) -> Grid:
    """One at a time, since a measurement beside another measures both."""
    cells = costs.measurements(quick)
    grid = run_grid([run for _, run in cells], folder / "costs.jsonl", engine.one_at_a_time())
    rows = [
        {"varied": varied, "form": run.form, "experts": run.experts, "tokens": run.tokens}
        | grid.results[run_id(run)]
        for varied, run in cells
        if run_id(run) in grid.results
    ]
    about = (
        f"One layer: width {costs.WIDTH}, bottleneck {costs.BOTTLENECK}, {costs.CLIPS} clips, one "
        "slot per expert; times of the fastest of some rounds; MB of one training step. Counted / "
        "by the closed formula, which is that of the folded forms (soft, dense); loop and stack "
        "are written as the equations are and count otherwise."
    )
    if not grid.failed:
        heads = ["form", "experts", "tokens", "parameters", "MFLOP a clip", "MB", "ms"]
        lines = [
            *tables.markdown(["claim", "found", "verdict"], costs.verdicts(rows)),
            "",
            *tables.markdown(heads, costs.cells(rows)),
        ]
        _write(folder, COSTS, "Costs", about, lines, rows, grid, costs.figure(rows))
    return grid


def _write(
    folder: Path,
    name: str,
    title: str,
    about: str,
    lines: Sequence[str],
    rows: Sequence[dict[str, Any]],
    grid: Grid,
    figure: Any,
) -> None:
    command = " ".join(["python -m analysis.studies", *sys.argv[1:]])
    about = f"Written by `{command}`. {about}"
    parts = [about, pages.origin(rows)]
    if grid.earlier:
        parts += [f"{grid.earlier} of {len(grid.results)} runs are of an earlier call."]
    parts += [f"![{title}]({name}.png)", "\n".join(lines)]
    if grid.failed:
        parts += ["Failed twice, and left out:"]
        parts += ["\n".join(f"- {run}: {why}" for run, why in grid.failed.items())]
    shown = [{k: v for k, v in row.items() if k not in UNSHOWN} for row in rows]
    tables.write(folder / f"{name}.csv", shown)
    pages.write_figure(folder / f"{name}.png", figure)
    (folder / f"{name}.md").write_text(tables.page(title, *parts), encoding="utf-8")
    print(f"{folder / name}.md")


def _engine(name: str, workers: int, address: str | None, gpus: float) -> Engine:
    if name == "local":
        if address or gpus:
            raise ValueError("--address and --gpus are for --engine ray.")
        return Local(workers)
    if name != "ray":
        raise ValueError(f"There is no engine '{name}'; there are local and ray.")
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ValueError("Ray is not installed: pip install '.[ray]'.") from None
    with suppress(TaskError):  # the nodes get the folder by its full name
        os.environ["SOFTMOA_DATA"] = str(tasks.data_root().resolve())
    return OnRay(address, gpus)


def _numbers(text: str) -> tuple[int, ...]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise ValueError(f"Seeds are whole numbers with commas between, not '{text}'.")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _at_hand(names: Sequence[str], asked_for: bool) -> list[str]:
    """The tasks whose sounds are here. What was asked for must be; defaults may be left out."""
    found = []
    for name in names:
        try:
            tasks.load(name)
        except TaskError as error:
            if asked_for:
                raise
            print(f"Left out: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


if __name__ == "__main__":
    app()
