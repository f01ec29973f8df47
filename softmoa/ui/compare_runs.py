"""The runs of a comparison that is over: a look into each, its clips, and files to take along."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from softmoa import audio, run_directory
from softmoa.jobs import Job
from softmoa.scoreboard import Scoreboard
from softmoa.ui import comparing, standings
from softmoa.ui.backbones import Own, bundle_choices, keep_own
from softmoa.ui.explore import Explored
from softmoa.ui.figure import Figure
from softmoa.ui.standings import TITLES
from softmoa.ui.texts import compare as texts

ON_CLIP = """
element.addEventListener('click', event => {
  const hit = event.target.closest('[data-clip]');
  if (hit) trigger('select', {...hit.dataset});
});
"""


def build(job_id: gr.Textbox, explored: Explored, tabs: gr.Tabs) -> list:
    """Lay out and wire what appears at the end; returns the outputs that `shown` fills."""
    with gr.Column(visible=False) as after:
        with gr.Row():
            with gr.Column(min_width=320):
                by_size = Figure(elem_id="by-size")
            with gr.Column(min_width=320):
                by_time = Figure(elem_id="by-time")
        gr.Markdown(texts.LOOK)
        run = gr.Dropdown(label=texts.RUN, elem_id="run")
        with gr.Row():
            with gr.Column(min_width=320):
                matrix = Figure(elem_id="confusion")
            with gr.Column(min_width=320):
                worst = Figure(elem_id="worst", js_on_load=ON_CLIP)
                clip = gr.Audio(
                    buttons=["download"],
                    label=texts.CLIP,
                    interactive=False,
                    autoplay=True,
                    visible=False,
                    elem_id="clip",
                )
        gr.Markdown(texts.TAKE)
        with gr.Row():
            send = gr.Button(texts.SEND, variant="primary", elem_id="send", min_width=160)
            bundle = gr.DownloadButton(texts.BUNDLE_FILE, elem_id="bundle-file", min_width=160)
            rows = gr.DownloadButton(texts.TABLE_FILE, elem_id="table-file", min_width=120)
            log = gr.DownloadButton(texts.LOG_FILE, elem_id="log-file", min_width=120)
            makers = {
                kind: gr.Button(label, elem_id=f"make-{kind}", min_width=140)
                for kind, label in (("figures", texts.FIGURE_FILE), ("all", texts.ALL_FILES))
            }
    made = {kind: gr.DownloadButton(visible="hidden", elem_id=f"file-{kind}") for kind in makers}

    private: dict[str, Any] = {"api_visibility": "private"}
    of_a_run = [matrix, worst, bundle, send, clip]
    run.input(show_run, [job_id, run], of_a_run, trigger_mode="always_last", **private)
    worst.select(play, job_id, clip, **private)
    send.click(
        send_to_explore,
        [job_id, run, explored.own, explored.again],
        [explored.bundle, explored.backbone, tabs, explored.again],
        **private,
    )
    for kind, button in makers.items():
        button.click(partial(make_file, kind), job_id, made[kind], **private).success(
            None, js=f"() => document.querySelector('#file-{kind}').click()"
        )
    return [after, by_size, by_time, run, rows, log, *of_a_run]


def hidden() -> list:
    """In place of `shown` while there is nothing to show."""
    return [gr.Column(visible=False)] + [gr.skip()] * 10


def shown(job: Job, board: Scoreboard) -> list:
    """What is shown once a comparison is over."""
    if not board.finished:
        return hidden()
    best = max(board.finished, key=lambda run: run.test_accuracy)
    table, log = (job.note.folder / name for name in ("results.csv", "events.jsonl"))
    return [
        gr.Column(visible=True),
        *standings.trade_offs(board),
        gr.Dropdown([run.run for run in board.finished], value=best.run),
        gr.DownloadButton(value=str(table) if table.is_file() else None, visible=table.is_file()),
        gr.DownloadButton(value=str(log)),
        *show_run(job.id, best.run),
    ]


def show_run(job_id: str, name: str) -> list:
    """Confusion matrix and worst clips of a run, and its bundle to download or to try."""
    job = comparing.find(job_id)
    run = comparing.finished_run(job, name)
    if job is None or run is None:
        return ["", "", gr.skip(), gr.skip(), gr.skip()]
    plan = Scoreboard().add_all(job.events[:1]).plan
    assert plan is not None
    path = comparing.bundle_path(job, run)
    return [
        standings.confusion(run, plan),
        standings.worst_clips(run, plan),
        gr.DownloadButton(value=str(path) if path else None, interactive=path is not None),
        gr.Button(interactive=path is not None),
        gr.Audio(visible=False),
    ]


def play(job_id: str, event: gr.EventData) -> Any:
    """The test clip that was clicked."""
    job = comparing.find(job_id)
    if job is None or job.note.task is None:
        raise gr.Error(texts.NO_CLIP, print_exception=False)
    clip = str((event._data or {}).get("clip"))
    files = job.note.task.test
    if not clip.isdecimal() or int(clip) >= len(files):
        return gr.skip()
    file = files[int(clip)]
    try:
        sound = audio.load(file.path).waveform.numpy()
    except audio.AudioError:
        raise gr.Error(texts.NO_CLIP, print_exception=False) from None
    label = f"{job.note.task.labels[file.label]}: {file.path.name}"
    return gr.Audio(
        (audio.SAMPLE_RATE, (32767 * sound).astype(np.int16)), label=label, visible=True
    )


def send_to_explore(job_id: str, name: str, own: list[Own], times: int) -> list:
    """Put the bundle of a run among this visitor's choices of the Explore tab, and go there."""
    job = comparing.find(job_id)
    run = comparing.finished_run(job, name)
    if job is None or run is None:
        raise gr.Error(texts.NOT_FINISHED, print_exception=False)
    if comparing.bundle_path(job, run) is None:
        raise gr.Error(texts.NO_WEIGHTS, print_exception=False)
    title = texts.YOURS.format(title=TITLES[run.method], seed=run.seed, task=run.info.task)
    entry = title, comparing.bundle_key(job, run), comparing.BACKBONE
    keep_own(own, entry)
    return [
        gr.Dropdown(bundle_choices(comparing.BACKBONE, own), value=entry[1]),
        comparing.BACKBONE,
        gr.Tabs(selected="explore"),
        times + 1,
    ]


def make_file(kind: str, job_id: str) -> str:
    """All files in a zip, or all figures on one page."""
    job = comparing.find(job_id)
    if job is None or not job.over:
        raise gr.Error(texts.LOST, print_exception=False)
    folder = job.note.folder
    if kind == "figures":
        path = folder / "figures.png"
        path.write_bytes(standings.report_png(Scoreboard().add_all(job.events)))
        return str(path)
    return str(run_directory.pack(folder))
