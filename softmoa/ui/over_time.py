"""The part of the Explore tab for a long sound: its labels and expert shares against time.

What is longer than a sound may be for the stage is heard here to its end, in pieces.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from softmoa.data.limits import limits
from softmoa.data.long import LongSound, survey
from softmoa.lens.classify import Classification
from softmoa.lens.timeline import LONG, Timeline, joined, listen, timeline
from softmoa.plots import explore as plots
from softmoa.ui.checks import refusing
from softmoa.ui.drawing import place_names
from softmoa.ui.figure import ON_MODEL, QUIET, Chart, chart
from softmoa.ui.stage.stage import FRAMES_PER_SECOND

LABELS = 6
CELLS = 60  # at most, of all that is drawn
EVERY = 2.0  # seconds after which what was heard so far is drawn
# Beside the queue of what takes moments, which would wait for it.
IN_PIECES: dict[str, Any] = ON_MODEL | {"concurrency_id": "timeline"}


class OverTime:
    """Laid out when it is made; hidden until a long sound was run."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="over-time") as self.column:
            gr.Markdown(
                f"### Over time\nA sound that is longer than {LONG:g} seconds is also cut into "
                "windows of 5 seconds that overlap by half. Each goes through the model by "
                "itself. The blue is each label's probability."
            )
            self.picture = Chart(elem_id="timeline")
            self.heard = gr.HTML(elem_id="heard")

    def follow(self, run: Dependency, result: gr.State, sound: gr.Audio) -> None:
        """Compute after every run."""
        outputs = [self.column, self.picture, self.heard]
        drawn = run.then(self.draw, result, outputs, trigger_mode="always_last", **ON_MODEL)
        heard: Any = drawn.then(self.hear_on, [result, sound], outputs[1:], **IN_PIECES)
        run.then(None, cancels=heard, **QUIET)

    def draw(self, result: Classification | None) -> dict[Any, Any]:
        """What the stage shows, against time."""
        if result is None or result.clip.seconds <= LONG:
            return {self.column: gr.Column(visible=False)}
        line = timeline(result.classifier, result.clip.waveform)
        drawn = _drawn(result, line, len(result.mel) / FRAMES_PER_SECOND)
        return {self.column: gr.Column(visible=True), self.picture: drawn, self.heard: ""}

    def hear_on(self, result: Classification | None, path: str | None) -> Iterator[Any]:
        """All of a sound that goes on behind what the stage shows."""
        sound = _longer(result, path)
        if not (result and sound):
            yield gr.skip()
            return
        parts, drawn = [], 0.0
        for part in listen(result.classifier, sound.pieces()):
            parts.append(part)
            seconds = part.starts[-1] + part.window
            said: dict[Any, Any] = {self.heard: _bar(seconds, sound.seconds)}
            if time.monotonic() - drawn > EVERY:
                drawn = time.monotonic()
                said[self.picture] = _drawn(result, joined(parts), seconds)
            yield said
        whole = _drawn(result, joined(parts), sound.seconds)
        yield {
            self.picture: whole,
            self.heard: " ".join([f"All {_clock(sound.seconds)} were heard.", *sound.notes]),
        }


@refusing
def _longer(result: Classification | None, path: str | None) -> LongSound | None:
    """A sound of which the stage shows only the beginning."""
    if not (result and path) or result.clip.seconds < result.classifier.seconds:
        return None
    if not Path(path).is_file():  # swept away; `Explored.run_model` says so
        return None
    limits().check_upload(path)
    sound = survey(Path(path), limits().timeline_seconds)
    return sound if sound.seconds > result.clip.seconds else None


def _bar(heard: float, of: float) -> str:
    """How far it has come."""
    bar = f"<progress value='{heard / of:.3f}' aria-label='Part heard'></progress>"
    return f"{bar} {_clock(heard)} of {_clock(of)}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _drawn(result: Classification, line: Timeline, seconds: float) -> Any:
    """seconds: of the axis."""
    line = line.coarser(CELLS)
    chosen = line.top(LABELS)
    figure = plots.over_time(
        line.probabilities[:, chosen],
        line.shares,
        labels=[result.classifier.labels[i] for i in chosen],
        places=place_names(line.places),
        spans=line.spans,
        seconds=seconds,
    )
    return chart(figure)
