"""The Compare tab: choose methods, watch them train, take the winner to Explore.

A comparison is a job that runs in a thread of its own; this page only watches it. Closing the page
gives it up after a while, reloading finds it again by its id in the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from softmoa import audio, jobs, recipes, run_directory
from softmoa.experiment import RunEvent
from softmoa.jobs import Job
from softmoa.limits import LIMITS, LimitError
from softmoa.methods import METHODS
from softmoa.plan import Comparison, plan
from softmoa.scoreboard import Scoreboard
from softmoa.tasks import Task, TaskError
from softmoa.ui import comparing, standings
from softmoa.ui.backbones import Own, bundle_choices
from softmoa.ui.explore import Explored
from softmoa.ui.figure import Figure
from softmoa.ui.standings import TITLES, duration
from softmoa.ui.texts import compare as texts

DEFAULT_METHODS: tuple[str, ...] = ("linear", "lora", "adapter", "topk-moa", "soft-moa")
SHOTS = {"5": 5, "10": 10, "20": 20, texts.SHOTS_ALL: 0}
BUDGETS = {  # lowest, highest, usual
    "epochs": (1, 30, 8),
    "steps": (1, min(500, LIMITS.run_steps), min(60, LIMITS.run_steps)),
    "seconds": (1, LIMITS.run_seconds, min(15, LIMITS.run_seconds)),
}
MAX_SEEDS = 3
LOOK_EVERY = 0.5  # seconds between two looks at a running comparison

# A figure that grows: parts that did not change are not sent again.
Live = partial(Figure, value=[], html_template="${value.join('')}")

ON_CLIP = """
element.addEventListener('click', event => {
  const hit = event.target.closest('[data-clip]');
  if (hit) trigger('select', {...hit.dataset});
});
"""
REMEMBER = """id => {
  const address = new URL(location);
  address.searchParams.set('run', id);
  history.replaceState(null, '', address);
}"""


def build(explored: Explored, tabs: gr.Tabs, tab: gr.Tab, demo: gr.Blocks) -> gr.State:
    """Lay out the tab and wire it; returns the visitor's own tasks, a list of `Task`."""
    own_tasks = gr.State([])
    job_id = gr.Textbox(visible="hidden", elem_id="run-id")
    view = gr.State({"axis": "step"})  # changed in place: a watch that runs must see it
    gr.Markdown(texts.INTRO)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            task = gr.Dropdown(_task_choices([]), label=texts.TASK, elem_id="task")
            methods = gr.CheckboxGroup(
                [(title, name) for name, title in TITLES.items()],
                value=list(DEFAULT_METHODS),
                label=texts.METHODS,
                info=texts.METHODS_INFO,
                elem_id="methods",
            )
            shots = gr.Radio(list(SHOTS.items()), value=10, label=texts.SHOTS, elem_id="shots")
            with gr.Row():
                unit = gr.Radio(list(BUDGETS), value="epochs", label=texts.UNIT, elem_id="unit")
                amount = gr.Slider(
                    *BUDGETS["epochs"], step=1, label=texts.AMOUNT, elem_id="amount", min_width=120
                )
            with gr.Accordion(texts.MORE, open=False, elem_id="more"):
                seeds = gr.Slider(
                    1,
                    MAX_SEEDS,
                    1,
                    step=1,
                    label=texts.SEEDS,
                    info=texts.SEEDS_INFO,
                    elem_id="seeds",
                )
                equal = gr.Checkbox(
                    False, label=texts.EQUAL, info=texts.EQUAL_INFO, elem_id="equal"
                )
                warm = gr.Checkbox(True, label=texts.WARM, info=texts.WARM_INFO, elem_id="warm")
                turns = gr.Checkbox(True, label=texts.TURNS, info=texts.TURNS_INFO, elem_id="turns")
                recipe = gr.Radio(
                    list(texts.RECIPES.items()),
                    value="short",
                    label=texts.RECIPE,
                    info=texts.RECIPE_INFO,
                    elem_id="recipe",
                )
                saved = gr.File(
                    label=texts.REOPEN, file_types=[".zip", ".jsonl"], height=120, elem_id="reopen"
                )
                gr.Markdown(texts.REOPEN_INFO, elem_classes="quiet")
            estimate = gr.Markdown(texts.ESTIMATING, elem_id="estimate", elem_classes="quiet")
            with gr.Row():
                start = gr.Button(texts.START, variant="primary", elem_id="start")
                stop = gr.Button(texts.STOP, variant="stop", interactive=False, elem_id="stop")
        with gr.Column(scale=5, min_width=320):
            progress = Live(value=_idle(), elem_id="progress")
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

    form = [task, own_tasks, methods, shots, unit, amount, seeds, recipe, warm, equal, turns]
    private: dict[str, Any] = {"api_visibility": "private"}
    follow: dict[str, Any] = {
        "fn": watch,
        "inputs": [job_id, view],
        "outputs": [
            progress, start, stop, axis, accuracy, loss, table, verdict, balance,
            after, by_size, by_time, run, rows, log,
        ],
        "show_progress": "hidden",
        "concurrency_limit": None,
        **private,
    }  # fmt: skip
    began = start.click(begin, [*form, job_id], job_id, **private)
    opened = saved.upload(open_saved, [saved, own_tasks, job_id], job_id, **private)
    for event in (began, opened):
        event.success(None, job_id, None, js=REMEMBER, **private).then(**follow)
    demo.load(find_again, None, [job_id, tabs], **private).then(**follow)
    axis.input(turn_axis, [job_id, view, axis], [accuracy, loss], queue=False, **private)
    stop.click(stop_job, job_id, None, queue=False, **private)
    run.change(show_run, [job_id, run], [matrix, worst, bundle, clip], **private)
    worst.select(play, job_id, clip, **private)
    send.click(
        send_to_explore,
        [job_id, run, explored.own, explored.again],
        [explored.own, explored.bundle, explored.backbone, tabs, explored.again],
        **private,
    )
    for kind, button in makers.items():
        button.click(partial(make_file, kind), job_id, made[kind], **private).success(
            None, js=f"() => document.querySelector('#file-{kind}').click()"
        )
    unit.input(_limits, unit, amount, queue=False, **private)
    own_tasks.change(
        lambda own: gr.Dropdown(_task_choices(own)), own_tasks, task, queue=False, **private
    )
    gr.on(
        [tab.select, *(control.change for control in form if control is not own_tasks)],
        describe,
        form,
        estimate,
        trigger_mode="always_last",
        concurrency_id="estimate",
        concurrency_limit=1,
        show_progress="hidden",
        **private,
    )
    return own_tasks


