"""The Experts tab: which expert mattered, what changes without it, what it hears, how even all are.

It opens on a sound of its own, whose answer the experts change, and follows Explore from the first
sound that a visitor sends there. Views of the experts are computed when they are first asked for.
"""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import Any

import gradio as gr
import torch
from gradio.components import Component
from torch import Tensor

from softmoa.data.tasks import EMBEDDED
from softmoa.lens.ablation import Intervention
from softmoa.lens.attribution import Attribution
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import Classification, classify, reclassify
from softmoa.plots import experts as plots
from softmoa.ui.balance import Balance
from softmoa.ui.checks import plain, refusing
from softmoa.ui.drawing import multiples, row_names, truth
from softmoa.ui.examples import clip_name
from softmoa.ui.explore import Explored
from softmoa.ui.favourites import Favourites
from softmoa.ui.figure import MATH, ON_MODEL, QUIET, Chart, Note, chart, redrawn
from softmoa.ui.hear import HearIt, offer_experts
from softmoa.ui.links import Linked, Query
from softmoa.ui.switchboard import Mode, Switchboard, answers, verdict
from softmoa.ui.texts import experts as texts

OPENS = "This tab opens on a flute, a sound that needs its experts; yours comes from **Explore**."
OPENING = "instruments-soft-moa", EMBEDDED / "instruments" / "test" / "flute" / "flute-71.ogg"
SMALL = 0.01  # change of the answer's probability that is not worth a look
CAUSAL_SECONDS = 120  # more would keep all other visitors waiting
QUICK_SECONDS = 20  # up to here the causal view is the first one shown


