"""A changed sound beside the old one: its labels, its routing, its experts."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from torch import Tensor

from softmoa.data import audio
from softmoa.data.audio import SAMPLE_RATE
from softmoa.lens.classify import Classification, classify
from softmoa.lens.hearing import as_loud, hear
from softmoa.lens.planted import plant, pointing
from softmoa.ui.checks import refuse, refusing
from softmoa.ui.drawing import kind_of, row_names
from softmoa.ui.examples import example_clips
from softmoa.ui.figure import ON_MODEL, QUIET, Note
from softmoa.ui.stage import stage
from softmoa.ui.stage.stage import Brush, Choice
from softmoa.ui.texts import explore as texts


class Changed:
    """The second stage, hidden until there is a changed sound; laid out when it is made.

    first: the stage of the sound itself, whose choice of layer, view and expert it follows.
    """

    def __init__(self, first: gr.HTML) -> None:
        self.first, self.result = first, gr.State()
        self.stage = stage.build("", elem_id="changed")

    def plant(self, result: gr.State) -> None:
        """Lay out what plants a sound in that of `result`, and wire it."""
        Note(texts.PLANT_ABOUT)
        with gr.Row():
            names = [(name.replace("_", " "), name) for name in example_clips()]
            name = gr.Dropdown(names, value="dog_bark", label="Sound", elem_id="plant-sound")
            at = gr.Slider(0, 10, 0.5, step=0.1, label="At, in s", elem_id="plant-at")
            level = gr.Slider(
                -20, 20, 0, step=1, label="Loudness over this sound, in dB", elem_id="plant-level"
            )
            button = gr.Button("Plant it", scale=0, min_width=120, elem_id="plant-it")
        outputs = [self.first, self.stage, self.result]
        button.click(self.planted, [result, self.first, name, at, level], outputs, **ON_MODEL)

    def follow(self, result: gr.State, explain: Any) -> None:
        """Do what is asked of a box that was brushed in the first stage, which shows `result`."""
        outputs = [self.first, self.stage, self.result]
        self.first.brush(self.brush, result, outputs, trigger_mode="multiple", **ON_MODEL)
        self.first.change(None, self.first, self.stage, js="value => value", **QUIET)
        self.stage.explain(explain, self.result, self.stage, trigger_mode="multiple", **ON_MODEL)

    def nothing(self) -> dict:
        return {self.stage: gr.HTML(clip=None), self.result: None}

    @refusing
    def brush(self, result: Classification | None, event: gr.EventData) -> dict:
        """The sound of a box, or the answer to the sound without it, or to nothing else."""
        asked = Brush.of(event)
        if result is None or asked is None:
            return {self.first: gr.skip()}
        if asked.act == "clear":
            return self.nothing()
        grid, mask = result.grid, asked.mask(result.grid)
        original = result.clip.waveform
        sound = hear(original, 1 - mask if asked.act == "erase" else mask, grid)
        if asked.act == "play":
            sound = as_loud(sound, original).waveform
            (start, _), (_, end) = (grid.seconds(min(c, grid.columns - 1)) for c in asked.columns)
            return {
                self.first: gr.HTML(
                    heard={"sound": stage.sound_of(sound), "from": start, "to": end}
                )
            }
        box = {"columns": asked.columns, "bands": asked.bands}
        words = "With only the box" if asked.act == "keep" else "Without the box"
        return self.show(result, sound, words, box)

    @refusing
    def planted(self, result: Classification | None, choice, name, at: float, level: float) -> dict:
        """A chosen sound mixed in, and the expert that points at it."""
        if result is None or not result.records:
            raise refuse(texts.EMPTY)
        if name not in example_clips():
            raise refuse("Choose a sound from the list.")
        sound = audio.load(example_clips()[name]).waveform
        front_end = result.classifier.model.config.front_end
        mixed = plant(result.clip.waveform, sound, at, level, result.grid, front_end)
        found = pointing(result.classifier, mixed, result.grid)
        name = name.replace("_", " ").capitalize()
        if math.isnan(found.score):
            words = f"{name} is heard nowhere, or everywhere: choose another loudness or time"
            return self.show(result, mixed.mixed, words)
        record, expert = result.records[found.row], found.expert + 1
        words = (
            f"{name}: AUC {found.score:.2f}, by expert {expert} of "
            f"{row_names(result)[found.row].lower()}; before it was there the best expert had "
            f"{found.before:.2f}"
        )
        view = "combine" if kind_of(record, "dispatch") == "gates" else "dispatch"
        seen = {"layer": record.layer + 1, "site": record.site, "expert": expert}
        area = mixed.area.nonzero()
        low, high = area.amin(dim=0).tolist(), area.amax(dim=0).tolist()
        box = {"columns": [low[1], high[1]], "bands": [low[0], high[0]]}
        value = Choice.of(choice).model_dump() | seen | {"view": view}
        return self.show(result, mixed.mixed, words, box) | {self.first: gr.HTML(value=value)}

    def show(
        self, result: Classification, sound: Tensor, words: str, box: dict | None = None
    ) -> dict:
        """The answer to a sound (samples,) at 16 kHz beside that to the old one; box: the patches
        that were changed. words: what was done."""
        changed = classify(result.classifier, (SAMPLE_RATE, sound.numpy()))
        label = (*result.headline().labels, result.top(1)[0][0])[0]
        index = result.classifier.labels.index(label)
        before, after = (100 * one.probabilities[index].item() for one in (result, changed))
        said = f"{words}. {label}: {before:.0f} → {after:.0f}%."
        clip = stage.clip_of(changed)
        clip |= {"sound": stage.sound_of(changed.clip.waveform), "box": box, "said": said}
        return {self.stage: gr.HTML(clip=clip), self.result: changed}
