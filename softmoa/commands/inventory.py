"""Commands that list what there is, fetch more of it, and publish it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from softmoa.bundle import read_info
from softmoa.card import DEFAULT_LICENCE
from softmoa.commands.labelled import own_data
from softmoa.commands.terminal import Json, SplitSeed, UserError, print_rows
from softmoa.weights import BACKBONES


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
    print_rows(rows, as_json, "{name}: {method} on {backbone}, task {task}")


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
    print_rows(rows, as_json, "{name}: {title}, {about}")


def fetch(
    task: Annotated[str, typer.Argument(help="Such as esc50; see `tasks`.")],
) -> None:
    """Download a public benchmark from the Hub into the folder that SOFTMOA_DATA names."""
    from softmoa import tasks as t
    from softmoa.tasks.from_hub import fetch as from_hub

    print(f"{task} is in {from_hub(task)}: {t.load(task).summary}")


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
    print_rows(rows, as_json, "{name}: {title} {paper}")


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
        print(json.dumps(row) if as_json else own_data(mine))
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
    print_rows(rows, as_json, "{name}: {about}")
