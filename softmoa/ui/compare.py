"""The Compare tab: choose methods, watch them train, take the winner to Explore.

A comparison is a job that runs in a thread of its own; this page only watches it. Closing the page
gives it up after a while, reloading finds it again by its id in the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa.ui import compare_form, compare_watch, comparing
from softmoa.ui.compare_form import Form
from softmoa.ui.compare_runs import Runs
from softmoa.ui.compare_watch import Stage
from softmoa.ui.explore import Explored
from softmoa.ui.figure import ON_MODEL, PRIVATE, QUIET
from softmoa.ui.links import Linked


@dataclass(frozen=True)
class Compare:
    """The tab, as other tabs see it. own_tasks: the visitor's own, a list of `Task`."""

    form: Form
    own_tasks: gr.State
    tabs: gr.Tabs
    link: Linked

    def race(self, own: list) -> dict:
        """Open the tab with the visitor's own sounds as the task."""
        chosen = self.form.choose(compare_form.OWN, own)
        return chosen | {self.tabs: gr.Tabs(selected="compare")} if own else chosen

    @property
    def raced(self) -> list:
        """The outputs of `race`."""
        return [*self.form.chosen, self.tabs]


def build(explored: Explored, tabs: gr.Tabs, tab: gr.Tab) -> Compare:
    """Lay out the tab and wire it."""
    own_tasks = gr.State([])
    job_id = gr.Textbox(visible="hidden", elem_id="run-id")
    # In the browser, so that a page that is loaded again can still stop what it began.
    began = gr.BrowserState([], storage_key="softmoa-began")
    with gr.Row():
        with gr.Column(scale=5, min_width=320, elem_id="race-stage"):
            stage = Stage()
        with gr.Column(scale=2, min_width=320):
            gr.Markdown(
                "Every method starts from the same backbone and sees the same clips in the same "
                "order. Watch them learn, see what each costs, and take one with you."
            )
            form = Form(tab, own_tasks)
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="start", min_width=100)
                stop = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="stop", min_width=100
                )
    stage.lay_out_below()
    # Changed in place for a watch that runs.
    view = gr.State({name: control.value for name, control in stage.choices.items()})
    runs = Runs(job_id, explored, tabs)

    async def follow(identity: str, view: dict[str, str]) -> AsyncIterator[dict]:
        """Show a comparison until it is over."""
        if (job := comparing.find(identity)) is None:
            if identity:
                gr.Warning("That comparison is no longer kept on this server.")
            yield {stage.progress: gr.skip()}  # no frame at all would empty every output
            return
        drawn, of = {}, None
        async for board, over in compare_watch.watch(job):
            now = [len(board.points), len(board.finished), *view.values()]
            if now != of:
                # Not in the loop that serves all visitors.
                drawn, of = await asyncio.to_thread(stage.figures, board, view), now
            yield {
                start: gr.Button(interactive=over),
                stop: gr.Button(interactive=not over and not job.asked_to_stop),
                **stage.words(job, board, over),
                **drawn,
                **(runs.show(job, board) if over else {runs.after: gr.Column(visible=False)}),
            }

    def first_look(shown: str) -> str:
        """The recorded comparison, where neither page nor address names one."""
        return shown or comparing.example().id

    start.click(compare_form.begin, [*form.controls, job_id, began], [job_id, began], **PRIVATE)
    form.saved.upload(
        compare_form.open_saved, [form.saved, own_tasks, job_id, began], job_id, **PRIVATE
    )
    for name, button in form.recorded.items():
        chosen = partial(compare_form.open_recorded, name)
        button.click(chosen, [job_id, began], job_id, **PRIVATE)
    named = Path(__file__).with_name("named_run.js").read_text(encoding="utf-8")
    tab.select(first_look, job_id, job_id, js=named, **QUIET)
    watching: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": None} | QUIET
    outputs = [start, stop, *stage.outputs, *runs.outputs]
    watched = job_id.change(follow, [job_id, view], outputs, **watching)
    making: dict[str, Any] = QUIET | {"concurrency_id": "files", "concurrency_limit": 1}
    watched.success(runs.make_files, job_id, runs.files, **making)
    watched.success(runs.suggest, [job_id, runs.run], runs.next, **ON_MODEL)
    inputs = [job_id, view, *stage.choices.values()]
    drawn = [stage.curves, stage.costs, stage.balance]
    for choice in stage.choices.values():
        choice.input(stage.turn, inputs, drawn, queue=False, **PRIVATE)
    stop.click(compare_form.stop, [job_id, began], None, queue=False, **PRIVATE)
    # `first_look` opens the link.
    return Compare(form, own_tasks, tabs, Linked("compare", tab, {"run": job_id}))