def build(explored: Explored, tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside its `gr.Tab`."""
    state, here, follows = gr.State(), gr.State(False), gr.State(False)
    clip = gr.Textbox(visible="hidden", elem_id="experts-clip")  # for the link, as the bundle
    bundle = gr.Textbox(visible="hidden", elem_id="experts-bundle")
    status = gr.Markdown(elem_id="experts-status")
    parts: list = []
    with gr.Column(visible=False) as body, gr.Tabs(overflow_behavior="wrap"):
        for name, part in PARTS.items():
            with gr.Tab(name):
                parts.append(part(state))

    def refresh(sent: bool, here: bool, follow: bool, result, path, chosen, seen) -> dict:
        """What a visitor has sent to Explore last, or the opening; nothing, if it is there."""
        follow = follow or sent
        result = result if follow and result else opening()
        if not here or (seen and seen.result is result):
            return {follows: follow}
        if not result.records:
            sentence = (
                f"The bundle **{result.classifier.name}** holds no mixture of experts. Choose one "
                "that does in **Explore**."
            )
            nothing = {state: None, body: gr.Column(visible=False)}
            return nothing | {status: sentence, follows: follow}
        new, own = Attribution(result), result is opening()
        label, probability = result.top(1)[0]
        said = (
            f"**{plain(label)}** ({probability:.1%}) · {result.clip.seconds:.2f} s of "
            f"sound · {result.classifier.name} on {result.classifier.backbone}. "
        )
        said += OPENS if own else "Another sound or bundle is chosen in **Explore**."
        updates = {c: update for part in parts for c, update in part.offer(new).items()}
        links = {clip: "" if own else clip_name(path), bundle: "" if own else chosen}
        shown = {state: new, status: said, body: gr.Column(visible=True), follows: follow}
        return shown | links | updates

    assert isinstance(tab.parent, gr.Tabs)
    tab.parent.select(_is_here, None, here, **QUIET)
    for trigger, sent in ((here.change, False), (explored.run.then, True)):
        trigger(
            partial(refresh, sent),
            [here, follows, explored.result, explored.sound, explored.bundle, state],
            [state, follows, status, body, clip, bundle, *(c for p in parts for c in p.offered)],
            **ON_MODEL,
        )

    def open_link(query: Query) -> dict[Component, Any]:
        asked = explored.link.open_link(query)
        if query.values.get("clip") == explored.opens_on:  # it is there; this has it run
            asked[explored.again] = time.time()
        return asked | {here: True, follows: not query.values.keys().isdisjoint(names)}

    names: dict = {"clip": clip, "bundle": bundle}
    opened = [*explored.link.opened, here, follows]
    return Linked("experts", tab, names, opened, open_link, last=explored.link.last)


def _is_here(event: gr.SelectData) -> bool:
    return event.value == "Experts"


@lru_cache(maxsize=1)
def opening() -> Classification:
    bundle, path = OPENING
    return classify(open_classifier(bundle), path)


class WhichMatter:
    def __init__(self, seen: gr.State) -> None:
        with gr.Row():
            with gr.Column(scale=3, min_width=340):
                self.title = gr.Markdown(elem_id="experts-title")
                self.map = Chart(elem_id="experts-map")
                with gr.Row():
                    views = [(view.capitalize(), view) for view in texts.TITLES]
                    self.view = gr.Radio(
                        views, label="How to judge", min_width=420, elem_id="experts-view"
                    )
                    self.target = gr.Dropdown(
                        [], label="For the class", min_width=180, elem_id="experts-target"
                    )
                    self.mode = Mode(min_width=340, elem_id="experts-mode")
                self.note = Note(latex_delimiters=MATH)
            with gr.Column(scale=2, min_width=340):
                self.row = gr.Radio([], label="Layer", elem_id="experts-layer")
                self.expert = gr.Radio([], label="Expert", elem_id="experts-expert")
                self.one_title = gr.Markdown(elem_id="experts-one")
                self.one = Chart(elem_id="experts-detail")
                self.true = Note(elem_id="experts-true")
        self.offered = [self.view, self.target, self.row, self.expert]
        choice = [*self.offered, self.mode]
        shown = [self.mode, self.title, self.map, self.note, self.one_title, self.one, self.true]
        redrawn(seen, self.offer, self.judge, choice, outputs=shown, **ON_MODEL)

    def offer(self, seen: Attribution) -> dict:
        result = seen.result
        order = result.probabilities.argsort(descending=True).tolist()
        labels, sure = result.classifier.labels, result.probabilities
        classes = [(f"{labels[c]} ({sure[c]:.1%})", c) for c in order]
        quick = seen.causal_seconds < QUICK_SECONDS
        return offer_experts(seen, self.row, self.expert, _effects(seen) if quick else None) | {
            self.view: "causal" if quick else "signed",
            self.target: gr.Dropdown(classes, value=order[0]),
        }

    @refusing
    def judge(self, seen: Attribution | None, view, target, row, expert, mode) -> dict:
        """All experts in one view, how to read it, and the chosen expert in that view."""
        if seen is None:
            return gr.skip()
        target = min(target, len(seen.result.logits) - 1)
        row, expert = min(row, len(seen.places) - 1), min(expert, seen.experts - 1)
        shown: dict = {self.mode: gr.Radio(visible=view == "causal"), self.note: texts.NOTES[view]}
        if view == "causal" and seen.causal_seconds > CAUSAL_SECONDS:
            slow = (
                f"Removing every expert of this model takes about {seen.causal_seconds:.0f} s for "
                "this sound; choose a shorter sound or the embedded backbone."
            )
            nothing = {self.map: None, self.one_title: "", self.one: None, self.true: ""}
            return shown | nothing | {self.title: slow}
        label = seen.result.classifier.labels[target]
        title, figure, true = _one(seen, view, target, mode, row, expert)
        said = texts.TITLES[view].format(label=label)
        if view == "causal" and (most := _effects(seen, mode).max()) < SMALL:
            said += texts.SMALL.format(most=100 * most)
        return shown | {
            self.title: said,
            self.map: chart(_map(seen, view, target, mode, (row, expert))),
            self.one_title: title,
            self.one: chart(figure),
            self.true: true,
        }


def _effects(seen: Attribution, mode: Any = "zero") -> Tensor:
    """Change of the answer's probability without each expert, (places, n), without sign."""
    causal, classifier = seen.causal(mode), seen.result.classifier
    change = classifier.probabilities(causal.logits + causal.delta) - seen.result.probabilities
    return change[..., int(causal.logits.argmax())].abs()


def _map(seen: Attribution, view, target, mode, chosen):
    options: dict = {"signed": 1} if view == "signed" else {"percent": view == "share"}
    if view == "causal":
        causal = seen.causal(mode)
        values = causal.delta[..., target]
        classifier, was = seen.result.classifier, seen.result.top(1)[0][0]
        first = (causal.logits + causal.delta).argmax(dim=-1).tolist()
        marks = [[classifier.another(was, classifier.labels[c]) for c in row] for row in first]
        options = {"signed": -1, "marks": marks}
    elif view == "signed":
        values = seen.signed(target).sum(dim=1)
    else:
        values = seen.norms if view == "length" else seen.share
    rows, unit = row_names(seen.result), texts.UNITS[view]
    return plots.layers(values, rows=rows, unit=unit, chosen=chosen, **options)


def _one(seen: Attribution, view, target, mode, row, expert):
    """Title and figure of the chosen expert: the answer without it, or its value at every patch;
    and whether such a map is true."""
    result = seen.result
    where = f"expert {expert + 1} of {row_names(result)[row].replace('Layer', 'layer')}"
    if view == "causal":
        without = reclassify(result, {seen.places[row]: Intervention((expert,), mode)})
        title = f"#### Without {where}\n{verdict(result, without)}"
        return title, answers(result, without, "without it", target), ""
    if view == "signed":
        values = seen.signed(target)[row, :, expert]
    elif view == "length":
        norms = seen.token_norms(row)
        values = norms[:, expert] / norms.mean().clamp(min=torch.finfo(norms.dtype).tiny)
    else:
        values = multiples(result.records[row], "combine")[0].mean(dim=1)[expert]
    title = (
        f"#### Where {where} {texts.WHERE[view]}\nThe two tokens of the whole clip, class and "
        f"distillation: {values[0]:.3g}, {values[1]:.3g}."
    )
    signed, unit = view == "signed", texts.PATCH_UNITS[view]
    patches = result.grid.unfold(values)
    picture = plots.spectrograms({"": result.mel}, patches, result.grid, unit=unit, signed=signed)
    return title, picture, truth(result, patches, target)


# Each is laid out when it is made; its `offer` is what its controls are for a new sound.
PARTS = {
    "Which matter": WhichMatter,
    "Switchboard": Switchboard,
    "Hear it": HearIt,
    "Balance": Balance,
    "Gallery": Favourites,
}
