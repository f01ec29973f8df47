"""Hear it: the sound as an expert's dispatch weights filter it, beside the original."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from softmoa import plots
from softmoa.audio import SAMPLE_RATE, log_mel
from softmoa.classify import Classification
from softmoa.evidence import Evidence
from softmoa.listening import MAX_GAIN, Heard, hear
from softmoa.plots import lens as draw
from softmoa.ui.drawing import real_frames, row_names
from softmoa.ui.figure import MATH, Figure
from softmoa.ui.section import Section
from softmoa.ui.texts import lens as texts

SHORT = 0.5  # dB below the original's loudness that need no mention


def build(evidence: gr.State, choice: list) -> Section:
    """Lay out the section and wire it; choice: radios of the mixture, the expert and its slot."""
    gr.Markdown(texts.HEAR, latex_delimiters=MATH)
    with gr.Row():
        what = gr.Radio(
            list(texts.HEAR_WHATS.items()), value="kept", label=texts.HEAR_WHAT, elem_id="hear-what"
        )
        loudness = gr.Radio(
            list(texts.LOUDNESSES.items()),
            value="rms",
            label=texts.LOUDNESS,
            elem_id="hear-loudness",
        )
    with gr.Row():
        original, heard = (
            gr.Audio(
                label=label,
                interactive=False,
                format="wav",
                elem_id=name,
                buttons=["download"],
                min_width=280,
            )
            for label, name in ((texts.ORIGINAL, "hear-original"), (texts.HEARD, "hear-filtered"))
        )
    said = gr.Markdown(elem_id="hear-said")
    pictures = Figure(elem_id="hear-pictures")
    gr.Markdown(texts.HEAR_MEANS, elem_classes="quiet")
    redraw: dict[str, Any] = {
        "fn": play,
        "inputs": [evidence, what, loudness, *choice],
        "outputs": [original, heard, said, pictures],
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    gr.on([what.input, loudness.input], **redraw, trigger_mode="always_last")
    return Section(redraw=redraw)


def play(
    evidence: Evidence | None, what: str, loudness: str, row: int, expert: int, slot: int
) -> list:
    """Both sounds, what was done to the second in one sentence, and both spectrograms."""
    if evidence is None:
        return [gr.skip()] * 4
    result = evidence.result
    row, expert = min(row, len(evidence.places) - 1), min(expert, evidence.experts - 1)
    picture, who = mask(result, row, expert, slot)
    if what == "rest":
        picture = 1 - picture
    sound = result.clip.waveform
    masked = hear(sound, picture, result.grid, relative=False, loudness="masked").waveform
    energy = masked.square().sum() / sound.square().sum().clamp(min=1e-12)
    heard, says = masked, texts.UNGAINED
    if loudness == "rms":
        raised = hear(sound, picture, result.grid, relative=False)
        heard = raised.waveform
        says = loudness_said(raised)
    kind = next(name for name, value in texts.HEAR_WHATS.items() if value == what)
    row_name = row_names(result)[row].lower()
    return [
        (SAMPLE_RATE, _samples(sound)),
        (SAMPLE_RATE, _samples(heard)),
        texts.GAIN.format(
            kind=kind, who=who, row=row_name, loudness=says, energy=100 * energy.item()
        ),
        draw.side_by_side(
            plots.spectrogram(result.mel, title=texts.ORIGINAL, real_frames=real_frames(result)),
            plots.spectrogram(log_mel(heard), title=texts.HEARD, real_frames=real_frames(result)),
        ),
    ]


def loudness_said(heard: Heard) -> str:
    """What was done to give a masked sound the original's loudness, and what it lacks of it."""
    if math.isinf(heard.short):
        return texts.UNGAINED
    if heard.short <= SHORT:
        says = texts.GAINED if heard.gain >= 0 else texts.LOWERED
    elif heard.gain < 0:
        says = texts.PEAKS_DEMAND
    else:
        says = texts.AT_MOST if heard.gain > MAX_GAIN - 1e-6 else texts.PEAKS_ALLOW
    return says.format(gain=abs(heard.gain), short=heard.short)


def mask(result: Classification, row: int, expert: int, slot: int) -> tuple[Tensor, str]:
    """The dispatch weights of a slot over the patches, (bands, columns), largest 1; and whose."""
    dispatch, _ = result.records[row].routing.per_slot()  # (1, m, n, p)
    slots = dispatch.shape[3]
    slot = min(slot, slots - 1)
    picture = result.grid.unfold(dispatch[0, :, expert, slot])
    who = f"expert {expert + 1}" + f", slot {slot + 1}" * (slots > 1)
    top = picture.max()
    return (picture / top if top > 0 else picture), who


def _samples(waveform: Tensor) -> np.ndarray:
    """16-bit samples, as a player wants them."""
    return (waveform.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