def _task_choices(own: list[Task]) -> list[tuple[str, str]]:
    return [(task.title, name) for name, task in comparing.all_tasks(own).items()]


def _limits(unit: str) -> gr.Slider:
    low, high, usual = BUDGETS.get(unit, BUDGETS["epochs"])
    return gr.Slider(low, high, value=usual)


def asked_for(
    task: str, own: list[Task], methods: list[str], shots: int, unit: str, amount: float,
    seeds: int, recipe: str, warm: bool, equal: bool, turns: bool,
) -> tuple[Task, Comparison]:  # fmt: skip
    """What the form says. Raises TaskError with one sentence if that cannot be run."""
    found = comparing.all_tasks(own)
    if task not in found:
        raise TaskError(texts.NO_TASK)
    if not methods or not set(methods) <= set(METHODS):
        raise TaskError(texts.NO_METHOD)
    low, high, _ = BUDGETS.get(unit, BUDGETS["epochs"])
    fits = low <= amount <= high and 1 <= seeds <= MAX_SEEDS and shots in SHOTS.values()
    if unit not in BUDGETS or recipe not in texts.RECIPES.values() or not fits:
        raise TaskError(texts.BAD_BUDGET.format(low=low, high=high, unit=unit, seeds=MAX_SEEDS))
    runs = len(methods) * int(seeds)
    if runs > LIMITS.runs:
        raise TaskError(texts.TOO_MANY.format(runs=runs, most=LIMITS.runs))
    comparison = plan(
        [name for name in METHODS if name in methods],
        recipes.SHORT if recipe == "short" else recipes.OF_PAPER.get(task, recipes.ESC),
        amount,
        unit,  # pyright: ignore[reportArgumentType]  (checked above)
        config=comparing.load_backbone(comparing.BACKBONE).model.config,
        seeds=range(int(seeds)),
        shots=shots or None,
        warm_head=warm,
        equal_parameters=equal,
        interleave=turns,
    )
    training = comparison.training
    seconds = min(training.seconds or LIMITS.run_seconds, LIMITS.run_seconds)
    steps = min(training.steps or LIMITS.run_steps, LIMITS.run_steps)
    bounded = replace(training, seconds=seconds, steps=steps)
    return found[task], replace(comparison, training=bounded)


