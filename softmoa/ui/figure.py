"""What the tabs share: kinds of components, how figures and formulas are put on the page, and the
queue of everything that runs a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.components import Component
from gradio.components.plot import PlotData

from softmoa.data.audio import SAMPLE_RATE

MODEL_QUEUE = "model"  # concurrency group of everything that runs a model
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
# On no component: gradio's page goes through all that ever showed progress, at every event.
QUIET: dict[str, Any] = PRIVATE | {"show_progress": "hidden", "show_progress_on": []}
ON_MODEL: dict[str, Any] = QUIET | {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
MATH = [{"left": "$", "right": "$", "display": False}]

Figure = partial(gr.HTML, apply_default_css=False)  # figures bring their own style
Chart = partial(gr.Plot, show_label=False, container=False)
Note = partial(gr.Markdown, elem_classes="quiet")
Table = partial(gr.Dataframe, interactive=False, buttons=[])
Gallery = partial(
    gr.Gallery, height="auto", object_fit="fill", allow_preview=False, show_label=False,
    interactive=False, buttons=[],
)  # fmt: skip
Player = partial(gr.Audio, interactive=False, autoplay=True)
# It records at the rate that the model hears.
Recorder = partial(
    gr.Audio, sources=["microphone", "upload"], type="filepath",
    waveform_options=gr.WaveformOptions(sample_rate=SAMPLE_RATE), buttons=["download"],
)  # fmt: skip
# `microphone.js` knows it by its class.
Stream = partial(
    gr.Audio, sources=["microphone"], type="filepath", streaming=True, buttons=["download"],
    elem_classes="streaming",
)  # fmt: skip


def progress_on(*places: Component) -> dict[str, Any]:
    """What has an event show on these components that it works."""
    return {"show_progress": "full", "show_progress_on": places}


def redrawn(
    seen: gr.State, offer: Callable, draw: Callable, choice: Sequence[Any], **event: Any
) -> None:
    """Draw at every choice, and for a new value of `seen`, for which `offer` sets the choices."""

    def anew(new: Any, *now: Any) -> Any:
        return draw(new, *offered(offer(new), choice, now)) if new else gr.skip()

    event |= {"inputs": [seen, *choice], "trigger_mode": "always_last"}
    seen.change(anew, **event)
    gr.on([control.input for control in choice], draw, **event)


def offered(updates: Mapping, choice: Sequence[Any], now: Sequence[Any]) -> list[Any]:
    """The values of some controls with the updates on their way to them: the page reports a new
    sound before it has applied what came with it."""
    values = [updates.get(control, value) for control, value in zip(choice, now, strict=True)]
    # Within an event a component is no more than its arguments.
    return [v.constructor_args["value"] if isinstance(v, Component) else v for v in values]


def chart(figure: go.Figure) -> PlotData:
    """A figure as the page takes it: gr.Plot passes a figure's own JSON on and has no other place
    for plotly's configuration."""
    return PlotData(type="plotly", plot=json.dumps(growth(figure)))


def growing(elem_id: str) -> gr.HTML:
    """A place for a figure that is updated while it is looked at; its value is a `growth`."""
    # It brings plotly to the page. A component that is hidden by gradio shows once its row is
    # hidden and shown again, so this one is hidden by `page.css`.
    gr.Plot(chart(go.Figure()), elem_classes="unseen")
    script = Path(__file__).with_name("growing.js").read_text(encoding="utf-8")
    return Figure({}, html_template="<div></div>", js_on_load=script, elem_id=elem_id)


def growth(figure: go.Figure) -> dict[str, Any]:
    """A figure as `growing` takes it, of which gradio sends only what changed; with a camera
    button and without a wheel that traps a scroll."""
    config = {
        "displaylogo": False,
        "scrollZoom": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
    return json.loads(figure.to_json() or "{}") | {"config": config}
