"""The runs of a comparison that is over: a look into each, its clips, and files to take along."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

from softmoa.data import audio
from softmoa.data.tasks import clip_name
from softmoa.plots import race
from softmoa.training import run_directory, scoreboard
from softmoa.training.events import RunFinished
from softmoa.training.plan import title
from softmoa.training.scoreboard import Scoreboard
from softmoa.ui import comparing, standings
from softmoa.ui.backbones import Own, bundle_choices, keep_own
from softmoa.ui.checks import check_room, refuse
from softmoa.ui.drawing import played
from softmoa.ui.explore import Explored
from softmoa.ui.figure import PRIVATE, QUIET, Chart, Note, Player, Table, chart
from softmoa.ui.jobs import Job
from softmoa.ui.take_next import take_next

WORST = 3  # clips that are offered
NO_CLIP = "The sounds of this comparison's task are not on this server."
FILES = {
    "bundle-file": "Bundle",
    "table-file": "results.csv",
    "log-file": "events.jsonl",
    "make-figures": "Figures (PNG)",
    "make-all": "Everything (ZIP)",
}


class Runs:
    """What appears at the end, laid out and wired where it is made."""

    def __init__(self, job_id: gr.Textbox, explored: Explored, tabs: gr.Tabs) -> None:
        self.explored, self.tabs = explored, tabs
        with gr.Column(visible=False) as self.after:
            gr.Markdown("### Look closer")
            with gr.Row():
                with gr.Column(min_width=320):
                    self.matrix = Chart(elem_id="confusion")
                    Note(
                        "Rows: the true class; columns: what the run said. Blue is right, red is "
                        "wrong."
                    )
                with gr.Column(min_width=320):
                    self.run = gr.Dropdown(label="Run", container=False, elem_id="run")
                    columns = ["Clip", "True", "Said", "Gave the true class"]
                    self.worst = Table(headers=columns, wrap=True, elem_id="worst")
                    self.clip = Player(label="The clip", buttons=["download"], elem_id="worst-clip")
            self.next = gr.Markdown(elem_id="race-next")
            gr.Markdown("### Take it with you")
            with gr.Row():
                self.send = gr.Button(
                    "Send to Explore", variant="primary", elem_id="send", min_width=140
                )
                self.bundle, self.rows, self.log, self.figures, self.everything = (
                    gr.DownloadButton(title, elem_id=name, min_width=140)
                    for name, title in FILES.items()
                )
        self.heard = gr.State("")  # name of the clip that goes along to Explore
        self.of_a_run = [
            self.matrix, self.worst, self.bundle, self.send, self.clip, self.heard
        ]  # fmt: skip
        self.files = [self.figures, self.everything]
        self.outputs = [
            self.after, self.run, self.rows, self.log, *self.files, *self.of_a_run
        ]  # fmt: skip
        self.run.input(
            self.show_run, [job_id, self.run], self.of_a_run, trigger_mode="always_last", **PRIVATE
        )
        self.worst.select(self.play, job_id, [self.clip, self.heard], **PRIVATE)
        self.send.click(
            self.send_to_explore,
            [job_id, self.run, self.heard, explored.own, explored.again],
            [explored.bundle, explored.backbone, explored.sound, tabs, explored.again],
            **QUIET,
        )

    def show(self, job: Job, board: Scoreboard) -> dict:
        """What is shown once a comparison is over; nothing if no run was finished."""
        if not board.finished:
            return {self.after: gr.Column(visible=False)}
        best = preselected(job, board)
        return {
            self.after: gr.Column(visible=True),
            self.run: gr.Dropdown([run.run for run in board.finished], value=best),
            self.rows: _offered(job.folder / "results.csv"),
            self.log: _offered(job.folder / "events.jsonl"),
            **dict.fromkeys(self.files, _offered(None)),  # those of the race before
            **self.show_run(job.id, best),
        }

    def show_run(self, job_id: str, name: str) -> dict:
        """Confusion matrix and worst clips of a run, and its bundle to download or to try."""
        job, run = _found(job_id, name)
        plan, path = comparing.plan_of(job), comparing.bundle_path(job, run)
        names, worst = plan.labels, scoreboard.worst(run, plan, WORST)
        rows = [
            [plan.clips[of.clip], names[of.truth], names[of.said], f"{of.confidence:.1%}"]
            for of in worst
        ]
        heard = job.task is not None  # else its sounds are not on this server
        return {
            self.matrix: chart(race.confusion(scoreboard.confusion(run, plan), names)),
            self.worst: gr.Dataframe(
                rows, label="Worst test clips: choose one to hear it", visible=heard
            ),
            self.bundle: _offered(path),
            self.send: gr.Button(interactive=path is not None),
            self.clip: gr.Audio(None, visible=heard),
            self.heard: rows[0][0] if heard and rows else "",
        }

    def play(self, job_id: str, event: gr.SelectData) -> dict:
        """The test clip that was chosen from the table."""
        name = (event.row_value or [""])[0]
        return {self.clip: gr.Audio(_sound(job_id, name), label=name), self.heard: name}

    def send_to_explore(
        self, job_id: str, name: str, clip: str, own: list[Own], times: int
    ) -> dict:
        """Put the bundle of a run among this visitor's choices of the Explore tab, and go there
        with the clip that was listened to, or the worst."""
        job, run = _found(job_id, name)
        if comparing.bundle_path(job, run) is None:
            raise refuse("The trained weights of this run were not saved with the comparison.")
        named = f"yours: {title(run.method)}, seed {run.seed}, on {comparing.plan_of(job).task}"
        key = comparing.bundle_key(job, run)
        keep_own(own, (named, key, comparing.BACKBONE))
        choices = bundle_choices(comparing.BACKBONE, own)
        return {
            self.explored.bundle: gr.Dropdown(choices, value=key),
            self.explored.backbone: comparing.BACKBONE,
            self.explored.sound: _sound(job_id, clip) if clip else gr.skip(),
            self.tabs: gr.Tabs(selected="explore"),
            self.explored.again: times + 1,
        }

    def suggest(self, job_id: str, name: str) -> str:
        """Which take a visitor should record next, where the sounds are their own."""
        job = comparing.find(job_id)
        run, task = comparing.finished_run(job, name), job.task if job else None
        if job is None or run is None or task is None or task.name in comparing.embedded_tasks():
            return ""
        path = comparing.bundle_path(job, run)
        names = {file.path: clip_name(file) for file in task.files}
        return take_next(path, task, names) if path and min(names).exists() else ""

    def make_files(self, job_id: str) -> dict:
        """A page of figures and a zip of everything, made once for all who look."""
        job = comparing.find(job_id)
        if job is None or not job.over or not job.folder.is_dir():  # stopped before its turn
            return dict.fromkeys(self.files, _offered(None))
        return {button: _offered(p) for button, p in zip(self.files, files(job), strict=True)}


def preselected(job: Job, board: Scoreboard) -> str:
    """The best run with a mixture to look into, or the best of all; a saved comparison may come
    without the weights of some."""

    def worth(run: RunFinished) -> tuple[bool, bool, float]:
        kept = comparing.bundle_path(job, run) is not None
        return kept, run.run in board.balance, run.test_accuracy

    return max(board.finished, key=worth).run


def files(job: Job) -> tuple[Path, Path]:
    """A page of figures and a zip of everything, of a comparison that is over."""
    figures, everything = job.folder / "figures.png", job.folder.with_suffix(".zip")
    board = Scoreboard().add_all(job.events)
    if board.finished and not figures.exists():
        figures.write_bytes(standings.report_png(board))
    return figures, everything if everything.exists() else run_directory.pack(job.folder)


def _offered(path: Path | None) -> gr.DownloadButton:
    there = path is not None and path.is_file()
    return gr.DownloadButton(value=str(path) if there else None, interactive=there)


def _found(job_id: str, name: str) -> tuple[Job, RunFinished]:
    job = comparing.find(job_id)
    run = comparing.finished_run(job, name)
    if job is None or run is None:
        raise refuse("Choose a run that was finished.")
    return job, run


def _sound(job_id: str, name: str) -> tuple[int, np.ndarray]:
    """A test clip of a comparison by its name, as gr.Audio takes it."""
    job = comparing.find(job_id)
    clips = comparing.plan_of(job).clips if job else ()
    if job is None or job.task is None or name not in clips:
        raise refuse(NO_CLIP)
    check_room()
    of_name = {clip_name(file): file.path for file in job.task.files}
    try:
        return played(audio.load(of_name[name]).waveform)
    except audio.AudioError:
        raise refuse(NO_CLIP) from None
