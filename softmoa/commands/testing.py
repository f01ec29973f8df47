"""The command that tests a bundle on labelled sounds."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from softmoa.commands.labelled import labelled
from softmoa.commands.terminal import Json, SplitSeed, UserError
from softmoa.tasks import TaskError


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
    with labelled(task, everything, test, split_seed) as data:
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