def warm_up() -> None:
    """Measure what the usual race costs while nothing else runs."""
    usual = BUDGETS["epochs"][2]
    task = next(iter(comparing.all_tasks()))
    form = task, [], list(DEFAULT_METHODS), 10, "epochs", usual, 1, "short", True, False, True
    comparing.cost(*asked_for(*form))


def describe(*form) -> str:
    """The estimate of what the form asks for, or why it cannot be run."""
    try:
        task, comparison = asked_for(*form)
        found = comparing.within_memory(comparing.cost(task, comparison))
    except TaskError as error:
        return str(error)
    seeds = len(comparison.seeds)
    runs = ", ".join(f"{TITLES[of.method]} {duration(of.seconds * seeds)}" for of in found.costs)
    sizes = ", ".join(f"{TITLES[of.method]} {of.trained_parameters:,}" for of in found.costs)
    return "\n\n".join(
        [
            texts.ESTIMATE.format(
                total=duration(found.seconds), preparing=duration(found.preparing), runs=runs
            ),
            texts.ESTIMATE_MEMORY.format(
                parameters=sizes, memory=max(of.memory_mb for of in found.costs)
            ),
        ]
    )


def begin(*form_and_previous) -> str:
    """Queue a comparison and return the id of its job; the visitor's previous one is stopped."""
    *form, previous = form_and_previous
    try:
        task, comparison = asked_for(*form)
        if (old := comparing.find(previous)) is not None:
            old.stop()
        return comparing.begin(task, comparison).id
    except TaskError as error:
        raise gr.Error(str(error), print_exception=False) from None


def open_saved(path: str, own: list[Task], previous: str) -> str:
    """Show a saved comparison; the visitor's running one is stopped."""
    try:
        if not path:
            raise TaskError(texts.REOPEN)
        LIMITS.check_upload(path)
        job = comparing.reopen(Path(path), own)
    except (TaskError, LimitError) as error:
        raise gr.Error(str(error), print_exception=False) from None
    if (old := comparing.find(previous)) is not None:
        old.stop()
    return job.id


def find_again(request: gr.Request) -> list:
    """The comparison that the page's address names, after a reload."""
    identity = str(request.query_params.get("run") or "")
    return [identity, gr.Tabs(selected="compare") if identity else gr.skip()]


async def watch(job_id: str, view: dict[str, str]) -> AsyncIterator[list]:
    """Follow a job until it is over; every frame says all, and the changes are sent."""
    job = comparing.find(job_id)
    if job is None:
        yield [_idle(texts.LOST if job_id else texts.NO_RUN)] + [gr.skip()] * 14
        return
    board, seen = Scoreboard(), 0
    with job.watched():
        while True:
            over = job.over  # asked before the events are read: none can come after
            news = job.events[seen:]
            seen += len(news)
            board.add_all(news)
            yield [
                progress_bar(job, board),
                gr.Button(interactive=over),
                gr.Button(interactive=not over and not job.stopping),
                gr.Radio(visible=board.plan is not None),
                *standings.curves(board, view["axis"]),
                standings.results_table(board, over),
                standings.conclusion(board) if over else "",
                standings.router_balance(board),
                *(_after(job, board) if over else [gr.skip()] * 6),
            ]
            if over:
                return
            await asyncio.sleep(LOOK_EVERY)


