"""The Lesson tab: a guided path from one adapter to what the pictures cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
import torch
from gradio.events import Dependency

from softmoa import by_hand
from softmoa.plots import lesson as drawn
from softmoa.quiz import QUESTIONS
from softmoa.ui import lesson_steps as steps
from softmoa.ui.examples import example_clips
from softmoa.ui.figure import MATH, MODEL_QUEUE, Figure
from softmoa.ui.links import Linked, Query
from softmoa.ui.texts import lesson as texts

LAST = len(texts.STEPS)
RANDOM, CLIP_STEPS = (2, 4), (5, 7, 8)  # steps that use the seed, and an example clip
SEED = 8  # with which top-1 starves four of six experts, and soft none
START = ((2.0, 0.0, -1.0), (1.0, 1.0, 0.0), (-1.0, 2.0, 0.0), (0.0, -1.0, 2.0))

TO_THE_TOP = "now => { document.querySelector('#lesson-step').scrollIntoView(); return now; }"
ON_SLIDE = """
element.addEventListener('input', event => {
  if (event.target.type !== 'range') return;
  event.target.nextElementSibling.textContent = event.target.value;
  const logits = [];
  for (const input of element.querySelectorAll('input[type=range]'))
    (logits[input.dataset.row] ||= [])[input.dataset.column] = Number(input.value);
  trigger('select', {logits});
});
"""


QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
MODEL: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, **QUIET}
Words = partial(gr.Markdown, latex_delimiters=MATH)


@dataclass(frozen=True)
class Shared:
    """What more than one step uses.

    shown: the event that has just put a step on the screen; what a step computes then comes after.
    """

    step: gr.Radio
    shown: Dependency
    seed: gr.Slider
    clip: gr.Dropdown
    bundle: gr.Dropdown
    layer: gr.Slider


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    bundles, clips = steps.soft_bundles(), list(example_clips())
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            step = gr.Radio(
                [(f"{k}. {title}", k) for k, title in enumerate(texts.STEPS, start=1)],
                value=1,
                label=texts.STEP_LIST,
                elem_id="lesson-step",
            )
            with gr.Column(visible=False) as random:
                seed = gr.Slider(
                    0,
                    99,
                    SEED,
                    step=1,
                    label=texts.SEED,
                    info=texts.SEED_INFO,
                    elem_id="lesson-seed",
                )
            with gr.Column(visible=False) as choice:
                clip = gr.Dropdown(
                    [(name.replace("_", " "), name) for name in clips],
                    value=steps.known_clip(clips, bundles.values()),
                    label=texts.CLIP,
                    elem_id="lesson-clip",
                )
                bundle = gr.Dropdown(
                    list(bundles.items()),
                    value=next(iter(bundles.values()), None),
                    label=texts.BUNDLE,
                    elem_id="lesson-bundle",
                )
                layer = gr.Slider(
                    1, steps.depth(), 1, step=1, label=texts.LAYER, elem_id="lesson-layer"
                )
        with gr.Column(scale=4, min_width=320):
            columns = [
                gr.Column(visible=number == 1, elem_id=f"lesson-{number}")
                for number in range(1, LAST + 1)
            ]
            with gr.Row():
                back = gr.Button(texts.BACK, interactive=False, elem_id="lesson-back")
                onward = gr.Button(texts.NEXT, variant="primary", elem_id="lesson-next")

    # Before the steps' own listeners: the page runs those of one change one after another.
    outputs = [*columns, random, choice, back, onward]
    shown = step.change(show, step, outputs, queue=False, **QUIET)
    shared = Shared(step, shown, seed, clip, bundle, layer)
    for column, page in zip(columns, PAGES, strict=True):
        with column:
            page(shared)
    for button, by in ((back, -1), (onward, 1)):
        button.click(
            lambda now, by=by: min(max(now + by, 1), LAST),
            step,
            step,
            js=TO_THE_TOP,
            queue=False,
            **QUIET,
        )
    parts = {"step": step, "seed": seed, "clip": clip, "bundle": bundle, "layer": layer}
    opened = partial(open_link, clips=clips, bundles=list(bundles.values()))
    return Linked("lesson", tab, parts, list(parts.values()), opened)


def show(step: int) -> list:
    """One step and the controls it has."""
    return [
        *(gr.Column(visible=k == step) for k in range(1, LAST + 1)),
        gr.Column(visible=step in RANDOM),
        gr.Column(visible=step in CLIP_STEPS),
        gr.Button(interactive=step > 1),
        gr.Button(interactive=step < LAST),
    ]


def open_link(query: Query, clips: list[str], bundles: list[str]) -> list:
    """Step, seed, clip, bundle and layer of a link; what it does not name stays as it is."""
    values = [
        query.whole("step", 1, LAST),
        query.whole("seed", 0, 99),
        query.one_of("clip", clips),
        query.one_of("bundle", bundles),
        query.whole("layer", 1, steps.depth()),
    ]
    return [gr.skip() if value is None else value for value in values]


def _expert(shared: Shared) -> None:
    Words(texts.EXPERT)
    widths = steps.widths()
    width = gr.Radio(widths, value=widths[0], label=texts.WIDTH, elem_id="lesson-width")
    narrow = gr.Slider(1, 96, 12, step=1, label=texts.NARROW, elem_id="lesson-narrow")
    figure = Figure(steps.expert(widths[0], 12), elem_id="lesson-adapter")
    for control in (width, narrow):
        control.change(
            steps.expert, [width, narrow], figure, queue=False, trigger_mode="always_last", **QUIET
        )


def _kinds(shared: Shared) -> None:
    Words(texts.KINDS)
    sharpness = gr.Slider(0, 5, 1, step=0.25, label=texts.SHARPNESS, elem_id="lesson-sharpness")
    figure = Figure(steps.kinds(SEED, 1.0), elem_id="lesson-kinds-figure")
    for control in (shared.seed, sharpness):
        control.change(
            steps.kinds,
            [shared.seed, sharpness],
            figure,
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )


def _by_hand(shared: Shared) -> None:
    Words(texts.BY_HAND)
    slots = gr.Radio([2, 3], value=3, label=texts.SLOTS, elem_id="lesson-slots")
    sliders = Figure(_sliders(3), js_on_load=ON_SLIDE, elem_id="lesson-logits")
    figure = Figure(steps.hand(_start(3)), elem_id="lesson-hand")
    slots.change(
        lambda n: [_sliders(n), steps.hand(_start(n))],
        slots,
        [sliders, figure],
        queue=False,
        **QUIET,
    )
    sliders.select(by_hand_moved, slots, figure, queue=False, trigger_mode="always_last", **QUIET)


def by_hand_moved(n: int, event: gr.EventData):
    """A slider moved: all numbers anew."""
    logits = steps.checked_logits(event, n)
    return gr.skip() if logits is None else steps.hand(logits)


def _start(n: int) -> list[list[float]]:
    return [list(row[:n]) for row in START]


def _sliders(n: int) -> str:
    slots = [f"slot {j + 1}" for j in range(n)]
    return drawn.logit_sliders(torch.tensor(_start(n)), rows=by_hand.TOKENS, columns=slots)


def _collapse(shared: Shared) -> None:
    Words(texts.COLLAPSE)
    with gr.Row(equal_height=True):
        balanced = gr.Checkbox(label=texts.BALANCED, elem_id="lesson-balanced")
        again = gr.Button(texts.TRAIN, elem_id="lesson-train")
    figure, drawn = Figure(elem_id="lesson-shares"), gr.State()
    choice, outputs = [shared.seed, balanced], [figure, drawn]
    if_new = (train_if_new, [shared.step, *choice, drawn], outputs)
    shared.shown.then(*if_new, trigger_mode="always_last", **MODEL)
    gr.on([part.change for part in choice], *if_new, trigger_mode="always_last", **MODEL)
    again.click(train, choice, outputs, trigger_mode="always_last", **MODEL)


def train_if_new(step: int, seed: int, balanced: bool, drawn: tuple[int, bool] | None):
    """The training of step 4, if that step is shown and another seed or loss was drawn last."""
    if step == 4 and drawn != (seed, balanced):
        yield from train(seed, balanced)
    else:
        yield [gr.skip(), gr.skip()]


def train(seed: int, balanced: bool):
    """Picture after picture of a training, each with the choice it is of.

    A link sets step and seed at once, and each asks for a training; they wait for each other in
    the queue, so the second one finds its choice drawn.
    """
    for picture in steps.train(seed, balanced):
        yield [picture, (seed, balanced)]


def _even(shared: Shared) -> None:
    Words(texts.EVEN)
    figure = Figure(elem_id="lesson-even")
    choice = [shared.bundle, shared.clip, shared.layer]

    def draw(step: int, bundle: str | None, clip: str, layer: int):
        if step != 5:
            return gr.skip()
        return steps.even(bundle, clip, layer) if bundle else texts.NO_BUNDLE

    drawing = (draw, [shared.step, *choice], figure)
    shared.shown.then(*drawing, trigger_mode="always_last", **MODEL)
    gr.on([part.change for part in choice], *drawing, trigger_mode="always_last", **MODEL)


def _counts(shared: Shared) -> None:
    Words(texts.COUNTS)
    with gr.Row():
        experts = gr.Slider(1, 16, 7, step=1, label=texts.EXPERTS, elem_id="lesson-experts")
        slots = gr.Slider(1, 8, 1, step=1, label=texts.SLOTS_EACH, elem_id="lesson-slots-each")
        seconds = gr.Slider(1, 10, 5, step=0.5, label=texts.CLIP_SECONDS, elem_id="lesson-seconds")
    controls = [experts, slots, seconds]
    figure = Figure(steps.counts(7, 1, 5.0), elem_id="lesson-counts")
    for control in controls:
        control.change(
            steps.counts, controls, figure, queue=False, trigger_mode="always_last", **QUIET
        )


def _quiz(shared: Shared) -> None:
    Words(texts.QUIZ)
    choice = [shared.bundle, shared.clip, shared.layer]
    cleared: list = []
    for number, question in enumerate(QUESTIONS):
        Words(f"**{number + 1}.** {question.asked}")
        guess = gr.Radio(
            [(words, k) for k, words in enumerate(question.choices)],
            label=texts.GUESS,
            elem_id=f"lesson-guess-{question.name}",
        )
        verdict = Words(texts.REVEAL_FIRST, elem_id=f"lesson-verdict-{question.name}")
        figure = Figure(elem_id=f"lesson-answer-{question.name}")
        guess.input(partial(steps.reveal, question), [*choice, guess], [verdict, figure], **MODEL)
        cleared += [guess, verdict, figure]
    nothing = [None, texts.REVEAL_FIRST, ""] * len(QUESTIONS)
    gr.on([part.change for part in choice], lambda: nothing, None, cleared, queue=False, **QUIET)


def _limits(shared: Shared) -> None:
    Words(texts.LIMITS)
    button = gr.Button(texts.MEASURE, elem_id="lesson-measure")
    sentence = Words(elem_id="lesson-ranks")
    figure = Figure(elem_id="lesson-scatter")
    with gr.Accordion(texts.GLOSSARY_TITLE, open=True):
        Words(texts.GLOSSARY, elem_id="lesson-glossary")
    choice = [shared.bundle, shared.clip]
    button.click(steps.measure, choice, [sentence, figure], **MODEL)
    gr.on(
        [part.change for part in choice],
        lambda: ["", ""],
        None,
        [sentence, figure],
        queue=False,
        **QUIET,
    )


PAGES = (_expert, _kinds, _by_hand, _collapse, _even, _counts, _quiz, _limits)
