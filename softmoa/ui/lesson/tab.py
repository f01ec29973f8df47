"""Layout and events of the Lesson tab. What the steps show is computed in `steps`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.events import Dependency

from softmoa.ui.examples import example_clips
from softmoa.ui.figure import MATH, ON_MODEL, QUIET, Chart, chart, growing, growth
from softmoa.ui.lesson import by_hand, collapse, steps
from softmoa.ui.lesson.quiz import QUESTIONS
from softmoa.ui.links import Linked, Query
from softmoa.ui.texts import lesson as texts

LAST = len(texts.STEPS)
RANDOM, CLIP_STEPS = (1, 3), (5, 7, 8)  # steps that use the seed, and an example clip
SEED = 8  # with which top-1 starves four of six experts, and soft none
CLIP, LAYER = "rooster", 4
START = [[2.0, 0.0, -1.0], [1.0, 1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, -1.0, 2.0]]
SLOWLY = 0.1  # seconds that a picture of slow motion stays

AT_ONCE: dict[str, Any] = QUIET | {"queue": False, "trigger_mode": "always_last"}
MODEL: dict[str, Any] = ON_MODEL | {"trigger_mode": "always_last"}
Words = partial(gr.Markdown, latex_delimiters=MATH)
Left, Right = (partial(gr.Column, scale=scale, min_width=300) for scale in (2, 3))


@dataclass(frozen=True)
class Shared:
    """What more than one step uses.

    tab: where the lesson is; it opens on its first step. shown: the event that has just put a step
    on the screen; what a step computes comes after it. logits: of the example by hand.
    """

    tab: gr.Tab
    step: gr.Radio
    shown: Dependency
    diagram: gr.HTML
    logits: gr.State
    seed: gr.Slider
    clip: gr.Dropdown
    bundle: gr.Dropdown
    layer: gr.Slider


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    bundles, clips = list(steps.soft_bundles().items()), list(example_clips())
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            numbered = [(f"{k}. {title}", k) for k, title in enumerate(texts.STEPS, start=1)]
            step = gr.Radio(numbered, value=1, label="Steps of the lesson", elem_id="lesson-step")
            with gr.Column() as random:
                said = "Another seed draws other random numbers; the same seed, the same ones."
                seed = _slider(0, 99, SEED, "Seed", "seed", info=said)
            with gr.Column(visible=False) as choice:
                named = [(name.replace("_", " "), name) for name in clips]
                clip = gr.Dropdown(named, value=CLIP, label="Example clip", elem_id="lesson-clip")
                bundle = gr.Dropdown(
                    bundles, label="Trained adapters (bundle)", elem_id="lesson-bundle"
                )
                layer = _slider(1, steps.DEPTH, LAYER, "Layer", "layer")
        with gr.Column(scale=4, min_width=320):
            template = Path(__file__).with_name("diagram.html").read_text(encoding="utf-8")
            diagram = gr.HTML(picture(1, START), html_template=template, elem_id="lesson-diagram")
            rows = [gr.Row(visible=k == 1, elem_id=f"lesson-{k}") for k in range(1, LAST + 1)]
            with gr.Row():
                back = gr.Button("Back", interactive=False, elem_id="lesson-back")
                onward = gr.Button("Next", variant="primary", elem_id="lesson-next")

    logits = gr.State(START)

    def show(step: int, logits: list[list[float]]) -> dict:
        return {row: gr.Row(visible=k == step) for k, row in enumerate(rows, start=1)} | {
            diagram: picture(step, logits),
            random: gr.Column(visible=step in RANDOM),
            choice: gr.Column(visible=step in CLIP_STEPS),
            back: gr.Button(interactive=step > 1),
            onward: gr.Button(interactive=step < LAST),
        }

    # Before the steps' own listeners: the page runs those of one change one after another.
    outputs = [*rows, diagram, random, choice, back, onward]
    shown = step.change(show, [step, logits], outputs, queue=False, **QUIET)
    shared = Shared(tab, step, shown, diagram, logits, seed, clip, bundle, layer)
    for row, page in zip(rows, PAGES, strict=True):
        with row:
            page(shared)
    to_the_top = "() => document.querySelector('#lesson-step').scrollIntoView()"
    for button, by in ((back, -1), (onward, 1)):
        turn = partial(lambda by, now: min(max(now + by, 1), LAST), by)
        button.click(turn, step, step, queue=False, **QUIET).then(None, js=to_the_top)

    def open_link(query: Query) -> dict:
        asked = {
            step: query.whole("step", 1, LAST),
            seed: query.whole("seed", 0, 99),
            clip: query.one_of("clip", clips),
            bundle: query.one_of("bundle", [name for _, name in bundles]),
            layer: query.whole("layer", 1, steps.DEPTH),
        }
        return {component: value for component, value in asked.items() if value is not None}

    parts = {"step": step, "seed": seed, "clip": clip, "bundle": bundle, "layer": layer}
    return Linked("lesson", tab, parts, list(parts.values()), open_link)


def picture(step: int, logits: list[list[float]]) -> dict[str, Any]:
    """The diagram as it is at a step."""
    return {"at": step, **steps.numbers(logits)}


def _collapse(shared: Shared) -> None:
    drawn, series = gr.State(), gr.State()
    with Left():
        Words(texts.COLLAPSE)
        balanced = gr.Checkbox(label="Add the balancing loss to top-1", elem_id="lesson-balanced")
        with gr.Row():
            again = gr.Button("Train again", min_width=120, elem_id="lesson-train")
            slowly = gr.Button("Slow motion", min_width=120, elem_id="lesson-slowly")
        at = _slider(1, collapse.STEPS, collapse.STEPS, "Look at step", "at")
        with gr.Accordion("The usual cure: a balancing loss", open=False):
            Words(texts.CURE)
    with Right():
        pictures = []
        for kind in ("top-1", "soft"):
            pictures += [Words(elem_id=f"lesson-line-{kind}"), growing(f"lesson-shares-{kind}")]
        Words(texts.COLLAPSE_NOTE, elem_classes="quiet")

    nothing: dict = {at: gr.skip()}  # no frame at all would empty every output

    def look(series: steps.Series | None, step: int) -> dict:
        return _shown(pictures, steps.at_step(series, step)) if series else gr.skip()

    def train(seed: int, balanced: bool):
        for so_far in steps.train(seed, balanced):
            step = len(so_far["soft"])
            done = {drawn: (seed, balanced), series: so_far} if step == collapse.STEPS else {}
            yield look(so_far, step) | {at: step} | done

    def train_if_new(step: int, seed: int, balanced: bool, drawn: tuple | None):
        """A link opens the tab and sets step and seed at once, and each asks for a training; they
        wait for each other in the queue, so the next one finds its choice drawn."""
        if step == 1 and drawn != (seed, balanced):
            yield from train(seed, balanced)
        else:
            yield nothing

    def play(series: steps.Series | None, now: int):
        begin = 2 if now == collapse.STEPS else now
        if not series:
            yield nothing
            return
        for step in range(begin, collapse.STEPS + 1, 2):
            yield look(series, step) | {at: step}
            time.sleep(SLOWLY)

    choice, outputs = [shared.seed, balanced], [*pictures, at, drawn, series]
    playing = slowly.click(play, [series, at], [*pictures, at], concurrency_limit=None, **QUIET)
    if_new: tuple = (train_if_new, [shared.step, *choice, drawn], outputs)
    for event in (shared.shown.then, shared.tab.select):
        event(*if_new, **MODEL)
    gr.on([part.change for part in choice], *if_new, cancels=[playing], **MODEL)
    again.click(train, choice, outputs, cancels=[playing], **MODEL)
    at.input(look, [series, at], pictures, cancels=[playing], **AT_ONCE)
    shared.step.change(None, cancels=[playing])


def _expert(shared: Shared) -> None:
    with Left():
        Words(texts.EXPERT)
        width = gr.Radio(steps.WIDTHS, value=384, label="Width of a token", elem_id="lesson-width")
        narrow = _slider(1, 96, 12, "Width of the middle", "narrow")
    with Right(elem_id="lesson-adapter"):
        outputs = [_filled(value) for value in steps.expert(384, 12)]
    _follow([width, narrow], steps.expert, outputs)


def _kinds(shared: Shared) -> None:
    with Left():
        Words(texts.KINDS)
        sharpness = _slider(0, 5, 1, "Sharpness", "sharpness", step=0.25)
    pictures = _panels(texts.KINDS_SHOWN, steps.kinds(SEED, 1.0), "lesson-kinds")
    _follow([shared.seed, sharpness], steps.kinds, pictures)


def _by_hand(shared: Shared) -> None:
    logits = shared.logits
    with Left():
        Words(texts.BY_HAND)
        names = [(name, i) for i, name in enumerate(by_hand.TOKENS)]
        token = gr.Radio(
            names, value=0, label="Set the routing logits of this token", elem_id="lesson-token"
        )
        sliders = [
            _slider(-4, 4, start, f"for slot {j + 1}", f"logit-{j + 1}", step=0.5)
            for j, start in enumerate(START[0])
        ]
    pictures = _panels(texts.HAND_SHOWN, steps.hand(START), "lesson-hand")

    def choose(logits: list[list[float]], token: int) -> dict:
        return dict(zip(sliders, logits[token], strict=True))

    def move(old: list[list[float]], token: int, *row: float) -> dict:
        changed = [*old[:token], list(row), *old[token + 1 :]]
        drawn = {shared.diagram: picture(4, changed)}
        return {logits: changed} | drawn | _shown(pictures, steps.hand(changed))

    token.input(choose, [logits, token], sliders, **AT_ONCE)
    moved = [slider.input for slider in sliders]
    outputs = [logits, shared.diagram, *pictures]
    gr.on(moved, move, [logits, token, *sliders], outputs, **AT_ONCE)


def _even(shared: Shared) -> None:
    with Left():
        Words(texts.EVEN)
    with Right():
        outputs = [Words(elem_id="lesson-even"), Chart(elem_id="lesson-bars")]
        with gr.Accordion("All metrics", open=False):
            columns = ["measure", "value", "how to read it"]
            outputs.append(gr.Dataframe(headers=columns, interactive=False, wrap=True))

    def draw(step: int, *choice) -> dict:
        return _shown(outputs, steps.even(*choice)) if step == 5 else gr.skip()

    choice = [shared.bundle, shared.clip, shared.layer]
    drawing: tuple = (draw, [shared.step, *choice], outputs)
    shared.shown.then(*drawing, **MODEL)
    gr.on([part.change for part in choice], *drawing, **MODEL)


def _counts(shared: Shared) -> None:
    with Left():
        Words(texts.COUNTS)
    with Right():
        experts = _slider(1, 16, 7, "Experts n", "experts")
        slots = _slider(1, 8, 1, "Slots per expert p", "slots-each")
        seconds = _slider(1, 10, 5, "Seconds of sound", "seconds", step=0.5)
        outputs = [_filled(value) for value in steps.counts(7, 1, 5.0)]
    _follow([experts, slots, seconds], steps.counts, outputs)


def _quiz(shared: Shared) -> None:
    choice, place = [shared.bundle, shared.clip, shared.layer], [shared.clip, shared.layer]
    cleared: dict = {}
    with gr.Column():
        Words(texts.QUIZ)
        deal = gr.Button("Another clip where experts matter", elem_id="lesson-deal")
        for number, question in enumerate(QUESTIONS, start=1):
            with gr.Row():
                with Left():
                    Words(f"**{number}.** {question.asked}")
                    guess = gr.Radio(
                        [(words, k) for k, words in enumerate(question.choices)],
                        label="Your guess",
                        elem_id=f"lesson-guess-{question.name}",
                    )
                with Right():
                    verdict = Words(texts.REVEAL_FIRST, elem_id=f"lesson-verdict-{question.name}")
                    picture = Chart(visible=False, elem_id=f"lesson-answer-{question.name}")
            outputs = [verdict, picture]
            reveal = partial(lambda outputs, *told: _shown(outputs, steps.reveal(*told)), outputs)
            guess.input(partial(reveal, question), [*choice, guess], outputs, **MODEL)
            cleared |= {guess: None, verdict: texts.REVEAL_FIRST, picture: HIDDEN}

    def another(bundle: str, clip: str, layer: int) -> dict:
        return dict(zip(place, steps.next_that_matters(bundle, clip), strict=True))

    def first(step: int, bundle: str, clip: str, layer: int) -> dict:
        untouched = step == 7 and (clip, layer) == (CLIP, LAYER)
        return another(bundle, clip, layer) if untouched else gr.skip()

    shared.shown.then(first, [shared.step, *choice], place, **MODEL)
    deal.click(another, choice, place, **MODEL)
    gr.on([part.change for part in choice], lambda: cleared, None, list(cleared), **AT_ONCE)


def _limits(shared: Shared) -> None:
    with Left():
        Words(texts.LIMITS)
        button = gr.Button("Remove every expert, one at a time", elem_id="lesson-measure")
    with Right():
        words, picture = (
            Words(elem_id="lesson-ranks"),
            Chart(visible=False, elem_id="lesson-points"),
        )
        with gr.Accordion("Glossary", open=False):
            Words(texts.GLOSSARY)
    choice, outputs = [shared.bundle, shared.clip], [words, picture]
    cleared = {words: "", picture: HIDDEN}
    button.click(lambda *choice: _shown(outputs, steps.measure(*choice)), choice, outputs, **MODEL)
    gr.on([part.change for part in choice], lambda: cleared, None, outputs, **AT_ONCE)


PAGES = (_collapse, _expert, _kinds, _by_hand, _even, _counts, _quiz, _limits)
HIDDEN = gr.update(visible=False)


def _slider(low: float, high: float, value: float, label: str, name: str, step=1.0, **more):
    return gr.Slider(low, high, value, step=step, label=label, elem_id=f"lesson-{name}", **more)


def _panels(titles: Sequence[str], figures: Sequence[go.Figure], name: str) -> list:
    """Small pictures, each under its title, as many in a row as there is room for."""
    pictures = []
    with Right(), gr.Row(elem_id=name):
        for title, figure in zip(titles, figures, strict=True):
            with gr.Column(min_width=230):
                Words(title)
                pictures.append(_filled(figure))
    return pictures


def _filled(value: str | go.Figure) -> gr.Markdown | gr.Plot:
    return Chart(chart(value)) if isinstance(value, go.Figure) else Words(value)


def _follow(controls: list, function: Callable[..., Sequence], outputs: list) -> None:
    """Show what a function makes of the controls whenever one of them moves."""

    def draw(*values) -> dict:
        return _shown(outputs, function(*values))

    gr.on([control.change for control in controls], draw, controls, outputs, **AT_ONCE)


def _shown(outputs: Sequence, values: Sequence) -> dict:
    """Words, figures and tables for their components."""

    def fitting(output, value):
        if not isinstance(value, go.Figure):
            return value
        if isinstance(output, gr.Plot):
            return gr.update(value=chart(value), visible=True)
        return growth(value)

    return {output: fitting(output, value) for output, value in zip(outputs, values, strict=True)}
