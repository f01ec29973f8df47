"""The command line: `python -m softmoa classify FILE`. Bad input ends with one line and exit 2.

Each command imports what it needs, so that `--help` is quick.
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from softmoa.data.limits import limits
from softmoa.data.values import InputError, to_cell, to_json

if TYPE_CHECKING:
    from softmoa.data.own import OwnData
    from softmoa.data.tasks import Task
    from softmoa.lens.classifier import Classifier
    from softmoa.lens.classify import Classification
    from softmoa.training.events import ComparisonEvent
    from softmoa.training.scoreboard import Scoreboard

INTERRUPTED = 130  # as shells say it, and typer of a KeyboardInterrupt

Bundle = Annotated[str, typer.Option(help="A name, a file, or user/name[@revision] on the Hub.")]
Backbone = Annotated[str, typer.Option(help="A name, a folder, or user/name[@revision].")]
Sounds = Annotated[str, typer.Option(help="Name of a task, or a folder or zip of your sounds.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SplitSeed = Annotated[int | None, typer.Option(help="Seed of the split of your own sounds.")]
Device = Annotated[
    str, typer.Option(envvar="SOFTMOA_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
Test = Annotated[str, typer.Option(help="Fold or speaker to test on.")]

cli = typer.Typer(
    help="Audio classification with a Soft Mixture of Adapters.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main(arguments: list[str] | None = None, prog: str = "python -m softmoa") -> int:
    """Run a command and return the exit code: 0 done, 1 nothing came of it, 2 bad input, 130
    interrupted."""
    # Nobody is told what is done here; the packages read both when they are imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Threads of torch that spin for one another for long hinder themselves where cores are busy.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another code page shows what it has no letter for as its number.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        limits()  # no command begins on a limit that its owner mistyped
        code = cli(arguments, prog_name=prog, standalone_mode=False)
    except InputError as error:
        said = str(error)
    except OSError as error:  # a disk that is full, a folder that may not be read
        said = f"{error.strerror}: {error.filename or 'the output'}."
    except Exception as error:
        # A usage error of typer, whose class has no public name since typer carries its own click.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        said = format_message()
    else:
        if code == INTERRUPTED:
            print("\nInterrupted; what was finished is kept.", file=sys.stderr)
        return code if isinstance(code, int) else 0
    helps = said.startswith("Usage: ")  # where no command was given
    print(said if helps else f"Error: {said}", file=sys.stderr)
    return 2


@cli.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, OGG, MP3, ...")],
    bundle: Bundle = "",
    backbone: Backbone = "",
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels.")] = 5,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Name a sound and show which experts took part; of several, a line for each.

    A backbone with labels of its own needs no bundle. A file among several that cannot be read is
    said on stderr, and the exit code is 2 at the end.
    """
    from softmoa.data.audio import AudioError
    from softmoa.lens import classify as c

    classifier, unread = _classifier(bundle, backbone, device), 0
    for file in files:
        try:
            result = c.classify(classifier, file)
        except AudioError as error:
            print(f"Error: {file}: {error}", file=sys.stderr)
            unread += 1
            continue
        if as_json:
            print(to_json(c.report(result, str(file), top_k)), flush=True)
        elif len(files) == 1:
            _print_one(result, top_k)
        else:
            top = (f"{100 * probability:.1f}% {label}" for label, probability in result.top(top_k))
            print(f"{file}: {result.headline()}; {', '.join(top)}", flush=True)
        if len(files) > 1 or not as_json:
            name = f"{file}: " if len(files) > 1 else ""
            for note in result.clip.notes:
                print(f"{name}{note}", file=sys.stderr)
    if unread:
        raise typer.Exit(2)


