"""The command line: `python -m softmoa classify FILE`. Bad input ends with one line and exit 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softmoa.audio import AudioError
from softmoa.bundle import BundleError, read_info
from softmoa.card import DEFAULT_LICENCE
from softmoa.hub import HubError
from softmoa.tasks import Task, TaskError
from softmoa.tasks.own import OwnData
from softmoa.weights import BACKBONES, WeightsError

if TYPE_CHECKING:
    from softmoa.classify import Classification
    from softmoa.events import ComparisonEvent
    from softmoa.scoreboard import Scoreboard

INTERRUPTED = 130  # as shells say it

app = typer.Typer(
    help="Audio classification with a Soft Mixture of Adapters.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class UserError(ValueError):
    """Words on the command line that cannot be followed, in one sentence."""


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SplitSeed = Annotated[
    int | None, typer.Option(help="Seed of the split of your own sounds.  [default: 0]")
]


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, OGG, MP3, ...")],
    bundle: Annotated[
        str, typer.Option(help="Bundle: a name, a file, or user/name or user/name@revision.")
    ] = "",
    backbone: Annotated[
        str,
        typer.Option(
            help="Backbone; the bundle's own by default. A name, a folder, or user/name or "
            "user/name@revision on the Hub; one with labels of its own needs no bundle."
        ),
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels.")] = 5,
    as_json: Json = False,
) -> None:
    """Name a sound and show which experts took part; of several, a line for each.

    With --json that line is an object of the same form. A file among several that cannot be read is
    said on stderr, and the exit code is 2 at the end.
    """
    from softmoa import classify as c

    own_labels = backbone and not (backbone in BACKBONES and BACKBONES[backbone].embedded)
    default = c.FRESH if own_labels else c.DEFAULT_BUNDLE
    classifier = c.open_classifier(bundle or default, backbone or None)
    unread = 0
    for file in files:
        try:
            result = c.classify(classifier, file)
        except AudioError as error:
            if len(files) == 1:
                raise
            print(f"Error: {file}: {error}", file=sys.stderr)
            unread += 1
            continue
        if as_json:
            print(json.dumps(c.report(result, str(file), top_k)), flush=True)
        elif len(files) == 1:
            _print_one(result, top_k)
        else:
            top = (f"{100 * probability:.1f} % {label}" for label, probability in result.top(top_k))
            print(f"{file}: {', '.join(top)}", flush=True)
        if len(files) > 1:
            for note in result.clip.notes:
                print(f"{file}: {note}", file=sys.stderr)
    if unread:
        raise typer.Exit(2)


def _print_one(result: Classification, top_k: int) -> None:
    """Labels, the experts of every layer, and on stderr what is odd about the sound."""
    from softmoa.contribution import expert_contribution

    for label, probability in result.top(top_k):
        print(f"{100 * probability:5.1f} %  {label}")
    for record in result.records:
        parts = " ".join(f"{100 * x:3.0f}" for x in expert_contribution(record)[0].tolist())
        print(f"layer {record.layer + 1:2d} {record.site}: contribution of experts (%) {parts}")
    for note in result.clip.notes:
        print(note, file=sys.stderr)


@app.command("app")
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on.  [default: this machine only]")
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0: the first free one from 7860.")
    ] = 0,
) -> None:
    """Start the app: the same, and more, in a browser."""
    from softmoa.ui import page

    demo = page.build()
    try:
        page.serve(demo, host or None, port or None)
    except page.ServeError as error:
        raise UserError(str(error)) from None


@app.command()
def bundles(as_json: Json = False) -> None:
    """The embedded bundles."""
    from softmoa import classify as c

    rows = []
    for name, path in c.bundles().items():
        info = read_info(path)
        rows.append(
            {
                "name": name,
                "task": info.task,
                "method": info.method,
                "options": info.options,
                "backbone": info.base,
                "labels": list(info.labels),
                "metrics": info.metrics,
                "bytes": path.stat().st_size,
            }
        )
    _print(rows, as_json, "{name}: {method} on {backbone}, task {task}")


@app.command()
def push(
    bundle: Annotated[str, typer.Argument(help="Name or file of a bundle.")],
    repository: Annotated[str, typer.Argument(help="Where to on the Hub: user/name.")],
    private: Annotated[bool, typer.Option("--private", help="For your eyes only.")] = False,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = DEFAULT_LICENCE,
) -> None:
    """Publish a bundle on the Hub, with a card, by the token in HF_TOKEN or of `hf auth login`."""
    from huggingface_hub import get_token

    from softmoa import classify as c
    from softmoa import sharing

    path = c.bundles().get(bundle, Path(bundle))
    print(sharing.push(path, repository, get_token(), private, licence))


@app.command()
def backbones(as_json: Json = False) -> None:
    """The backbones one can choose."""
    rows = [
        {
            "name": b.name,
            "title": b.title,
            "about": b.about,
            "embedded": b.embedded,
            "hub": b.hub or None,
        }
        for b in BACKBONES.values()
    ]
    _print(rows, as_json, "{name}: {title}, {about}")


@app.command()
def fetch(
    task: Annotated[str, typer.Argument(help="Such as esc50; see `tasks`.")],
) -> None:
    """Download a public benchmark from the Hub into the folder that SOFTMOA_DATA names."""
    from softmoa import tasks as t
    from softmoa.tasks.from_hub import fetch as from_hub

    print(f"{task} is in {from_hub(task)}: {t.load(task).summary}")


@app.command()
def methods(as_json: Json = False) -> None:
    """The fine-tuning methods."""
    from softmoa.methods import METHODS

    rows = [
        {
            "name": method.name,
            "title": method.title,
            "paper": method.paper,
            "learning_rate": method.learning_rate,
            "short_rate": method.short_rate,
            "options": asdict(method.options()),
        }
        for method in METHODS.values()
    ]
    _print(rows, as_json, "{name}: {title} {paper}")


@app.command()
def tasks(
    data: Annotated[str, typer.Argument(help="A folder or zip of your own sounds.")] = "",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """The labelled tasks, and whether their sounds are at hand; or what your own sounds are."""
    from softmoa import tasks as t
    from softmoa.tasks import own

    if split_seed is not None and not data:
        raise UserError("--split-seed is for your own sounds; name their folder or zip.")
    if data:
        with own.opened(Path(data), seed=split_seed or 0) as mine:
            row = {
                "name": mine.task.name,
                "labels": list(mine.task.labels),
                "clips": {split: list(counts) for split, counts in mine.task.counts.items()},
                "remarks": [asdict(remark) for remark in mine.remarks],
            }
        print(json.dumps(row) if as_json else _own_data(mine))
        return
    rows = []
    for name in t.TASKS:
        try:
            task = t.load(name)
        except t.TaskError as error:
            rows.append({"name": name, "available": False, "about": str(error)})
        else:
            rows.append(
                {
                    "name": name,
                    "available": True,
                    "about": f"{task.title}. {task.summary} {task.about}",
                    "labels": list(task.labels),
                    "clips": {split: len(getattr(task, split)) for split in t.SPLITS},
                }
            )
    _print(rows, as_json, "{name}: {about}")


@app.command()
def compare(
    task: Annotated[str, typer.Option(help="Name of a task, or a folder or zip of your sounds.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, events.jsonl, bundles/.")],
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = "",
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
        float, typer.Option(help="Learning rate, in the papers' own; 0: the recipe's.")
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
    if rate < 0:
        raise UserError("The rate must be above 0.")
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
    with _task(task, test, valid, split_seed) as data:
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


@app.command()
def evaluate(
    task: Annotated[str, typer.Option(help="Name of a task, or a folder or zip of your sounds.")],
    bundle: Annotated[
        str, typer.Option(help="Bundle: a name, a file, or user/name or user/name@revision.")
    ],
    backbone: Annotated[str, typer.Option(help="Backbone, as for classify.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="All clips, for sounds that the bundle never trained on.")
    ] = False,
    test: Annotated[str, typer.Option(help="Fold or speaker to test on.")] = "",
    split_seed: SplitSeed = None,
    as_json: Json = False,
) -> None:
    """How often a bundle is right on the test clips of a task, class by class."""
    from softmoa import classify as c
    from softmoa import evaluation as e

    if everything and (test or split_seed is not None):
        raise UserError("--all takes every clip; leave --test and --split-seed away.")
    classifier = c.open_classifier(bundle, backbone or None)
    answers: list[e.Answer] = []
    with _labelled(task, everything, test, split_seed) as data:
        files = data.files if everything else data.test
        unheard = e.unheard(classifier.info, data, files)
        clips = [(file.path, data.labels[file.label]) for file in files]
        clips.sort(key=lambda clip: data.labels.index(clip[1]))
        with typer.progressbar(e.evaluate(classifier, clips), len(clips), file=sys.stderr) as bar:
            for heard in bar:
                if isinstance(heard, e.Answer):
                    answers.append(heard)
                else:
                    print(f"Error: {heard.path}: {heard.why}", file=sys.stderr)
    if not answers:
        raise TaskError(f"None of the {len(clips)} clips could be read.")
    if unheard is False:
        print(
            "The bundle was trained on this task, and some of these clips may be among those it "
            "heard.",
            file=sys.stderr,
        )
    found = e.Evaluation.of(answers)
    if as_json:
        what = {"bundle": classifier.name, "task": data.name, "all": everything, "unheard": unheard}
        said = [asdict(heard) | {"path": str(heard.path)} for heard in answers]
        print(json.dumps(what | found.report() | {"answers": said}))
    else:
        print(f"{classifier.name} on {'all' if everything else 'test'} clips of {data.name}")
        print(*found.lines(), sep="\n")
    if len(answers) < len(clips):
        raise typer.Exit(2)


@contextmanager
def _labelled(name: str, everything: bool, test: str, split_seed: int | None) -> Iterator[Task]:
    """A task, or one's own sounds: to take all of them, they need not suffice to train on."""
    from softmoa import tasks as t
    from softmoa.tasks import own

    if not everything or name in t.TASKS or not Path(name).exists():
        with _task(name, test, "", split_seed) as task:
            yield task
        return
    with own.listed(Path(name)) as (rows, remarks):
        for remark in remarks:
            print(remark.message, file=sys.stderr)
        labels = sorted({row.label for row in rows})
        rows = [replace(row, split="test") for row in rows]
        yield t.task_of(own.name_of(Path(name)), name, labels, rows)


