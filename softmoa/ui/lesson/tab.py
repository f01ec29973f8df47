"""Layout and events of the Lesson tab. What the steps show is computed in `steps`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.events import Dependency

from softmoa.ui.examples import gallery
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


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    bundles = list(steps.soft_bundles().items())
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            numbered = [(f"{k}. {title}", k) for k, title in enumerate(texts.STEPS, start=1)]
            step = gr.Radio(numbered, value=1, label="Steps of the lesson", elem_id="lesson-step")
            with gr.Column() as random:
                said = "Another seed draws other random numbers; the same seed, the same ones."
                seed = _slider(0, 99, SEED, "Seed", "seed", info=said)
            with gr.Column(visible=False) as choice:
                clip = offer(bundles[0][1], CLIP)
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

    # Before the steps' own listeners: the page runs those of one change one after another. What a
    # step computes comes after it.
    outputs = [*rows, diagram, random, choice, back, onward]
    shown = step.change(show, [step, logits], outputs, queue=False, **QUIET)
    chosen = [bundle, clip, layer]
    pages = (
        partial(_collapse, tab, step, shown, seed), _expert, partial(_kinds, seed),
        partial(_by_hand, logits, diagram), partial(_even, step, shown, chosen), _counts,
        partial(_quiz, step, shown, chosen), partial(_limits, chosen[:2]),
    )  # fmt: skip
    for row, page in zip(rows, pages, strict=True):
        with row:
            page()
    to_the_top = "() => document.querySelector('#lesson-step').scrollIntoView()"
    for button, by in ((back, -1), (onward, 1)):
        turn = partial(lambda by, now: min(max(now + by, 1), LAST), by)
        button.click(turn, step, step, queue=False, **QUIET).then(None, js=to_the_top)

    bundle.change(lambda *now: {clip: offer(*now)}, [bundle, clip], clip, **QUIET)

    def open_link(query: Query) -> dict:
        named = query.one_of("bundle", [name for _, name in bundles])
        model = named or bundles[0][1]
        found = query.one_of("clip", gallery(model))
        asked = {
            step: query.whole("step", 1, LAST),
            seed: query.whole("seed", 0, 99),
            clip: found and offer(model, found),
            bundle: named,
            layer: query.whole("layer", 1, steps.DEPTH),
        }
        return {component: value for component, value in asked.items() if value is not None}

    parts = {"step": step, "seed": seed, "clip": clip, "bundle": bundle, "layer": layer}
    return Linked("lesson", tab, parts, list(parts.values()), open_link)


def offer(bundle: str, clip: str) -> gr.Dropdown:
    """The clips of a bundle's gallery, and the chosen one if it is among them."""
    clips = list(gallery(bundle))
    value = clip if clip in clips else clips[0]
    return gr.Dropdown(clips, value=value, label="Clip", elem_id="lesson-clip")


def picture(step: int, logits: list[list[float]]) -> dict[str, Any]:
    """The diagram as it is at a step."""
    return {"at": step, **steps.numbers(logits)}


def _collapse(tab: gr.Tab, step: gr.Radio, shown: Dependency, seed: gr.Slider) -> None:
    last, series = gr.State(), gr.State()
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

    def train(step: int, seed: int, balanced: bool, drawn: tuple | None):
        """A link opens the tab and sets step and seed at once, and each asks for a training; they
        wait for each other in the queue, so the next one finds its choice drawn."""
        if step != 1 or drawn == (seed, balanced):
            yield nothing
            return
        for so_far in steps.train(seed, balanced):
            now = len(so_far["soft"])
            done = {last: (seed, balanced), series: so_far} if now == collapse.STEPS else {}
            yield look(so_far, now) | {at: now} | done

    def play(series: steps.Series | None, now: int):
        begin = 2 if now == collapse.STEPS else now
        if not series:
            yield nothing
            return
        for step in range(begin, collapse.STEPS + 1, 2):
            yield look(series, step) | {at: step}
            time.sleep(SLOWLY)

    playing = slowly.click(play, [series, at], [*pictures, at], concurrency_limit=None, **QUIET)
    training: tuple = (train, [step, seed, balanced, last], [*pictures, at, last, series])
    for event in (shown.then, tab.select):
        event(*training, **MODEL)
    gr.on([seed.change, balanced.change], *training, cancels=[playing], **MODEL)
    forgotten = again.click(lambda: None, None, last, cancels=[playing], **QUIET)
    forgotten.then(*training, **MODEL)
    at.input(look, [series, at], pictures, cancels=[playing], **AT_ONCE)
    step.change(None, cancels=[playing])


