"""The Compare tab: choose methods, watch them train, take the winner to Explore.

A comparison is a job of `softmoa.jobs`: it runs in the background, and this tab only watches it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from pathlib import Path

import gradio as gr
import pandas as pd

from softmoa import jobs, plots, run_directory, scoreboard, tasks
from softmoa.classify import load_backbone
from softmoa.experiment import Choice, Comparison, RunFinished, compare
from softmoa.jobs import Job
from softmoa.methods import METHODS
from softmoa.scoreboard import Scoreboard
from softmoa.training import TrainingOptions
from softmoa.ui import texts
from softmoa.ui.explore import RUNS, Figure

DEFAULT_METHODS = ("linear", "lora", "adapter", "topk-moa", "soft-moa")
SHOTS = {"5": 5, "10": 10, "20": 20, "all": 0}
AXES = {"seconds of training": "seconds", "steps": "step"}
MAX_EPOCHS, MAX_SEEDS = 30, 3
LOOK_EVERY = 0.4  # seconds between two looks at a running comparison


def build(explore_bundle: gr.Dropdown, tabs: gr.Tabs, demo: gr.Blocks) -> None:
    """Lay out the tab; `explore_bundle` is the choice of bundles in the Explore tab."""
    job_id = gr.BrowserState(None, storage_key="softmoa-comparison")
    gr.Markdown(texts.COMPARE)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            task = gr.Dropdown(
                [(task.title, name) for name, task in available_tasks().items()],
                label=texts.TASK,
                elem_id="task",
            )
            methods = gr.CheckboxGroup(
                [(method.title, name) for name, method in METHODS.items()],
                value=[name for name in DEFAULT_METHODS if name in METHODS],
                label=texts.METHODS,
                elem_id="methods",
            )
            shots = gr.Radio(list(SHOTS.items()), value=10, label=texts.SHOTS, elem_id="shots")
            with gr.Row():
                epochs = gr.Slider(1, MAX_EPOCHS, 8, step=1, label=texts.EPOCHS, elem_id="epochs")
                seeds = gr.Slider(1, MAX_SEEDS, 1, step=1, label=texts.SEEDS, elem_id="seeds")
            with gr.Row():
                start = gr.Button(texts.START, variant="primary", elem_id="start")
                stop = gr.Button(texts.STOP, variant="stop", elem_id="stop")
        with gr.Column(scale=3, min_width=320):
            progress = Figure(f"<p>{texts.NO_RUN}</p>", elem_id="progress")
            curve = gr.LinePlot(
                x="seconds",
                y="validation accuracy",
                color="run",
                y_lim=[0, 1],
                height=320,
                show_label=False,
                elem_id="curve",
            )
            axis = gr.Radio(list(AXES.items()), value="seconds", label=texts.AXIS, elem_id="axis")
    table = Figure(elem_id="results")
    verdict = gr.Markdown(elem_id="verdict")
    with gr.Column(visible=False) as after:
        with gr.Row():
            by_size, by_time = (
                gr.ScatterPlot(
                    x=x,
                    y="test accuracy",
                    color="method",
                    y_lim=[0, 1],
                    height=280,
                    label=label,
                    min_width=320,
                    elem_id=name,
                )
                for x, label, name in (
                    ("trained parameters", texts.BY_SIZE, "by-size"),
                    ("seconds", texts.BY_TIME, "by-time"),
                )
            )
        gr.Markdown(texts.PER_RUN)
        with gr.Row():
            chosen = gr.Dropdown(label=texts.RUN, elem_id="run")
            send = gr.Button(texts.SEND, elem_id="send")
            bundle_file = gr.DownloadButton(texts.BUNDLE_FILE, elem_id="bundle-file")
            all_files = gr.DownloadButton(texts.ALL_FILES, elem_id="all-files")
        matrix = Figure(elem_id="confusion")

    shown = [progress, curve, table, verdict]
    ended = [after, by_size, by_time, chosen, all_files]
    private = {"api_visibility": "private"}
    follow = {
        "fn": watch,
        "inputs": [job_id, axis],
        "outputs": [*shown, *ended],
        "show_progress": "hidden",
        "concurrency_limit": 20,
        **private,
    }
    start.click(
        begin_comparison, [task, methods, shots, epochs, seeds, job_id], job_id, **private
    ).success(**follow)
    demo.load(**follow)  # a visitor who reloads finds the comparison again
    stop.click(stop_comparison, job_id, None, queue=False, **private)
    axis.change(draw_curve, [job_id, axis], curve, queue=False, **private)
    chosen.change(show_run, [job_id, chosen], [matrix, bundle_file], queue=False, **private)
    send.click(send_to_explore, [job_id, chosen, explore_bundle], [explore_bundle, tabs], **private)


@lru_cache(maxsize=1)
def available_tasks() -> dict[str, tasks.Task]:
    """The tasks whose sounds are at hand."""
    return {name: tasks.load(name) for name in tasks.available()}


def begin_comparison(
    task: str, methods: list[str], shots: int, epochs: int, seeds: int, previous: str | None
) -> str:
    """Queue a comparison and return the id of its job; the visitor's previous one is stopped."""
    found = available_tasks()
    if task not in found:
        raise gr.Error(texts.NO_TASK, print_exception=False)
    if not methods or not set(methods) <= set(METHODS):
        raise gr.Error(texts.NO_METHOD, print_exception=False)
    if shots not in SHOTS.values() or not (1 <= epochs <= MAX_EPOCHS and 1 <= seeds <= MAX_SEEDS):
        raise gr.Error(texts.BAD_BUDGET, print_exception=False)
    if (old := jobs.find(previous)) is not None:
        old.stop()
    comparison = Comparison(
        tuple(Choice.of(name) for name in METHODS if name in methods),
        TrainingOptions(epochs=int(epochs)),
        tuple(range(int(seeds))),
        shots or None,
    )
    base = load_backbone("ast-small")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=_made(RUNS)))
    return jobs.start(
        lambda: run_directory.record(compare(base, found[task], comparison), folder),
        note=folder,
        total=len(comparison.run_names),
    ).id


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def watch(job_id: str | None, axis: str) -> Iterator[list]:
    """Follow a job until it is over; what is shown is drawn anew only when something happened."""
    job = jobs.find(job_id)
    if job is None:
        return
    board, seen, names = Scoreboard(), 0, set()
    with job.watched():
        while True:
            over = job.over
            news = job.events[seen:]
            seen += len(news)
            points, rows = len(board.points), len(board.finished) + len(board.failed)
            board.add_all(news)
            drawn = [gr.skip()] * 3
            if len(board.points) > points:
                frame = curve_frame(board, axis)
                drawn[0] = frame
                if names != (names := set(frame["run"])):
                    # A plot that is drawn takes new points of known lines only.
                    drawn[0] = gr.LinePlot(frame, color_map=colours(names))
            if len(board.finished) + len(board.failed) > rows:
                drawn[1] = results_table(board)
            if over:
                drawn[2] = verdict(job, board)
            end = _after(job, board) if over else [gr.skip()] * 5
            yield [progress_bar(job, board), *drawn, *end]
            if over:
                return
            time.sleep(LOOK_EVERY)