def _classifier(bundle: str, backbone: str, device: str) -> Classifier:
    """What is asked for; of a backbone with labels of its own, one without a bundle."""
    from softmoa.lens.classifier import DEFAULT_BUNDLE, FRESH, open_classifier
    from softmoa.model.device import use as choose_device
    from softmoa.model.weights import BACKBONES

    choose_device(device)
    own_labels = backbone and not (backbone in BACKBONES and BACKBONES[backbone].embedded)
    default = FRESH if own_labels else DEFAULT_BUNDLE
    return open_classifier(bundle or default, backbone or None)


def _print_one(result: Classification, top_k: int) -> None:
    """Labels, and the experts of every layer."""
    from softmoa.lens.contribution import expert_contribution

    print(result.headline())
    for label, probability in result.top(top_k):
        print(f"{100 * probability:5.1f}%  {label}")
    for record in result.records:
        shares = " ".join(f"{100 * x:3.0f}" for x in expert_contribution(record)[0].tolist())
        print(f"layer {record.layer + 1:2d} {record.site}: contribution of experts (%) {shares}")


@cli.command()
def timeline(
    file: Annotated[Path, typer.Argument(help="A sound file of any length.")],
    bundle: Bundle = "",
    backbone: Backbone = "",
    window: Annotated[float, typer.Option(min=0.2, max=30, help="Seconds at a time.")] = 5,
    overlap: Annotated[float, typer.Option(min=0, max=0.9, help="Share of a window.")] = 0,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels of a window.")] = 3,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="bf16: faster, where there is hardware.")
    ] = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """What is heard when in a long sound: from, to and headline, with tabs between.

    Audacity reads it as labels, a spreadsheet as a table. Memory does not grow with the sound.
    """
    from softmoa.data.audio import AudioError
    from softmoa.data.long import survey
    from softmoa.lens import timeline as t

    classifier = _classifier(bundle, backbone, device)
    try:
        sound = survey(file, math.inf)
    except AudioError as error:
        raise InputError(f"{file}: {error}") from None
    hop = window * (1 - overlap)
    steps = t.listen(classifier, sound.pieces(), window, overlap, precision)
    parts = []
    with typer.progressbar(length=round(sound.seconds), file=sys.stderr) as bar:
        for part in steps:
            parts.append(part)
            bar.update(round(len(part.starts) * hop))
    line = t.joined(parts)
    if as_json:
        about = {"file": str(file), **t.report(classifier, line, top_k)}
        about |= {"duration_s": round(sound.seconds, 4)}
        print(to_json(about | ({"notes": list(sound.notes)} if sound.notes else {})))
    else:
        for start, end, said in line.stretches:
            print(f"{start:.2f}\t{end:.2f}\t{to_cell(said)}")
    print(*sound.notes, sep="\n", file=sys.stderr, end="\n" if sound.notes else "")


@cli.command()
def app(
    host: Annotated[str, typer.Option(help="Address; by default this machine only.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one from 7860 on.")] = 0,
) -> None:
    """Start the web app on this machine."""
    from softmoa.model import device
    from softmoa.ui import page

    device.default()  # one that is not there is said before the page is built
    page.serve(page.build(), host or None, port or None)


@cli.command()
def bundles(as_json: Json = False) -> None:
    """The embedded bundles."""
    from softmoa.lens import classifier
    from softmoa.methods.bundle import read_info

    rows = []
    for name, path in classifier.bundles().items():
        info, size = read_info(path), path.stat().st_size
        row = {"name": name, **_some(info, "task", "method", "options"), "backbone": info.base}
        rows.append(row | _some(info, "labels", "metrics") | {"bytes": size})
    _print_rows(rows, as_json, "{name}: {method} on {backbone}, task {task}")


@cli.command()
def push(
    bundle: Annotated[str, typer.Argument(help="Name or file of a bundle.")],
    repository: Annotated[str, typer.Argument(help="Where to on the Hub: user/name.")],
    private: Annotated[bool, typer.Option("--private", help="For your eyes only.")] = False,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "apache-2.0",
) -> None:
    """Publish a bundle on the Hub, with a card, by the token in HF_TOKEN or of `hf auth login`."""
    from huggingface_hub import get_token

    from softmoa.lens import classifier
    from softmoa.methods import sharing

    path = classifier.bundles().get(bundle, Path(bundle))
    print(sharing.push(path, repository, get_token(), private, licence))


