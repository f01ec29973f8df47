"""The command line: `python -m softmoa classify FILE`. Bad input ends with one line and exit 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from softmoa.audio import AudioError
from softmoa.bundle import BundleError, read_info
from softmoa.weights import BACKBONES, WeightsError

app = typer.Typer(
    help="Audio classification with a Soft Mixture of Adapters.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def classify(
    file: Annotated[Path, typer.Argument(help="Sound file: WAV, FLAC, OGG, MP3, ...")],
    bundle: Annotated[str, typer.Option(help="Name or path of a bundle.")] = "",
    backbone: Annotated[str, typer.Option(help="Backbone; the bundle's own by default.")] = "",
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels.")] = 5,
    as_json: Json = False,
) -> None:
    """Name a sound and show which experts took part."""
    from softmoa import classify as c

    classifier = c.open_classifier(bundle or c.DEFAULT_BUNDLE, backbone or None)
    result = c.classify(classifier, file)
    report = c.report(result, str(file), top_k)
    if as_json:
        print(json.dumps(report))
        return
    for label, probability in result.top(top_k):
        print(f"{100 * probability:5.1f} %  {label}")
    for expert in report["experts"]:
        parts = " ".join(f"{100 * x:3.0f}" for x in expert["contribution"])
        print(
            f"layer {expert['layer'] + 1:2d} {expert['site']}: contribution of experts (%) {parts}"
        )
    for note in result.clip.notes:
        print(note, file=sys.stderr)


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


def _print(rows: list[dict], as_json: bool, line: str) -> None:
    print(json.dumps(rows) if as_json else "\n".join(line.format(**row) for row in rows))


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 2 bad input."""
    try:
        app(arguments, prog_name="python -m softmoa", standalone_mode=False)
    except (AudioError, BundleError, WeightsError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        # A usage error of typer, whose class has no public name since typer carries its own click.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        print(f"Error: {format_message()}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