def _expert() -> None:
    with Left():
        Words(texts.EXPERT)
        width = gr.Radio(steps.WIDTHS, value=384, label="Width of a token", elem_id="lesson-width")
        narrow = _slider(1, 96, 12, "Width of the middle", "narrow")
    with Right(elem_id="lesson-adapter"):
        _follow([width, narrow], steps.expert)


def _kinds(seed: gr.Slider) -> None:
    with Left():
        Words(texts.KINDS)
        sharpness = _slider(0, 5, 1, "Sharpness", "sharpness", step=0.25)
    pictures = _panels(texts.KINDS_SHOWN, steps.kinds(SEED, 1.0), "lesson-kinds")
    _follow([seed, sharpness], steps.kinds, pictures)


def _by_hand(logits: gr.State, diagram: gr.HTML) -> None:
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
        drawn = _shown(pictures, steps.hand(changed))
        return {logits: changed, diagram: picture(4, changed)} | drawn

    token.input(choose, [logits, token], sliders, **AT_ONCE)
    moved = [slider.input for slider in sliders]
    outputs = [logits, diagram, *pictures]
    gr.on(moved, move, [logits, token, *sliders], outputs, **AT_ONCE)


def _even(step: gr.Radio, shown: Dependency, choice: list) -> None:
    with Left():
        Words(texts.EVEN)
    with Right():
        outputs = [Words(elem_id="lesson-even"), Chart(elem_id="lesson-bars")]
        with gr.Accordion("All metrics", open=False):
            columns = ["measure", "value", "how to read it"]
            outputs.append(gr.Dataframe(headers=columns, interactive=False, wrap=True))

    def draw(step: int, *choice) -> dict:
        return _shown(outputs, steps.even(*choice)) if step == 5 else gr.skip()

    drawing: tuple = (draw, [step, *choice], outputs)
    shown.then(*drawing, **MODEL)
    gr.on([part.change for part in choice], *drawing, **MODEL)


def _counts() -> None:
    with Left():
        Words(texts.COUNTS)
    with Right():
        experts = _slider(1, 16, 7, "Experts n", "experts")
        slots = _slider(1, 8, 1, "Slots per expert p", "slots-each")
        seconds = _slider(1, 10, 5, "Seconds of sound", "seconds", step=0.5)
        _follow([experts, slots, seconds], steps.counts)


def _quiz(step: gr.Radio, shown: Dependency, choice: list) -> None:
    place, cleared = choice[1:], {}
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

    shown.then(first, [step, *choice], place, **MODEL)
    deal.click(another, choice, place, **MODEL)
    gr.on([part.change for part in choice], lambda: cleared, None, list(cleared), **AT_ONCE)


def _limits(choice: list) -> None:
    with Left():
        Words(texts.LIMITS)
        button = gr.Button("Remove every expert, one at a time", elem_id="lesson-measure")
    with Right():
        words = Words(elem_id="lesson-ranks")
        picture = Chart(visible=False, elem_id="lesson-points")
        with gr.Accordion("Glossary", open=False):
            Words(texts.GLOSSARY)
    outputs, cleared = [words, picture], {words: "", picture: HIDDEN}
    button.click(lambda *choice: _shown(outputs, steps.measure(*choice)), choice, outputs, **MODEL)
    gr.on([part.change for part in choice], lambda: cleared, None, outputs, **AT_ONCE)


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


def _follow(controls: list, function: Callable[..., Sequence], outputs: Sequence = ()) -> None:
    """Show what a function makes of the controls, and again whenever one of them moves; outputs:
    where, else here."""
    outputs = outputs or [_filled(of) for of in function(*(control.value for control in controls))]

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
