"""What the Explore tab shows, as files to download."""

from __future__ import annotations

import tempfile
from pathlib import Path

from softmoa.data import folders
from softmoa.lens import export
from softmoa.lens.classify import Classification
from softmoa.ui.checks import not_stored, refuse
from softmoa.ui.drawing import report_png
from softmoa.ui.stage.stage import Choice
from softmoa.ui.texts import explore as texts

EXPORTS = folders.temporary("exports")  # swept by the sweeper: gradio serves copies of its own


def make_file(kind: str, result: Classification | None, choice: object) -> str:
    """Write the PNG, CSV or JSON of what is shown, for download."""
    if result is None or not result.records:
        raise refuse(texts.EMPTY)
    if kind == "png":
        content = report_png(result, Choice.of(choice))
    elif kind == "csv":
        content = export.weights_csv(result).encode()
    else:
        content = export.everything_json(result, "sound").encode()
    label = "".join(c if c.isalnum() else "-" for c in result.top(1)[0][0].lower())
    try:
        folders.make_private(EXPORTS)
        path = Path(tempfile.mkdtemp(dir=EXPORTS)) / f"softmoa-{label[:40]}.{kind}"
        path.write_bytes(content)
    except OSError as error:
        raise refuse(not_stored(error)) from None
    return str(path)