def turn_axis(job_id: str, view: dict[str, str], axis: str) -> list:
    """The curves again, over the other axis, for now and for the watch that goes on."""
    view["axis"] = axis
    job = comparing.find(job_id)
    if job is None:
        return [gr.skip(), gr.skip()]
    return [*standings.curves(Scoreboard().add_all(list(job.events)), axis)]


def _idle(words: str = texts.NO_RUN) -> list[str]:
    return standings.progress_bar(0, words)


def progress_bar(job: Job, board: Scoreboard) -> list[str]:
    """Where the comparison is, and how long it will still take."""
    share = standings.share_done(board, job.note.weights)
    runs = len(board.plan.runs) if board.plan else 0
    done = {"done": len(board.finished), "total": runs, "time": duration(job.seconds)}
    if job.state == "waiting":
        return standings.progress_bar(0, texts.WAITING.format(n=jobs.ahead_of(job)))
    if job.state == "failed":
        return standings.progress_bar(share, job.message)
    if job.state == "stopped":
        return standings.progress_bar(share, texts.STOPPED.format(**done))
    if job.state == "interrupted":
        return standings.progress_bar(share, texts.INTERRUPTED.format(**done))
    if job.state == "finished":
        time = sum(run.seconds for run in board.finished) if not job.seconds else job.seconds
        return standings.progress_bar(1, texts.FINISHED.format(**done | {"time": duration(time)}))
    if job.stopping:
        return standings.progress_bar(share, texts.STOPPING)
    words = f"{100 * share:.0f} %: {board.doing}"
    first = next((k for k, e in enumerate(job.events) if isinstance(e, RunEvent)), None)
    if first is not None and share > 0.03:
        spent = job.seconds - job.times[first]
        words += texts.LEFT.format(time=duration(spent * (1 - share) / share))
    return standings.progress_bar(share, words)


def stop_job(job_id: str) -> None:
    """Stop the visitor's comparison; runs that are over stay."""
    if (job := comparing.find(job_id)) is not None:
        job.stop()


def _after(job: Job, board: Scoreboard) -> list:
    """What is shown once a comparison is over."""
    if not board.finished:
        return [gr.Column(visible=False)] + [gr.skip()] * 5
    best = max(board.finished, key=lambda run: run.test_accuracy)
    table, log = (job.note.folder / name for name in ("results.csv", "events.jsonl"))
    return [
        gr.Column(visible=True),
        *standings.trade_offs(board),
        gr.Dropdown([run.run for run in board.finished], value=best.run),
        gr.DownloadButton(value=str(table) if table.is_file() else None, visible=table.is_file()),
        gr.DownloadButton(value=str(log)),
    ]


def show_run(job_id: str, name: str) -> list:
    """Confusion matrix and worst clips of a run, and its bundle to download."""
    job = comparing.find(job_id)
    run = comparing.finished_run(job, name)
    if job is None or run is None:
        return ["", "", gr.skip(), gr.skip()]
    plan = Scoreboard().add_all(job.events[:1]).plan
    assert plan is not None
    path = comparing.bundle_path(job, run)
    return [
        standings.confusion(run, plan),
        standings.worst_clips(run, plan),
        gr.DownloadButton(value=str(path) if path else None, interactive=path is not None),
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
    if job is None or run is None or comparing.bundle_path(job, run) is None:
        raise gr.Error(texts.NOT_FINISHED, print_exception=False)
    title = texts.YOURS.format(title=TITLES[run.method], seed=run.seed, task=run.info.task)
    entry = title, comparing.bundle_key(job, run), comparing.BACKBONE
    own = [*(kept for kept in own if kept != entry), entry]
    return [
        own,
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
