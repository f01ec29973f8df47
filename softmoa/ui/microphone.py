"""A microphone that is followed: what it hears is named at once, up to four times a second.

Two events share the work. The stream only keeps what was heard; a timer asks the model, in the
queue of everything that runs one, which a stream would hold to its end. A tick that comes while the
last one still waits or runs is dropped by the page, so a slow machine updates less often and
nothing piles up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from softmoa.data.audio import AudioError, hear
from softmoa.ui.figure import ON_MODEL, QUIET

SECONDS = 3.0  # of sound that are kept
EVERY = 0.25  # seconds between two updates; of chunks, gradio 6.31 sends ten a second regardless
SILENT = 15.0  # seconds without a chunk after which the timer stops; a busy machine has gaps


@dataclass(frozen=True)
class Recent:
    """The last SECONDS of a microphone, as it sent them: `audio.load` makes a sound of them.

    chunks: how many came so far. at: when the last one did.
    """

    rate: int = 0
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    chunks: int = 0
    at: float = 0.0

    def last(self, seconds: float) -> tuple[int, np.ndarray]:
        """The rate and the samples of the last `seconds`, at most SECONDS."""
        return self.rate, self.samples[-int(seconds * self.rate) :]


def received(path: str | None, recent: Recent) -> Recent:
    """Keep a file of what came from the microphone, or of what a stranger sent in its place: read
    by our own decoder, and never by gradio's, which knows no bounds."""
    try:
        heard = hear(path or "", SECONDS)
    except AudioError:
        return recent
    return listen((heard.rate, heard.mono), recent)


def listen(chunk: tuple[int, np.ndarray], recent: Recent) -> Recent:
    """Keep samples; another rate starts anew."""
    rate, samples = chunk
    if not len(samples):
        return recent
    if rate == recent.rate:
        samples = np.concatenate([recent.samples, samples])
    kept = samples[-max(int(SECONDS * rate), 1) :]
    return Recent(rate, kept, recent.chunks + 1, time.monotonic())


def follow(
    microphone: gr.Audio,
    answer: Callable[..., dict],
    inputs: Sequence[Component],
    outputs: Sequence[Component],
    idle: dict,
) -> None:
    """Have `answer` fill `outputs` as long as a streaming microphone is on.

    answer: called with Recent and the values of `inputs`. idle: what is shown once it is off.
    """
    recent, answered, on = gr.State(Recent()), gr.State(0), gr.State(False)
    timer = gr.Timer(EVERY, active=False)
    microphone.start_recording(
        lambda: {recent: Recent(), answered: 0, on: True, timer: gr.Timer(active=True)},
        None,
        [recent, answered, on, timer],
        queue=False,
        **QUIET,
    )
    # The timer goes on for one more tick: an answer may still be on its way, and `idle` comes last.
    microphone.stop_recording(lambda: False, None, on, queue=False, **QUIET)
    microphone.stream(
        received,
        [microphone, recent],
        recent,
        stream_every=EVERY,
        time_limit=None,  # gradio then ends it half a minute after the last chunk
        concurrency_id="microphones",
        concurrency_limit=None,
        **QUIET,
    )

    def update(recent: Recent, before: int, on: bool, *choices: Any) -> dict:
        if not on or (recent.chunks and time.monotonic() - recent.at > SILENT):
            return {timer: gr.Timer(active=False), **idle}
        if recent.chunks == before:
            return {timer: gr.skip()}
        return {answered: recent.chunks, **answer(recent, *choices)}

    timer.tick(
        update,
        [recent, answered, on, *inputs],
        [answered, timer, *outputs],
        trigger_mode="once",
        **ON_MODEL,
    )
