"""The Compare tab: choose methods, watch them train, take the winner to Explore.

A comparison is a job that runs in a thread of its own; this page only watches it. Closing the page
gives it up after a while, reloading finds it again by its id in the address.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from softmoa.ui import compare_form, compare_runs, compare_watch
from softmoa.ui.explore import Explored
from softmoa.ui.figure import Figure
from softmoa.ui.links import Linked
from softmoa.ui.texts import compare as texts

# A figure that grows: parts that did not change are not sent again.
Live = partial(Figure, value=[], html_template="${value.join('')}")


def build(
    explored: Explored, tabs: gr.Tabs, tab: gr.Tab, demo: gr.Blocks
) -> tuple[gr.State, Linked]:
    """Lay out the tab and wire it; returns the visitor's own tasks, a list of `Task`, and how the
    tab is linked to."""
    own_tasks = gr.State([])
    job_id = gr.Textbox(visible="hidden", elem_id="run-id")
    # In the browser, so that a page that is loaded again can still stop what it began.
    began = gr.BrowserState([], storage_key="softmoa-began")
    view = gr.State({"axis": "step"})  # changed in place: a watch that runs must see it
    gr.Markdown(texts.INTRO)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            form = compare_form.build(tab, own_tasks)
        with gr.Column(scale=5, min_width=320):
            with gr.Row():
                start = gr.Button(texts.START, variant="primary", elem_id="start")
                stop = gr.Button(texts.STOP, variant="stop", interactive=False, elem_id="stop")
            progress = Live(value=compare_watch.idle(), elem_id="progress")
            example = gr.Button(texts.EXAMPLE, size="sm", elem_id="example")
            axis = gr.Radio(
                list(texts.AXES.items()),
                value="step",
                label=texts.AXIS,
                elem_id="axis",
                visible=False,
            )
            accuracy = Live(elem_id="accuracy")
            loss = Live(elem_id="loss")
    table = Live(elem_id="results")
    verdict = gr.Markdown(elem_id="verdict")
    balance = Live(elem_id="balance")
    at_the_end = compare_runs.build(job_id, explored, tabs)

    private: dict[str, Any] = {"api_visibility": "private"}
    follow: dict[str, Any] = {
        "fn": compare_watch.watch,
        "inputs": [job_id, view],
        "outputs": [
            progress, start, stop, example, axis, accuracy, loss, table, verdict, balance,
            *at_the_end,
        ],
        "show_progress": "hidden",
        "concurrency_limit": None,
        **private,
    }  # fmt: skip
    started = start.click(
        compare_form.begin, [*form.controls, job_id, began], [job_id, began], **private
    )
    opened = form.saved.upload(
        compare_form.open_saved, [form.saved, own_tasks, job_id, began], job_id, **private
    )
    shown = example.click(compare_form.open_example, [job_id, began], job_id, **private)
    for event in (started, opened, shown):
        event.success(**follow)
    demo.load(compare_watch.find_again, None, [job_id, tabs], **private).then(**follow)
    axis.input(
        compare_watch.turn_axis, [job_id, view, axis], [accuracy, loss], queue=False, **private
    )
    stop.click(compare_form.stop, [job_id, began], None, queue=False, **private)
    # `find_again` opens the link; it needs no other component to do so.
    return own_tasks, Linked("compare", tab, {"run": job_id}, [], lambda query: [])
