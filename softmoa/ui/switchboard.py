"""The switchboard: experts off, routing blind; the answer and pictures beside the intact ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import gradio as gr

from softmoa import plots
from softmoa.ablation import Intervention, Mode, Weights
from softmoa.classify import Classification
from softmoa.contribution import expert_share
from softmoa.evidence import Evidence, again
from softmoa.moa import Slots
from softmoa.plots import lens as draw
from softmoa.recording import Place
from softmoa.ui.clicks import clicked
from softmoa.ui.drawing import kind_of, multiples, real_frames, row_names
from softmoa.ui.figure import MATH, MODEL_QUEUE, Figure
from softmoa.ui.section import Section
from softmoa.ui.texts import lens as texts

Board = dict[Place, Intervention]  # what was changed; a place that is not in it is intact

ON_SWITCH = """
element.addEventListener('click', event => {
  const hit = event.target.closest('button[data-expert]');
  if (hit) trigger('select', {...hit.dataset});
});
element.addEventListener('change', event => {
  const hit = event.target.closest('select[data-set]');
  if (hit) trigger('select', {...hit.dataset, value: hit.value});
});
"""


def build(evidence: gr.State, choice: list) -> Section:
    """Lay out the section and wire it; choice: radios of the mixture, the expert and its slot."""
    board, changed = gr.State({}), gr.State()
    gr.Markdown(texts.SWITCHBOARD, latex_delimiters=MATH)
    with gr.Row():
        clicks = gr.Radio(
            list(texts.CLICK_KINDS.items()), value="toggle", label=texts.CLICKS, elem_id="clicks"
        )
        mode = gr.Radio(
            list(texts.MODES.items()), value="zero", label=texts.MODE, elem_id="board-mode"
        )
        seed = gr.Number(0, precision=0, label=texts.SEED, elem_id="board-seed", min_width=120)
    switches = Figure(elem_id="board", js_on_load=ON_SWITCH)
    with gr.Row():
        off = gr.Button(texts.ALL_OFF, size="sm", elem_id="board-off")
        reset = gr.Button(texts.RESET, size="sm", elem_id="board-reset")
    outcome = Figure(elem_id="board-outcome")
    view = gr.Radio(
        list(texts.PAIR_VIEWS.items()), value="combine", label=texts.PAIR_VIEW, elem_id="board-view"
    )
    pair = Figure(elem_id="board-pair")
    note = gr.Markdown(elem_classes="quiet", elem_id="board-note")

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    queue: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, **quick}
    state = [evidence, board, mode, seed, view, *choice]
    shown = [changed, switches, outcome, pair, note]
    run: dict[str, Any] = {"fn": run_board, "inputs": state, "outputs": shown, **queue}
    # In one step with the run, and in turn: every click of a fast hand counts.
    in_turn: dict[str, Any] = {"outputs": [board, *shown], "trigger_mode": "multiple", **queue}
    switches.select(run_switched, [clicks, *state], **in_turn)
    off.click(run_all_off, state, **in_turn)
    reset.click(run_reset, state, **in_turn)
    gr.on([mode.input, seed.input], **run, trigger_mode="always_last")
    redraw: dict[str, Any] = {
        "fn": pictures,
        "inputs": [evidence, changed, view, *choice],
        "outputs": pair,
    }
    view.input(**redraw, **quick, trigger_mode="always_last")
    return Section(redraw=run, rechoose=redraw | quick, reset=(board,))


def switch(evidence: Evidence | None, board: Board, clicks: str, event: gr.EventData) -> Board:
    """A click on the board, on an expert, a margin or a choice of routing."""
    if evidence is None:
        return board
    data = event._data or {}
    experts = range(evidence.experts)
    row, expert, every = (
        clicked(event, "layer"),
        clicked(event, "expert"),
        data.get("layer") == "all",
    )
    picked = [place for i, place in enumerate(evidence.places) if every or i == row]
    kind, value = data.get("set"), data.get("value")
    if kind in ("dispatch", "combine") and value in get_args(Weights):
        soft = _soft(evidence)
        for place in picked:
            if kind == "combine" or place in soft:
                board = _set(board, place, **{kind: value})
        return board
    if data.get("expert") == "all":  # a whole layer: off, or on again if all of it is off
        return _switch_all(board, picked, set(experts))
    if expert is None or expert not in experts:
        return board
    if clicks == "solo":
        return _switch_all(board, picked, set(experts) - {expert})
    every_off = all(expert in _at(board, place).off for place in picked)
    for place in picked:
        others = set(_at(board, place).off) - {expert}
        board = _set(board, place, off=tuple(sorted(others if every_off else others | {expert})))
    return board


def run_switched(
    clicks: str,
    evidence: Evidence | None,
    board: Board,
    mode: Mode,
    seed: int | None,
    view: str,
    row: int,
    expert: int,
    slot: int,
    event: gr.EventData,
) -> list:
    """Switch and run."""
    board = switch(evidence, board, clicks, event)
    return [board, *run_board(evidence, board, mode, seed, view, row, expert, slot)]


def run_all_off(evidence, board, *rest) -> list:
    """Switch all off and run."""
    board = all_off(evidence)
    return [board, *run_board(evidence, board, *rest)]


def run_reset(evidence, board, *rest) -> list:
    """Change nothing any more and run."""
    return [{}, *run_board(evidence, {}, *rest)]


def all_off(evidence: Evidence | None) -> Board:
    """Every expert of every mixture off."""
    if evidence is None:
        return {}
    return dict.fromkeys(evidence.places, Intervention(tuple(range(evidence.experts))))


def _at(board: Board, place: Place) -> Intervention:
    return board.get(place, Intervention())


def _set(board: Board, place: Place, **changes) -> Board:
    return {**board, place: replace(_at(board, place), **changes)}


def _switch_all(board: Board, places: list[Place], off: set[int]) -> Board:
    """Exactly these experts off at these places, or all on if that is how they are already."""
    already = all(set(_at(board, place).off) == off for place in places)
    for place in places:
        board = _set(board, place, off=() if already else tuple(sorted(off)))
    return board


def run_board(
    evidence: Evidence | None, board: Board, mode: Mode, seed: int | None, view: str, *choice
) -> list:
    """The sound through the changed model: its result, the board, the outcome, the pictures."""
    if evidence is None:
        return [gr.skip()] * 5
    seed = min(max(int(seed or 0), 0), 2**31)
    board = {place: replace(change, mode=mode, seed=seed) for place, change in board.items()}
    changed = again(evidence.result, board)
    return [
        changed,
        _drawn(evidence, board),
        draw.outcome(
            evidence.result.logits,
            changed.logits,
            labels=changed.classifier.labels,
            before=evidence.result.probabilities,
            after=changed.probabilities,
            title=texts.OUTCOME,
            names=(texts.INTACT, texts.CHANGED),
        ),
        pictures(evidence, changed, view, *choice),
        texts.CHANGE_NOTE.format(ms=changed.timing.forward),
    ]


def _soft(evidence: Evidence) -> set[Place]:
    """Where dispatch weights can be changed: a token router mixes no tokens into slots."""
    records = zip(evidence.places, evidence.result.records, strict=True)
    return {place for place, record in records if isinstance(record.routing, Slots)}


def _drawn(evidence: Evidence, board: Board) -> str:
    settings, on, soft = [], [], _soft(evidence)
    for place in evidence.places:
        change = _at(board, place)
        on.append([j not in change.off for j in range(evidence.experts)])
        dispatch = {"dispatch": change.dispatch} if place in soft else {}
        settings.append({**dispatch, "combine": change.combine})
    kinds = ("dispatch", "combine") if soft else ("combine",)
    return draw.switches(
        on,
        rows=row_names(evidence.result),
        settings=settings,
        choices=dict.fromkeys(kinds, texts.ROUTINGS),
        title=texts.BOARD,
        note=texts.BOARD_NOTE,
    )


def pictures(
    evidence: Evidence | None,
    changed: Classification | None,
    view: str,
    row: int,
    expert: int,
    slot: int,
):
    """The chosen expert's weights intact and changed on one scale, and the layer's shares."""
    if evidence is None or changed is None or len(changed.records) != len(evidence.places):
        return gr.skip()
    row, expert = min(row, len(evidence.places) - 1), min(expert, evidence.experts - 1)
    intact = evidence.result
    name = row_names(intact)[row]
    records = intact.records[row], changed.records[row]
    (before, unit), (after, _) = (multiples(record, view) for record in records)
    slot = min(slot, before.shape[1] - 1)
    top = max(plots.scale_top(intact.grid.unfold(w).numpy()) for w in (before, after))
    overlays = [
        plots.overlay(
            intact.mel,
            intact.grid.unfold(weights[expert, slot]),
            intact.grid,
            title=texts.PAIR_TITLE.format(
                state=state.capitalize(),
                kind=kind_of(records[0], view),
                expert=expert + 1,
                row=name.lower(),
            ),
            unit=unit,
            vmax=top,
            uniform=1.0,
            special=weights[expert, slot, :2].tolist(),
            real_frames=real_frames(intact),
        )
        for state, weights in ((texts.INTACT, before), (texts.CHANGED, after))
    ]
    shares = {
        state: expert_share(record)[0].nan_to_num()
        for state, record in zip((texts.INTACT, texts.CHANGED), records, strict=True)
    }
    bars = plots.expert_bars(
        shares, title=texts.PAIR_BARS.format(row=name.lower()), selected=expert
    )
    return draw.side_by_side(*overlays) + bars
