"""Hear it: the sound as an expert's dispatch weights filter it, and what they leave."""

from __future__ import annotations

import math

import gradio as gr
import torch
from torch import Tensor

from softmoa.lens.attribution import Attribution
from softmoa.lens.classify import Classification
from softmoa.lens.hearing import as_loud, hear
from softmoa.plots import experts as plots
from softmoa.ui.checks import check_room
from softmoa.ui.drawing import played, row_choices
from softmoa.ui.figure import MATH, ON_MODEL, Chart, Note, chart, redrawn
from softmoa.ui.texts import experts as texts

SOUNDS = "The original", "What it reads most", "The rest"
SHORT = 0.5  # dB below the original's loudness that need no mention


class HearIt:
    def __init__(self, seen: gr.State) -> None:
        gr.Markdown(texts.HEAR_ABOUT, latex_delimiters=MATH)
        with gr.Row():
            self.row = gr.Radio([], label="Layer", elem_id="hear-layer")
            self.expert = gr.Radio([], label="Expert", elem_id="hear-expert")
            self.slot = gr.Radio([], label="Slot of the expert", elem_id="hear-slot")
        self.loud = gr.Checkbox(
            True, label="As loud as the original, where peaks allow", elem_id="hear-loud"
        )
        with gr.Row():
            self.players = [
                gr.Audio(label=label, interactive=False, format="wav", buttons=["download"],
                         min_width=280, elem_id=f"hear-{name}")
                for label, name in zip(SOUNDS, ("original", "kept", "rest"), strict=True)
            ]  # fmt: skip
        self.said = gr.Markdown(elem_id="hear-said")
        self.picture = Chart(elem_id="hear-picture")
        Note(texts.HEAR_MEANS)
        self.offered = [self.row, self.expert, self.slot]
        choice = [*self.offered, self.loud]
        shown = [*self.players, self.said, self.picture]
        redrawn(seen, self.offer, self.play, choice, outputs=shown, **ON_MODEL)

    def offer(self, seen: Attribution) -> dict:
        slots = seen.result.records[0].routing.per_slot()[0].shape[3]
        return offer_experts(seen, self.row, self.expert) | {
            self.slot: gr.Radio([(str(k + 1), k) for k in range(slots)], value=0, visible=slots > 1)
        }

    def play(self, seen: Attribution | None, row: int, expert: int, slot: int, loud: bool) -> dict:
        """Both parts of the sound, what was done to their loudness, and their spectrograms."""
        if seen is None:
            return gr.skip()
        check_room()
        result, sound = seen.result, seen.result.clip.waveform
        mask = passing(result, min(row, len(seen.places) - 1), expert, slot)
        sounds, said = {SOUNDS[0]: sound}, []
        for name, part in zip(SOUNDS[1:], (mask, 1 - mask), strict=True):
            masked = hear(sound, part, result.grid)
            energy = masked.square().sum() / sound.square().sum().clamp(min=1e-12)
            raised, gain = as_loud(masked, sound), ""
            if loud:
                gain = f", raised by {raised.gain:+.1f} dB"
                if SHORT < raised.short < math.inf:
                    gain += f", still {raised.short:.1f} dB below the original"
            said.append(f"{name}: {100 * energy.item():.3g}% of the energy{gain}")
            sounds[name] = raised.waveform if loud else masked
        mels = {name: result.classifier.log_mel(one) for name, one in sounds.items()}
        values = 100 * torch.stack([torch.ones_like(mask), mask, 1 - mask])
        picture = plots.spectrograms(mels, values, result.grid, unit="% passes", tint=False)
        shown = {self.said: " · ".join(said) + ".", self.picture: chart(picture)}
        return shown | dict(zip(self.players, map(played, sounds.values()), strict=True))


def offer_experts(
    seen: Attribution, row: gr.Radio, expert: gr.Radio, effects: Tensor | None = None
) -> dict:
    """The choice of a mixture and of an expert, for a new sound: first the one of most effect,
    (places, n), or that adds most."""
    values = seen.norms if effects is None else effects
    at, most = divmod(int(values.argmax()), seen.experts)
    return {
        row: gr.Radio(row_choices(seen.result), value=at),
        expert: gr.Radio([(str(j + 1), j) for j in range(seen.experts)], value=most),
    }


def passing(result: Classification, row: int, expert: int, slot: int) -> Tensor:
    """The dispatch weights of a slot over the patches, (bands, columns), largest 1."""
    dispatch, _ = result.records[row].routing.per_slot()  # (1, m, n, p)
    expert, slot = min(expert, dispatch.shape[2] - 1), min(slot, dispatch.shape[3] - 1)
    picture = result.grid.unfold(dispatch[0, :, expert, slot])
    top = picture.max()
    return picture / top if top > 0 else picture
