"""The Live tab: the microphone's last seconds, classified about twice a second.

Two events share the work. The stream only keeps what was heard; a timer asks the model, in the
queue of everything that runs one. A tick that comes while the last one still waits or runs is
dropped by the page, so a slow machine updates less often and nothing piles up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
import torch

from softmoa import plots
from softmoa.audio import MAX_RATE, MIN_RATE, AudioError
from softmoa.bundle import BundleError, read_info
from softmoa.classify import DEFAULT_BUNDLE, Classification, bundles, classify, open_classifier
from softmoa.contribution import expert_contribution
from softmoa.ui.drawing import overall_contribution
from softmoa.ui.figure import MODEL_QUEUE, Figure
from softmoa.ui.links import Linked, Query
from softmoa.ui.texts import live as texts
from softmoa.weights import BACKBONES, WeightsError

SECONDS = 3.0  # of sound that every update is about
EVERY = 0.5  # seconds between two chunks, and between two updates
SILENT = 3.0  # seconds without a chunk after which the timer stops
LONGEST = 600  # seconds of work in one stream, then the visitor starts again
STREAMS = 8  # microphones at once

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Heard:
    """The last seconds of a microphone. chunks: how many came so far. at: when the last one did."""

    rate: int = 16_000
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    chunks: int = 0
    at: float = 0.0

    def with_chunk(self, rate: int, chunk: np.ndarray) -> Heard:
        """Joined with (samples,) or (samples, channels) of any number type, cut to SECONDS."""
        samples = np.asarray(chunk)
        scale = 2.0 ** (np.iinfo(samples.dtype).bits - 1) if samples.dtype.kind == "i" else 1.0
        mono = samples.reshape(len(samples), -1).mean(axis=1).astype(np.float32) / scale
        before = self.samples if rate == self.rate else self.samples[:0]
        joined = np.concatenate([before, mono])[-int(SECONDS * rate) :]
        return Heard(rate, joined, self.chunks + 1, time.monotonic())


@dataclass(frozen=True)
class Shown:
    """What was drawn last: of which chunk, and when the updates of this session came."""

    chunks: int = 0
    times: tuple[float, ...] = ()

    def next(self, chunks: int) -> Shown:
        return Shown(chunks, (*self.times[-9:], time.monotonic()))

    @property
    def per_second(self) -> float:
        """Updates per second, over the last ten."""
        if len(self.times) < 2:
            return 0.0
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    heard, shown = gr.State(Heard()), gr.State(Shown())
    timer = gr.Timer(EVERY, active=False)
    gr.Markdown(texts.INTRO.format(seconds=SECONDS))
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            microphone = gr.Audio(
                sources=["microphone"],
                streaming=True,
                type="numpy",
                label=texts.MICROPHONE,
                elem_id="live-sound",
            )
            bundle = gr.Dropdown(
                choices(), value=DEFAULT_BUNDLE, label=texts.BUNDLE, elem_id="live-bundle"
            )
            status = gr.Markdown(texts.IDLE, elem_id="live-status", elem_classes="quiet")
        with gr.Column(scale=3, min_width=320):
            labels = gr.Label(num_top_classes=5, label=texts.LABELS, elem_id="live-labels")
            bars = Figure(elem_id="live-bars")

    microphone.start_recording(
        lambda: [Heard(), Shown(), gr.Timer(active=True)],
        None,
        [heard, shown, timer],
        queue=False,
        **QUIET,
    )
    microphone.stop_recording(lambda: gr.Timer(active=False), None, timer, queue=False, **QUIET)
    microphone.stream(
        listen,
        [microphone, heard],
        heard,
        stream_every=EVERY,
        time_limit=LONGEST,
        concurrency_id="live",
        concurrency_limit=STREAMS,
        **QUIET,
    )
    timer.tick(
        update,
        [heard, shown, bundle],
        [shown, labels, bars, status, timer],
        trigger_mode="once",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        **QUIET,
    )
    return Linked("live", tab, {"bundle": bundle}, [bundle], open_link)


def choices() -> list[tuple[str, str]]:
    """Title and name of the bundles on embedded backbones."""
    infos = {name: read_info(path) for name, path in bundles().items()}
    return [
        (f"{info.task}: {info.method}, {len(info.labels)} labels", name)
        for name, info in infos.items()
        if info.base in BACKBONES and BACKBONES[info.base].embedded
    ]


def open_link(query: Query) -> list:
    return [query.one_of("bundle", [name for _, name in choices()]) or gr.skip()]


def listen(chunk: tuple[int, np.ndarray] | None, heard: Heard) -> Heard:
    """Keep what came from the microphone."""
    if chunk is None or not len(chunk[1]) or not MIN_RATE <= chunk[0] <= MAX_RATE:
        return heard
    return heard.with_chunk(*chunk)


def update(heard: Heard, shown: Shown, bundle: str) -> list:
    """Classify what was heard last, if there is something new; the timer stops after silence."""
    if heard.chunks == shown.chunks:
        gone = heard.chunks and time.monotonic() - heard.at > SILENT
        return [*[gr.skip()] * 4, gr.Timer(active=False) if gone else gr.skip()]
    if bundle not in bundles():
        return [gr.skip(), gr.skip(), gr.skip(), texts.NO_BUNDLE, gr.Timer(active=False)]
    try:
        result = classify(open_classifier(bundle), (heard.rate, heard.samples))
    except (AudioError, BundleError, WeightsError) as error:
        return [gr.skip(), gr.skip(), gr.skip(), str(error), gr.skip()]
    shown = shown.next(heard.chunks)
    status = texts.STATUS.format(
        seconds=result.clip.seconds,
        milliseconds=result.timing.forward,
        rate=shown.per_second,
        chunks=heard.chunks,
    )
    return [shown, dict(result.top(5)), expert_picture(result), status, gr.skip()]


def expert_picture(result: Classification) -> str:
    """Contribution of the experts, layer by layer; empty without a mixture."""
    if not result.records:
        return ""
    return plots.contribution_bars(
        torch.cat([expert_contribution(record) for record in result.records]),
        overall=overall_contribution(result),
        layers=[f"Layer {record.layer + 1} {record.site.upper()}" for record in result.records],
        title=texts.BARS,
        unit="share of the added length",
    )
