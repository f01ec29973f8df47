"""Commands that listen: a sound named on the terminal, and the app."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softmoa.audio import AudioError
from softmoa.commands.terminal import Json, UserError
from softmoa.weights import BACKBONES

if TYPE_CHECKING:
    from softmoa.classify import Classification


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


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen on.  [default: this machine only]")
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0: the first free one from 7860.")
    ] = 0,
) -> None:
    """Start the web app on this machine."""
    from softmoa.ui import page

    demo = page.build()
    try:
        page.serve(demo, host or None, port or None)
    except page.ServeError as error:
        raise UserError(str(error)) from None