def stop_comparison(job_id: str | None) -> None:
    """Stop the visitor's comparison; runs that are over stay."""
    if (job := jobs.find(job_id)) is not None:
        job.stop()


def progress_bar(job: Job, board: Scoreboard) -> str:
    """Where the comparison is: a bar and a sentence."""
    share = sum(board.progress.values()) / max(job.total, 1)
    words = {
        "waiting": texts.WAITING.format(n=jobs.ahead_of(job)),
        "running": f"{100 * share:.0f} %: {board.doing}",
        "finished": texts.FINISHED,
        "stopped": texts.STOPPED.format(done=len(board.finished), total=job.total),
        "failed": job.message,
    }[job.state]
    left = ""
    if job.state == "running" and share > 0.05:
        left = f", about {job.seconds * (1 - share) / share:.0f} s left"
    return (
        f"<div class='progress' role='progressbar' aria-valuemin='0' aria-valuemax='100' "
        f"aria-valuenow='{100 * share:.0f}'><span style='width:{100 * share:.1f}%'></span></div>"
        f"<p role='status'>{escape(words + left)}</p>"
    )


def curve_frame(board: Scoreboard, axis: str) -> pd.DataFrame:
    """Validation accuracy of every run in the order of time, so that a new point is a new row."""
    x = "seconds" if axis == "seconds" else "step"
    several = len({point.run for point in board.points}) > len({p.method for p in board.points})
    return pd.DataFrame(
        [
            {
                "seconds": round(getattr(point, x), 2),
                "validation accuracy": round(point.accuracy, 4),
                "run": point.run if several else METHODS[point.method].title,
            }
            for point in board.points
        ]
    )


def colours(names: set[str]) -> dict[str, str]:
    """A colour for each line, the same for a method whatever else is shown."""
    order = [method.title for method in METHODS.values()]
    return {name: plots.expert_colour(order.index(_method_of(name)))[0] for name in names}


def _method_of(name: str) -> str:
    """Title of the method of a line, which may end in its seed."""
    return name.rpartition(", seed ")[0] or name