@cli.command()
def export(
    bundle: Annotated[str, typer.Argument(help="A name, a file, or user/name on the Hub.")],
    out: Annotated[Path, typer.Option(help="The file to write, NAME.onnx.")],
    backbone: Backbone = "",
) -> None:
    """Write a bundle with its backbone as one ONNX file, for ONNX Runtime or OpenVINO."""
    from softmoa.lens import portable
    from softmoa.lens.classifier import open_classifier

    classifier = open_classifier(bundle, backbone or None)
    portable.export(classifier, out)
    print(f"{out}: {len(classifier.labels)} labels, {out.stat().st_size / 1e6:.0f} MB")


@cli.command()
def backbones(as_json: Json = False) -> None:
    """The backbones one can choose."""
    from softmoa.model.weights import BACKBONES

    keys = "name", "title", "about", "embedded"
    rows = [_some(b, *keys) | {"hub": b.hub or None} for b in BACKBONES.values()]
    _print_rows(rows, as_json, "{name}: {title}, {about}")


@cli.command()
def fetch(task: Annotated[str, typer.Argument(help="Such as esc50; see `tasks`.")]) -> None:
    """Download a public benchmark from the Hub into the folder that SOFTMOA_DATA names."""
    from softmoa.data import from_hub, tasks

    print(f"{task} is in {from_hub.fetch(task)}: {tasks.load(task).summary}")


@cli.command()
def methods(as_json: Json = False) -> None:
    """The fine-tuning methods."""
    from softmoa.methods import METHODS

    keys = "name", "title", "paper", "learning_rate", "short_rate"
    rows = [_some(m, *keys) | {"options": asdict(m.options())} for m in METHODS.values()]
    _print_rows(rows, as_json, "{name}: {title} {paper}")


