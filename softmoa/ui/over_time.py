"""The part of the Explore tab for a long sound: its labels and expert shares against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from softmoa.lens.classify import Classification
from softmoa.lens.timeline import LONG, timeline
from softmoa.plots import explore as plots
from softmoa.ui.drawing import place_names
from softmoa.ui.figure import ON_MODEL, Chart, chart
from softmoa.ui.stage.stage import FRAMES_PER_SECOND

LABELS = 6
WINDOWS = (5, 10)  # seconds


class OverTime:
    """Laid out when it is made; hidden until a long sound was run."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="over-time") as self.column:
            gr.Markdown(
                f"### Over time\nThe sound is longer than {LONG:g} seconds, so it is also cut into "
                "windows that overlap by half. Each goes through the model by itself. The blue is "
                "each label's probability, on the axis of the picture above."
            )
            self.window = gr.Radio(
                [(f"{s} s", s) for s in WINDOWS],
                value=WINDOWS[0],
                label="Length of a window",
                elem_id="window",
            )
            self.picture = Chart(elem_id="timeline")

    def follow(self, runs: Sequence[Dependency], result: gr.State) -> None:
        """Compute after every run and for every choice of a window."""
        for event in (*(run.then for run in runs), self.window.input):
            outputs = [self.column, self.picture]
            event(self.draw, [result, self.window], outputs, trigger_mode="always_last", **ON_MODEL)

    def draw(self, result: Classification | None, window: float) -> dict[Any, Any]:
        if result is None or result.clip.seconds <= LONG:
            return {self.column: gr.Column(visible=False)}
        window = window if window in WINDOWS else WINDOWS[0]
        line = timeline(result.classifier, result.clip.waveform, window)
        chosen = line.top(LABELS)
        drawn = plots.over_time(
            line.probabilities[:, chosen],
            line.shares,
            labels=[result.classifier.labels[i] for i in chosen],
            places=place_names(line.places),
            spans=line.spans,
            seconds=len(result.mel) / FRAMES_PER_SECOND,
        )
        return {self.column: gr.Column(visible=True), self.picture: chart(drawn)}
