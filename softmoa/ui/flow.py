"""From sound to label in one picture: where the experts read, and what they add to the labels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import torch
from gradio.events import Dependency

from softmoa.lens.attribution import Attribution
from softmoa.lens.classify import Classification
from softmoa.lens.contribution import read_from
from softmoa.model.ast import SPECIAL_TOKENS
from softmoa.plots import explore as plots
from softmoa.ui.checks import refusing
from softmoa.ui.drawing import row_choices, row_names
from softmoa.ui.figure import ON_MODEL, Chart, Note, chart
from softmoa.ui.stage.stage import most_different
from softmoa.ui.texts import explore as texts

LABELS, STRETCHES = 3, 8
ALL = -1  # in the place of a row


class Flow:
    """Laid out when it is made; opening: the classification whose picture is there at first."""

    def __init__(self, opening: Classification) -> None:
        self.seen = gr.State()
        with gr.Row():
            by = [("frequency", "bands"), ("time", "stretches")]
            self.by = gr.Radio(
                by, value="bands", label="What the experts read, by", elem_id="flow-by"
            )
            choices, row = _rows(opening)
            self.row = gr.Radio(choices, value=row, label="Layer", elem_id="flow-layer", scale=2)
        first = figure(Attribution(opening), "bands", row)
        self.picture = Chart(chart(first), elem_id="flow-picture")
        Note(texts.FLOW_NOTE)

    def follow(self, run: Dependency, result: gr.State) -> None:
        """Draw anew after every run and for every choice."""
        queue: dict[str, Any] = ON_MODEL | {"trigger_mode": "always_last"}
        run.then(self.renew, [result, self.by], [self.seen, self.row, self.picture], **queue)
        gr.on(
            [self.by.input, self.row.input],
            self.draw,
            [result, self.seen, self.by, self.row],
            [self.seen, self.picture],
            **queue,
        )

    @refusing
    def renew(self, result: Classification | None, by: str) -> dict:
        if not (result and result.records):
            return {self.seen: None, self.picture: None}
        choices, row = _rows(result)
        return self.draw(result, None, by, row) | {self.row: gr.Radio(choices, value=row)}

    @refusing
    def draw(self, result: Classification | None, seen: Attribution | None, by, row) -> dict:
        if not (result and result.records):
            return {self.picture: None}
        seen = seen if seen and seen.result is result else Attribution(result)
        row = row if row in range(ALL, len(result.records)) else most_different(result)
        return {self.seen: seen, self.picture: chart(figure(seen, by, row))}


def figure(seen: Attribution, by: str, row: int) -> go.Figure:
    """The picture of one row of the model, or of all."""
    result = seen.result
    rows = range(len(seen.places)) if row == ALL else [row]
    source, sources = _sources(result, by)
    order = result.probabilities.argsort(descending=True)[:LABELS].tolist()
    added = torch.stack([seen.signed(target).sum(dim=1) for target in order], dim=-1)
    layers = [f"{name.lower()} " for name in row_names(result)] if row == ALL else [""] * (row + 1)
    return plots.flow(
        torch.cat([read_from(result.records[k], source, len(sources)) for k in rows]),
        torch.cat([added[k] for k in rows]),
        sources=sources,
        names=[f"{layers[k]}E{j + 1}" for k in rows for j in range(seen.experts)],
        labels=[result.classifier.labels[target] for target in order],
    )


def _rows(result: Classification) -> tuple[list[tuple[str, int]], int]:
    """What can be chosen, and what is at first."""
    return [*row_choices(result), ("all", ALL)], most_different(result)


def _sources(result: Classification, by: str) -> tuple[torch.Tensor, list[str]]:
    """Which source every token belongs to, and what the sources are called; the last is that of the
    tokens that stand for the whole clip. Bands from the highest down, as in the picture."""
    grid = result.grid
    place = torch.arange(grid.bands * grid.columns)
    if by == "bands":
        of_patch = grid.bands - 1 - place // grid.columns
        edges = [grid.hertz(band) for band in reversed(range(grid.bands))]
        names = [f"{low:.0f}\u2013{high:.0f} Hz" for low, high in edges]
    else:
        cuts = np.unique(np.linspace(0, grid.columns, STRETCHES + 1).round().astype(int))
        of_patch = torch.bucketize(place % grid.columns, torch.from_numpy(cuts[1:]), right=True)
        names = [
            f"{grid.seconds(a)[0]:.2f}\u2013{grid.seconds(b - 1)[1]:.2f} s"
            for a, b in pairwise(cuts.tolist())
        ]
    special = torch.full((SPECIAL_TOKENS,), len(names))
    return torch.cat([special, of_patch]), [*names, "whole clip"]
