"""A microphone that is followed: what it hears is named at once, about twice a second.

Two events share the work. The stream only keeps what was heard; a timer asks the model, in the
queue of everything that runs one, which a stream would hold to its end. A tick that comes while the
last one still waits or runs is dropped by the page, so a slow machine updates less often and
nothing piles up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from softmoa.audio import MAX_RATE, MIN_RATE
from softmoa.ui.figure import MODEL_QUEUE

SECONDS = 3.0  # of sound that are kept
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

    def last(self, seconds: float) -> tuple[int, np.ndarray]:
        """The rate and the samples of the last `seconds`, at most SECONDS."""
        return self.rate, self.samples[-int(seconds * self.rate) :]


@dataclass(frozen=True)
class Shown:
    """What was said last: of which chunk, and when the updates of this session came."""

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


def follow(
    microphone: gr.Audio,
    answer: Callable[..., list],
    inputs: Sequence[Component],
    outputs: Sequence[Component],
    idle: list,
) -> None:
    """Have `answer` fill `outputs` as long as a streaming microphone is on.

    answer: called with Heard, Shown and the values of `inputs`. idle: the outputs once it is off.
    """
    heard, shown, on = gr.State(Heard()), gr.State(Shown()), gr.State(False)
    timer = gr.Timer(EVERY, active=False)
    microphone.start_recording(
        lambda: [Heard(), Shown(), True, gr.Timer(active=True)],
        None,
        [heard, shown, on, timer],
        queue=False,
        **QUIET,
    )
    # The timer goes on for one more tick: an answer may still be on its way, and `idle` comes last.
    microphone.stop_recording(lambda: False, None, on, queue=False, **QUIET)
    microphone.stream(
        listen,
        [microphone, heard],
        heard,
        stream_every=EVERY,
        time_limit=LONGEST,
        concurrency_id="microphones",
        concurrency_limit=STREAMS,
        **QUIET,
    )
    timer.tick(
        partial(update, answer, idle),
        [heard, shown, on, *inputs],
        [shown, timer, *outputs],
        trigger_mode="once",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        **QUIET,
    )


def listen(chunk: tuple[int, np.ndarray] | None, heard: Heard) -> Heard:
    """Keep what came from the microphone."""
    if chunk is None or not len(chunk[1]) or not MIN_RATE <= chunk[0] <= MAX_RATE:
        return heard
    return heard.with_chunk(*chunk)


def update(
    answer: Callable[..., list], idle: list, heard: Heard, shown: Shown, on: bool, *choices: Any
) -> list:
    """Answer what was heard last, if there is something new; the timer stops with the microphone
    or after silence."""
    if not on or (heard.chunks and time.monotonic() - heard.at > SILENT):
        return [gr.skip(), gr.Timer(active=False), *idle]
    if heard.chunks == shown.chunks:
        return [gr.skip()] * (2 + len(idle))
    shown = shown.next(heard.chunks)
    return [shown, gr.skip(), *answer(heard, shown, *choices)]