def draw_curve(job_id: str | None, axis: str):
    """The curve again, over the other axis."""
    job = jobs.find(job_id)
    if job is None:
        return gr.skip()
    board = Scoreboard().add_all(list(job.events))
    title = next(name for name, value in AXES.items() if value == axis)
    frame = curve_frame(board, axis)
    return gr.LinePlot(frame, x_title=title, color_map=colours(set(frame["run"])))


def results_table(board: Scoreboard) -> str:
    """One row per method: size, speed, memory and accuracies."""
    whole = sum(w.numel() for w in load_backbone("ast-small").model.parameters())
    body = "".join(
        "<tr>"
        f"<td>{escape(METHODS[row.method].title)}</td>"
        f"<td>{row.trained_parameters:,} ({100 * row.trained_parameters / whole:.2g} %)</td>"
        f"<td>{row.clips_per_second:.1f}</td><td>{row.seconds:.1f}</td>"
        f"<td>{row.memory_mb:.0f}</td><td>{row.val_accuracy:.1%}</td>"
        f"<td>{row.test_accuracy:.1%}{f' ± {row.spread:.1%}' * (row.seeds > 1)}</td></tr>"
        for row in board.rows()
    )
    body += "".join(
        f"<tr><td>{escape(METHODS[run.method].title)}</td>"
        f"<td colspan='6'>{escape(run.message)}</td></tr>"
        for run in board.failed
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in texts.COLUMNS)
    return (
        f"<div class='patch wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        "</table></div>"
    )


def verdict(job: Job, board: Scoreboard) -> str:
    """The conclusion in one sentence."""
    titles = {name: method.title for name, method in METHODS.items()}
    return scoreboard.conclusion(board.rows(), _test_clips(board), titles)


def _test_clips(board: Scoreboard) -> int:
    return len(board.finished[0].predicted) if board.finished else 0


def _after(job: Job, board: Scoreboard) -> list:
    """What is shown once a comparison is over."""
    if not board.finished:
        return [gr.Column(visible=False), None, None, gr.skip(), gr.skip()]
    frame = pd.DataFrame(
        [
            {
                "trained parameters": run.trained_parameters,
                "seconds": round(run.seconds, 2),
                "test accuracy": round(run.test_accuracy, 4),
                "method": METHODS[run.method].title,
            }
            for run in board.finished
        ]
    )
    best = max(board.finished, key=lambda run: run.test_accuracy)
    archive = shutil.make_archive(str(job.note), "zip", job.note)
    return [
        gr.Column(visible=True),
        frame,
        frame,
        gr.Dropdown([run.run for run in board.finished], value=best.run),
        archive,
    ]


def _finished(job_id: str | None, run: str | None) -> tuple[Job, RunFinished] | None:
    job = jobs.find(job_id)
    for event in list(job.events) if job else []:
        if isinstance(event, RunFinished) and event.run == run:
            return job, event
    return None


def show_run(job_id: str | None, run: str | None) -> list:
    """Confusion matrix of a run, and its bundle to download."""
    found = _finished(job_id, run)
    if found is None:
        return ["", gr.skip()]
    job, event = found
    truth = [file.label for file in available_tasks()[event.info.task].test]
    return [confusion_table(event, truth), str(_bundle_path(job, event))]


def _bundle_path(job: Job, run: RunFinished) -> Path:
    return run_directory.bundle_path(run, job.note / "bundles")


def confusion_table(run: RunFinished, truth: list[int]) -> str:
    """Rows are the true classes, columns what the run said; darker is more."""
    counts = scoreboard.confusion(run, truth)
    labels = [escape(label) for label in run.info.labels]
    rows = "".join(
        f"<tr><th scope='row'>{label}</th>"
        + "".join(
            f"<td style='--v:{count / max(sum(row), 1):.2f}'>{count or ''}</td>" for count in row
        )
        + "</tr>"
        for label, row in zip(labels, counts, strict=True)
    )
    head = "".join(f"<th scope='col'>{label}</th>" for label in labels)
    return (
        f"<div class='confusion'><p>{escape(texts.CONFUSION)}</p><table><thead><tr><td></td>{head}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def send_to_explore(job_id: str | None, run: str | None, current: str) -> list:
    """Put the bundle of a run among the choices of the Explore tab, and go there."""
    found = _finished(job_id, run)
    if found is None:
        raise gr.Error(texts.NO_RUN, print_exception=False)
    job, event = found
    title = f"yours: {event.run}, on {event.info.task}"
    path = str(_bundle_path(job, event))
    return [gr.Dropdown([(title, path)], value=path), gr.Tabs(selected="explore")]
