"""The switchboard: experts off, routing blind, and the answer beside the intact one."""

from __future__ import annotations

from functools import partial

import gradio as gr

from softmoa.lens.ablation import Intervention
from softmoa.lens.attribution import Attribution
from softmoa.lens.classify import Classification, reclassify
from softmoa.model.moa import Slots
from softmoa.plots import experts as plots
from softmoa.ui.checks import plain, refusing
from softmoa.ui.drawing import row_choices
from softmoa.ui.figure import ON_MODEL, QUIET, Chart, Note, chart, redrawn
from softmoa.ui.texts import experts as texts

Mode = partial(
    gr.Radio, [("are dropped", "zero"), ("go to the others", "renormalise")], value="zero",
    label="Combine weights of what is off",
)  # fmt: skip


class Switchboard:
    """Opens with all experts off."""

    def __init__(self, seen: gr.State) -> None:
        gr.Markdown(texts.BOARD)
        with gr.Row():
            self.off = gr.CheckboxGroup([], label="Experts switched off", elem_id="board-off")
            self.layers = gr.CheckboxGroup([], label="In the layers", elem_id="board-layers")
        with gr.Row():
            everything = gr.Button("All off", size="sm", elem_id="board-all")
            nothing = gr.Button("All on", size="sm", elem_id="board-none")
        with gr.Row():
            self.mode = Mode(elem_id="board-mode")
            choices = [("as learned", "learned"), "uniform", "shuffled"]
            routing = partial(gr.Radio, choices, value="learned")
            self.dispatch = routing(label="Dispatch: what slots read", elem_id="board-dispatch")
            self.combine = routing(label="Combine: what patches take", elem_id="board-combine")
        self.verdict = gr.Markdown(elem_id="board-verdict")
        self.picture = Chart(elem_id="board-answers")
        Note(texts.BOARD_NOTE)
        self.offered = [self.off, self.layers, self.dispatch, self.combine]
        choice = [self.off, self.layers, self.mode, self.dispatch, self.combine]
        shown = [self.verdict, self.picture]
        run = {"fn": self.run, "inputs": [seen, *choice], "outputs": shown, **ON_MODEL}
        redrawn(seen, self.offer, self.run, choice, outputs=shown, **ON_MODEL)
        everything.click(self.all_off, seen, self.off, **QUIET).then(**run)
        nothing.click(lambda: [], None, self.off, **QUIET).then(**run)

    def offer(self, seen: Attribution) -> dict:
        experts = [(f"E{j + 1}", j) for j in range(seen.experts)]
        rows = row_choices(seen.result)
        soft = isinstance(seen.result.records[0].routing, Slots)
        return {
            self.off: gr.CheckboxGroup(experts, value=[j for _, j in experts]),
            self.layers: gr.CheckboxGroup(rows, value=[i for _, i in rows]),
            self.dispatch: gr.Radio(value="learned", visible=soft),  # a token router has no slots
            self.combine: "learned",
        }

    def all_off(self, seen: Attribution | None) -> list[int]:
        return list(range(seen.experts)) if seen else []

    @refusing
    def run(self, seen: Attribution | None, off, layers, mode, dispatch, combine) -> dict:
        """The sound through the changed model."""
        if seen is None:
            return gr.skip()
        off = tuple(sorted(j for j in off if j < seen.experts))
        change = Intervention(off, mode, dispatch, combine)
        places = [place for row, place in enumerate(seen.places) if row in layers]
        changed = reclassify(seen.result, dict.fromkeys(places, change))
        return {
            self.verdict: f"### {verdict(seen.result, changed)}",
            self.picture: chart(answers(seen.result, changed, "changed")),
        }


def verdict(intact: Classification, changed: Classification) -> str:
    """Whether the answer changes, and how sure it is, in one sentence."""
    (was, before), (now, after) = intact.top(1)[0], changed.top(1)[0]
    if was == now:
        return f"The answer stays **{plain(was)}**: {before:.1%} → {after:.1%}."
    verb = "changes" if intact.classifier.another(was, now) else "stays of one kind,"
    return (
        f"The answer {verb} from **{plain(was)}** ({before:.1%}) to **{plain(now)}** ({after:.1%})."
    )


def answers(intact: Classification, changed: Classification, name: str, target=None):
    """The figure of both answers; name: what the second one is called."""
    return plots.answers(
        intact.classifier.labels,
        intact.probabilities,
        changed.probabilities,
        logits=(intact.logits, changed.logits),
        names=("intact", name),
        target=target,
    )