@cli.command()
def tasks(
    data: Annotated[str, typer.Argument(help="A folder or zip of your own sounds.")] = "",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """The labelled tasks, and whether their sounds are at hand; or what your own sounds are."""
    from softmoa.data import own
    from softmoa.data import tasks as t

    if split_seed is not None and not data:
        raise InputError("--split-seed is for your own sounds; name their folder or zip.")
    if data:
        with own.opened(Path(data), seed=split_seed or 0) as mine:
            row = {
                "name": mine.task.name,
                "labels": list(mine.task.labels),
                "clips": {split: list(counts) for split, counts in mine.task.counts.items()},
                "remarks": [asdict(remark) for remark in mine.remarks],
            }
        print(to_json(row) if as_json else _own_data(mine))
        return
    rows = []
    for name in t.TASKS:
        row = {"name": name, "available": True}
        try:
            task = t.load(name)
        except t.TaskError as error:
            rows.append(row | {"available": False, "about": str(error)})
            continue
        row |= {"about": f"{task.title}. {task.summary} {task.about}", "labels": list(task.labels)}
        rows.append(row | {"clips": {split: len(getattr(task, split)) for split in t.SPLITS}})
    _print_rows(rows, as_json, "{name}: {about}")


def _some(value: object, *names: str) -> dict:
    return {name: getattr(value, name) for name in names}


def _print_rows(rows: list[dict], as_json: bool, line: str) -> None:
    print(to_json(rows) if as_json else "\n".join(line.format(**row) for row in rows))


@cli.command()
def evaluate(
    task: Sounds,
    bundle: Bundle,
    backbone: Backbone = "",
    everything: Annotated[bool, typer.Option("--all", help="All clips, as test clips.")] = False,
    device: Device = "auto",
    test: Test = "",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """How often a bundle is right on the test clips of a task, class by class."""
    from softmoa.lens import evaluation as e

    if everything and (test or split_seed is not None):
        raise InputError("--all takes every clip; leave --test and --split-seed away.")
    classifier = _classifier(bundle, backbone, device)
    answers: list[e.Prediction] = []
    with _opened(task, test, "", split_seed, everything) as data:
        files = data.files if everything else data.test
        unheard = e.unheard(classifier.info, data, files)
        clips = [(file.path, data.labels[file.label]) for file in files]
        clips.sort(key=lambda clip: data.labels.index(clip[1]))
        with typer.progressbar(e.evaluate(classifier, clips), len(clips), file=sys.stderr) as bar:
            for heard in bar:
                if isinstance(heard, e.Prediction):
                    answers.append(heard)
                else:
                    print(f"Error: {heard.path}: {heard.why}", file=sys.stderr)
    if not answers:
        raise InputError(f"None of the {len(clips)} clips could be read.")
    if unheard is False:
        print("The bundle was trained on this task, maybe on these clips.", file=sys.stderr)
    found = e.summary(answers)
    if as_json:
        what = {"bundle": classifier.name, "task": data.name, "all": everything, "unheard": unheard}
        what |= {"device": str(classifier.model.device)}
        said = [asdict(heard) | {"path": str(heard.path)} for heard in answers]
        print(to_json(what | found | {"answers": said}))
    else:
        print(f"{classifier.name} on {'all' if everything else 'test'} clips of {data.name}")
        print(*e.lines(found), sep="\n")
    if len(answers) < len(clips):
        raise typer.Exit(2)


@contextmanager
def _opened(
    name: str, test: str, valid: str, split_seed: int | None, everything: bool = False
) -> Iterator[Task]:
    """A task by name, or one's own sounds, with what is odd about them on stderr.

    everything: all clips as test clips, which need not suffice to train on.
    """
    from softmoa.data import own, tasks

    path = Path(name)
    if name in tasks.TASKS:
        if split_seed is not None:
            raise InputError(f"The split of '{name}' is fixed; --split-seed is for your sounds.")
        yield tasks.load(name, test, valid)
    elif not name or not path.exists():  # an empty name is the path of the current folder
        raise InputError(
            f"There is no task '{name}', nor a folder or zip of that name; "
            f"there are {', '.join(tasks.TASKS)}."
        )
    elif test or valid:
        raise InputError("Folds can be chosen for benchmarks only; give your sounds a split.")
    elif everything:
        with own.listed(path) as (rows, remarks):
            print(*(remark.message for remark in remarks), sep="\n", file=sys.stderr)
            labels = sorted({row.label for row in rows})
            rows = [replace(row, split="test") for row in rows]
            yield tasks.task_of(own.name_of(path), name, labels, rows)
    else:
        with own.opened(path, seed=split_seed or 0) as mine:
            print(_own_data(mine), file=sys.stderr)
            yield mine.task


def _own_data(mine: OwnData) -> str:
    """The clips of every class by split, and the remarks, as text."""
    counts = mine.task.counts
    lines = [f"{mine.task.name}: {mine.task.summary}"]
    for i, label in enumerate(mine.task.labels):
        lines.append(f"  {label}: " + ", ".join(f"{n[i]} {split}" for split, n in counts.items()))
    return "\n".join([*lines, *(remark.message for remark in mine.remarks)])


@cli.command()
def compare(
    task: Sounds,
    out: Annotated[Path, typer.Option(help="Folder for results.csv, events.jsonl, bundles/.")],
    methods: Annotated[str, typer.Option(help="Separated by commas; by default all.")] = "",
    preset: Annotated[Literal["short", "paper"], typer.Option(help="Recipe.")] = "short",
    epochs: Annotated[int, typer.Option(min=0, help="0: the recipe's.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Of each run, in place of epochs.")] = 0,
    seconds: Annotated[
        float, typer.Option(min=0, max=1e9, help="Of each run, in place of epochs.")
    ] = 0,
    shots: Annotated[int, typer.Option(min=0, help="Training clips per class; 0: all.")] = 0,
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0",
    backbone: Backbone = "ast-small",
    batch: Annotated[int, typer.Option(min=0, help="0: the recipe's.")] = 0,
    rate: Annotated[
        float, typer.Option(min=0, help="Factor of the papers' rates; 0: the recipe's.")
    ] = 0,
    equal_parameters: Annotated[bool, typer.Option(help="Resize methods to Soft-MoA.")] = False,
    start: Annotated[
        Literal["probe", "cold"] | None, typer.Option(help="Of heads; else the recipe's.")
    ] = None,
    test: Test = "",
    valid: Annotated[str, typer.Option(help="Fold or speaker to validate on.")] = "",
    folds: Annotated[str, typer.Option(help="Tested in turn: all, or some such as 1,2.")] = "",
    device: Device = "auto",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """Train several methods on one task and compare them.

    A method may take part several times, with options of its own: soft-moa:experts=16. The same
    command in the same folder goes on where it was interrupted.
    """
    from softmoa.data import tasks
    from softmoa.methods import METHODS
    from softmoa.model import weights
    from softmoa.model.device import use as choose_device
    from softmoa.training import cost, driver, plan, recipes, run_directory, scoreboard

    if folds and (test or valid):
        raise InputError("--folds tests one fold after another; leave --test and --valid away.")
    tested = _listed(folds)
    if folds == "all":
        tested = list(tasks.folds(task)) if task in tasks.TASKS else []
        if not tested:
            raise InputError(f"'{task}' has no folds; its split is fixed.")
    if sum(map(bool, (epochs, steps, seconds))) > 1:
        raise InputError("A run is limited by one of --epochs, --steps and --seconds, not by two.")
    choose_device(device)
    recipe = recipes.of_paper(task) if preset == "paper" else recipes.SHORT
    base = weights.load_backbone(backbone)
    comparison = plan.plan(
        _listed(methods) or list(METHODS),
        recipe,
        seconds or steps or epochs or recipe.training.epochs,
        "seconds" if seconds else "steps" if steps else "epochs",
        config=base.model.config,
        seeds=_seeds(seeds),
        shots=shots or None,
        rate=rate,
        batch=batch,
        start=start or "",
        equal_parameters=equal_parameters,
        folds=tested or [""],
    )
    out.mkdir(parents=True, exist_ok=True)  # before anybody waits for what cannot be kept
    with _opened(task, test or comparison.folds[0], valid, split_seed) as data:
        others = [tasks.load(task, fold) for fold in comparison.folds[1:]]
        if not as_json:
            expected = cost.estimate(base, data, comparison)
            memory = max(of.memory_mb for of in expected.costs)
            where = f"About {cost.duration(expected.seconds)} on {base.model.device}"
            print(f"{where}; a step holds up to {memory:.0f} MB.")
        board = scoreboard.Scoreboard()
        for event in driver.run(backbone, [data, *others], comparison, out):
            board.add(event)
            _progress(event, board, quiet=as_json)
    if as_json:
        print(to_json([run_directory.as_row(run) for run in board.finished]))
    else:
        if verdict := scoreboard.conclusion(board):
            print(verdict)
        print(f"Results, events and bundles are in {out}.")
    if not board.finished:
        raise typer.Exit(1)


@cli.command()
def reproduce(
    benchmarks: Annotated[list[str], typer.Argument(help="esc50, urbansound8k, ...")],
    out: Annotated[Path, typer.Option(help="Folder of all runs and pages.")] = Path("reproduced"),
    backbone: Backbone = "ast-base",
    methods: Annotated[str, typer.Option(help="Rows of the table; by default all.")] = "",
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0",
    folds: Annotated[str, typer.Option(help="Separated by commas; by default all.")] = "",
    epochs: Annotated[int, typer.Option(min=0, help="0: the paper's.")] = 0,
    shots: Annotated[int, typer.Option(min=0, help="Training clips per class; 0: all.")] = 0,
    device: Device = "auto",
    checkpointed: Annotated[bool, typer.Option(help="Less memory, a third more time.")] = False,
    compiled: Annotated[bool, typer.Option(help="By torch.compile; pays on a GPU.")] = False,
    engine: Annotated[
        Literal["here", "ray"], typer.Option(help="ray: a GPU of a cluster for each run.")
    ] = "here",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What, how long, how large.")] = False,
) -> None:
    """The paper's table: its methods by its recipe on all folds of a benchmark.

    The same command goes on where it was stopped.
    """
    from softmoa.model.device import use as choose_device
    from softmoa.training import reproduce as r

    rank = os.environ.get("LOCAL_RANK", "0")  # of torchrun
    if choose_device(device).type == "cuda" and device in ("auto", "cuda"):
        choose_device(f"cuda:{rank}")
    how = {"backbone": backbone, "out": str(out.absolute()), "epochs": epochs, "shots": shots}
    how |= {"checkpointed": checkpointed, "compiled": compiled}
    entries = _listed(methods) or list(r.TABLE)
    for name in benchmarks:
        cells = r.cells(name, entries, _seeds(seeds), _listed(folds), dry_run, **how)
        lines, seconds = r.forecast(cells, dry_run, _line)
        if rank == "0":
            print(*lines, sep="\n", flush=True)
        if dry_run:
            continue
        if engine == "ray":
            _on_ray(cells)
        else:
            r.run(r.shared(cells), seconds, _line)
        print(f"\n{r.write_page(cells)}")


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


def _seeds(text: str) -> list[int]:
    if not all(seed.strip().isdecimal() and int(seed) < 2**32 for seed in text.split(",")):
        raise InputError("Seeds are whole numbers below 2^32 separated by commas, such as 0,1,2.")
    return [int(seed) for seed in text.split(",")]


def _line(text: str) -> None:
    """Progress in one line, that is written over on a terminal; elsewhere what ends in a line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:150]}", end="", file=sys.stderr, flush=True)
    elif text.endswith("\n"):
        print(text, end="", file=sys.stderr, flush=True)


def _on_ray(cells: list) -> None:
    """Every run that is not over, on a GPU of the cluster that `ray start` made, or on this one."""
    try:
        from analysis.studies.engine import OnRay
    except ImportError:
        raise InputError(
            "Ray runs from a checkout of the project, whose folder analysis/ holds its engine."
        ) from None
    from softmoa.model.device import default

    gpus = float(default().type == "cuda")
    for cell, outcome in OnRay(gpus=gpus)([cell for cell in cells if cell.result is None]):
        print(f"{cell}: {outcome if isinstance(outcome, Exception) else 'over'}", file=sys.stderr)


def _progress(event: ComparisonEvent, board: Scoreboard, quiet: bool) -> None:
    """One line for the events a person waits for; if `quiet`, for failures alone."""
    from softmoa.training import events
    from softmoa.training.fit import Evaluated
    from softmoa.training.scoreboard import outlook

    match event:
        case events.RunFailed(run=run):
            print(f"{run}: {event.message}", file=sys.stderr)
        case _ if quiet:
            pass
        case events.Preparing(what=what, done=done, total=total) if done == total:
            print(f"{what}: {total} clips")
        case events.ProbeScored(split=split):
            print(f"linear probe, seed {event.seed}: {split} {event.accuracy:.3f}")
            if split == "valid":
                print(outlook(board))
        case events.RunEvent(run=run, event=Evaluated(epoch=epoch, seconds=spent, accuracy=right)):
            print(f"{run}: epoch {epoch}, {spent:.1f} s, validation {right:.3f}")
        case events.RunFinished(run=run, trained_parameters=size, seconds=spent):
            test = f"test {event.test_accuracy:.3f}"
            print(f"{run}: {test}, {size} parameters, {spent:.1f} s")