def _make_folder(out: Path) -> None:
    """A folder for a comparison; raises UserError if it cannot be made or holds one already."""
    try:
        (out / "bundles").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be made: {error.strerror}.") from None
    if (out / "events.jsonl").exists():
        raise UserError(f"The folder {out} holds a comparison already; name another one.")


@contextmanager
def _task(name: str, test: str, valid: str, split_seed: int | None) -> Iterator[Task]:
    """A task by name, or one's own sounds, with what is odd about them on stderr."""
    from softmoa import tasks as t
    from softmoa.tasks import own

    path = Path(name)
    if name in t.TASKS:
        if split_seed is not None:
            raise TaskError(f"The split of '{name}' is fixed; --split-seed is for your own sounds.")
        yield t.load(name, test, valid)
    elif not path.exists():
        raise TaskError(
            f"There is no task '{name}', nor a folder or zip of that name; "
            f"there are {', '.join(t.TASKS)}."
        )
    elif test or valid:
        raise TaskError("Folds can be chosen for benchmarks only; give your sounds a split.")
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


def _print(rows: list[dict], as_json: bool, line: str) -> None:
    print(json.dumps(rows) if as_json else "\n".join(line.format(**row) for row in rows))


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 nothing came of it, 2 bad input, 130
    interrupted."""
    try:
        code = app(arguments, prog_name="python -m softmoa", standalone_mode=False)
    except (AudioError, BundleError, HubError, TaskError, UserError, WeightsError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a folder that may not be read
        print(f"Error: {error.strerror}: {error.filename or 'the output'}.", file=sys.stderr)
        return 2
    except Exception as error:
        # A usage error of typer, whose class has no public name since typer carries its own click.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        print(f"Error: {format_message()}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
