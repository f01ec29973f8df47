"""What the Explore tab shows, as files to download."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gradio as gr

from softmoa import export, folders
from softmoa.limits import LIMITS
from softmoa.ui.checks import not_stored, refuse
from softmoa.ui.drawing import report_png
from softmoa.ui.texts import explore as texts

EXPORTS = folders.temporary("exports")


def make_file(kind: str, result, layer, site, view, expert, slot, token) -> str:
    """Write the PNG, CSV or JSON of what is shown, for download."""
    if result is None:
        raise gr.Error(texts.EMPTY, print_exception=False)
    label = result.top(1)[0][0]
    if kind == "png":
        content = report_png(result, layer, site, view)
    elif kind == "csv":
        content = export.weights_csv(result).encode()
    else:
        content = export.everything_json(result, "sound").encode()
    try:
        path = _export_folder() / f"softmoa-{_slug(label)}.{kind}"
        path.write_bytes(content)
    except OSError as error:
        raise refuse(not_stored(error)) from None
    return str(path)


def _export_folder() -> Path:
    """A new folder for one download. Those of earlier visitors go after a while: gradio serves a
    copy of its own and never deletes the original."""
    folders.make_private(EXPORTS)
    folders.sweep(EXPORTS, LIMITS.download_minutes)
    return Path(tempfile.mkdtemp(dir=EXPORTS))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())[:40]
