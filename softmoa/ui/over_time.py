"""The part of the Explore tab for a long sound: its labels and expert shares against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from softmoa.classify import Classification
from softmoa.plots import timeline as drawn
from softmoa.timeline import LONG, Timeline, timeline
from softmoa.ui.figure import FOLLOWS, MODEL_QUEUE, Figure
from softmoa.ui.texts import over_time as texts

LABELS = 6
WINDOWS = (5, 10)  # seconds
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class OverTime:
    """Laid out when it is made; hidden until a long sound was run."""

    def __init__(self) -> None:
        self.line = gr.State()
        with gr.Column(visible=False, elem_id="over-time") as self.column:
            gr.Markdown(texts.HEADING.format(long=LONG))
            self.window = gr.Radio(
                [(texts.WINDOW.format(seconds=s), s) for s in WINDOWS],
                value=WINDOWS[0],
                label=texts.WINDOWS,
                elem_id="window",
            )
            self.labels = Figure(elem_id="label-lanes", elem_classes=FOLLOWS)
            self.shares = Figure(elem_id="share-lanes", elem_classes=FOLLOWS)

    def follow(
        self,
        runs: Sequence[Dependency],
        result: gr.State,
        layer: gr.Slider,
        site: gr.Radio,
    ) -> None:
        """Compute after every run and for every choice of a window; draw for every layer."""
        compute: dict[str, Any] = {
            "fn": run_windows,
            "inputs": [result, self.window, layer, site],
            "outputs": [self.line, self.column, self.labels, self.shares],
            "concurrency_id": MODEL_QUEUE,
            "concurrency_limit": 1,
            **QUIET,
        }
        for run in runs:
            run.then(**compute)
        self.window.input(**compute, trigger_mode="always_last")
        gr.on(
            [layer.change, site.change],
            draw_shares,
            [self.line, layer, site],
            self.shares,
            trigger_mode="always_last",
            **QUIET,
        )


def run_windows(result: Classification | None, window: float, layer: int, site: str) -> list:
    """The timeline, whether it is shown, and both its figures."""
    if result is None or result.clip.seconds <= LONG:
        return [None, gr.Column(visible=False), "", ""]
    line = timeline(result.classifier, result.clip.waveform, window if window in WINDOWS else 5)
    chosen = line.top(LABELS)
    labels = drawn.label_lanes(
        line.probabilities[:, chosen],
        labels=[result.classifier.labels[i] for i in chosen],
        spans=line.spans,
    )
    return [line, gr.Column(visible=True), labels, draw_shares(line, layer, site)]


def draw_shares(line: Timeline | None, layer: int, site: str) -> str:
    """Shares of the experts of one layer; empty where there is no mixture."""
    if line is None or not line.places:
        return ""
    place = (layer - 1, site)
    row = line.places.index(place) if place in line.places else 0
    at, beside = line.places[row]
    return drawn.share_lanes(
        line.shares[row],
        spans=line.spans,
        title=texts.SHARES.format(layer=at + 1, site=beside.upper()),
    )
