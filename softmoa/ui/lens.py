"""The Experts tab: which expert mattered, what changes without it, what it hears, how even all are.

It looks at the classification that Explore made. The views of its experts are computed when they
are first asked for, and stay in the visitor's session with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import torch

from softmoa import plots
from softmoa.ablation import Intervention, Mode
from softmoa.classify import Classification
from softmoa.evidence import Evidence, again
from softmoa.plots import lens as draw
from softmoa.ui import balance, hear, switchboard
from softmoa.ui.clicks import ON_CLICK, clicked
from softmoa.ui.drawing import multiples, real_frames, row_names
from softmoa.ui.examples import EXAMPLES
from softmoa.ui.explore import Explored
from softmoa.ui.figure import MATH, MODEL_QUEUE, Figure
from softmoa.ui.texts import lens as texts

OFFERED = ("dog_bark", "rain", "rooster", "speech", "trumpet", "train")
CAUSAL_SECONDS = 120  # more would keep all other visitors waiting
QUICK_SECONDS = 20  # up to here the causal view is the first one shown

# Explore has drawn a new result; this tab follows at once if it is the one looked at.
FOLLOW = """() => {
  if (document.querySelector('#lens')?.offsetParent) document.querySelector('#lens-refresh').click()
}"""


def build(explored: Explored, tab: gr.Tab) -> None:
    """Lay out the tab and wire it, inside its `gr.Tab`."""
    evidence = gr.State()
    gr.Markdown(texts.ABOUT)
    status = gr.Markdown(texts.NOTHING, elem_id="lens")
    with gr.Row():
        for name in OFFERED:
            button = gr.Button(name.replace("_", " "), size="sm", min_width=90)
            button.click(
                partial(_take, name), None, [explored.sound, status], api_visibility="private"
            )
    refresh_button = gr.Button(visible="hidden", elem_id="lens-refresh")

    with gr.Column(visible=False) as body:
        gr.Markdown(texts.MATTERED)
        with gr.Row():
            view = gr.Radio(
                list(texts.VIEWS.items()), value="causal", label=texts.VIEW, elem_id="lens-view"
            )
            target = gr.Dropdown(
                [("", 0)], value=0, label=texts.TARGET, elem_id="lens-target", min_width=200
            )
        mode = gr.Radio(
            list(texts.MODES.items()), value="zero", label=texts.MODE, elem_id="lens-mode"
        )
        table = Figure(elem_id="lens-map", js_on_load=ON_CLICK)
        note = gr.Markdown(elem_classes="quiet", latex_delimiters=MATH, elem_id="lens-note")
        gr.Markdown(texts.ONE)
        with gr.Row():
            row = gr.Radio([("1", 0)], value=0, label=texts.ROW, elem_id="lens-row")
            expert = gr.Radio([("1", 0)], value=0, label=texts.EXPERT, elem_id="lens-expert")
            slot = gr.Radio([("1", 0)], value=0, label=texts.SLOT, elem_id="lens-slot")
        detail = Figure(elem_id="lens-detail")
        choice = [row, expert, slot]
        board = switchboard.build(evidence, choice)
        heard = hear.build(evidence, choice)
        even = balance.build(evidence)

    judged: dict[str, Any] = {
        "fn": judge,
        "inputs": [evidence, view, target, mode, row, expert],
        "outputs": [table, note, detail, mode],
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
        "api_visibility": "private",
    }
    refreshed = gr.on(
        [tab.select, refresh_button.click],
        refresh,
        [explored.result, evidence],
        [evidence, status, body, view, target, *choice, *board.reset, *even.reset],
        show_progress="hidden",
        api_visibility="private",
    )
    refreshed.then(**judged, show_progress_on=[table])
    for section in (board, heard, even):
        refreshed.then(**section.redraw)
    gr.on(
        [view.input, target.input, mode.input],
        **judged,
        show_progress_on=[table],
        trigger_mode="always_last",
    )
    picked = table.select(pick, evidence, choice, api_visibility="private", show_progress="hidden")
    inputs = [control.input for control in choice]
    for chosen in (gr.on(inputs, lambda: None, api_visibility="private"), picked):
        chosen.then(**judged, show_progress="hidden", trigger_mode="always_last")
        chosen.then(**board.rechoose)
        chosen.then(**heard.redraw)
    for run in explored.runs:
        run.then(None, js=FOLLOW)


def _take(name: str) -> list:
    (path,) = EXAMPLES.glob(f"{name}.*")
    return [str(path), texts.WAITING.format(name=name.replace("_", " "))]


def refresh(result: Classification | None, evidence: Evidence | None) -> list:
    """What Explore has classified last; everything stays as it is if that has not changed."""
    if result is None:
        return [None, texts.NOTHING, gr.Column(visible=False), *[gr.skip()] * 12]
    if not result.records:
        sentence = texts.NO_MIXTURE.format(bundle=result.classifier.name)
        return [None, sentence, gr.Column(visible=False), *[gr.skip()] * 12]
    label, probability = result.top(1)[0]
    sentence = texts.SOUND.format(
        label=label,
        percent=100 * probability,
        seconds=result.clip.seconds,
        bundle=result.classifier.name,
        backbone=result.classifier.backbone,
    )
    if evidence is not None and evidence.result is result:
        return [gr.skip(), sentence, *[gr.skip()] * 13]
    evidence = Evidence(result)
    order = result.probabilities.argsort(descending=True).tolist()
    labels, n, rows = result.classifier.labels, evidence.experts, row_names(result)
    slots = result.records[0].routing.per_slot()[0].shape[3]
    classes = [(f"{labels[c]} ({100 * result.probabilities[c]:.1f} %)", c) for c in order]
    return [
        evidence,
        sentence,
        gr.Column(visible=True),
        "causal" if evidence.causal_seconds < QUICK_SECONDS else "signed",
        gr.Dropdown(classes, value=order[0]),
        gr.Radio([(name.removeprefix("Layer "), i) for i, name in enumerate(rows)], value=0),
        gr.Radio([(str(j + 1), j) for j in range(n)], value=0),
        gr.Radio([(str(k + 1), k) for k in range(slots)], value=0, visible=slots > 1),
        {},
        *balance.reset(result),
    ]


def judge(evidence: Evidence | None, view: str, target: int, mode: Mode, row: int, expert: int):
    """The map of all experts in one view, how to read it, and the chosen expert in that view."""
    if evidence is None:
        return [gr.skip()] * 4
    result, rows = evidence.result, row_names(evidence.result)
    target, row, expert = (
        min(target, len(result.logits) - 1),
        min(row, len(rows) - 1),
        min(expert, evidence.experts - 1),
    )
    label = result.classifier.labels[target]
    marks, options = None, {}
    if view == "causal":
        if evidence.causal_seconds > CAUSAL_SECONDS:
            sentence = texts.SLOW.format(seconds=evidence.causal_seconds)
            return [f"<p>{sentence}</p>", texts.NOTES[view], "", gr.skip()]
        causal = evidence.causal(mode)
        values = causal.delta[..., target]
        marks = (causal.logits + causal.delta).argmax(dim=-1) != causal.logits.argmax()
        options = {"diverging": True, "flip": True}
    elif view == "signed":
        values = evidence.signed(target).experts
        options = {"diverging": True, "sums": True}
    elif view == "norm":
        values = evidence.norms
    else:
        values, options = evidence.share, {"percent": True}
    table = draw.expert_map(
        values,
        rows=rows,
        title=texts.TITLES[view].format(label=label),
        unit=texts.UNITS[view],
        ends=texts.ENDS[view],
        marks=marks,
        mark=texts.MARK,
        selected=(row, expert),
        **options,
    )
    note = f"{texts.NOTES[view]} {texts.CLICK}"
    detail = _detail(evidence, view, target, mode, row, expert)
    return [table, note, detail, gr.Radio(visible=view == "causal")]


def _detail(evidence: Evidence, view: str, target: int, mode: Mode, row: int, expert: int) -> str:
    """The chosen expert: the outcome without it, or its value at every patch."""
    result = evidence.result
    where = {"expert": expert + 1, "row": row_names(result)[row].replace("Layer", "layer")}
    label = result.classifier.labels[target]
    if view == "causal":
        place = evidence.places[row]
        without = again(result, {place: Intervention((expert,), mode)})
        return draw.outcome(
            result.logits,
            without.logits,
            labels=result.classifier.labels,
            before=result.probabilities,
            after=without.probabilities,
            title=texts.WITHOUT.format(**where),
            names=(texts.INTACT, "without it"),
            target=target,
        )
    title, unit = texts.DETAILS[view].format(**where), texts.DETAIL_UNITS[view].format(label=label)
    grid = result.grid
    if view == "signed":
        tokens = evidence.signed(target).tokens[row, :, expert]
        return draw.signed_overlay(
            result.mel,
            grid.unfold(tokens),
            grid,
            title=title,
            unit=unit,
            ends=texts.ENDS["signed"],
            special=tokens[:2].tolist(),
            real_frames=real_frames(result),
        )
    if view == "norm":
        norms = evidence.token_norms(row)
        every = norms / norms.mean().clamp(min=torch.finfo(norms.dtype).tiny)
    else:
        weights, _ = multiples(result.records[row], "combine")  # (n, p, m)
        every = weights.mean(dim=1).T
    values = every[:, expert]
    return plots.overlay(
        result.mel,
        grid.unfold(values),
        grid,
        title=title,
        unit=unit,
        vmax=plots.scale_top(every[2:].numpy()),
        uniform=1.0 if view == "share" else None,
        special=values[:2].tolist(),
        real_frames=real_frames(result),
    )


def pick(evidence: Evidence | None, event: gr.EventData) -> list:
    """A click on the map: choose that layer and expert."""
    row, expert = clicked(event, "layer"), clicked(event, "expert")
    if evidence is None or row is None or expert is None:
        return [gr.skip()] * 3
    return [min(row, len(evidence.places) - 1), min(expert, evidence.experts - 1), gr.skip()]
