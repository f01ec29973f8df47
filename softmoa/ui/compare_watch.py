"""A comparison while it runs: verdict, progress, curves and table, looked at twice a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from softmoa.plots import race
from softmoa.training.events import RunEvent
from softmoa.training.scoreboard import Scoreboard, outlook
from softmoa.ui import comparing, jobs, standings
from softmoa.ui.figure import Figure, Note, Table, growing, growth
from softmoa.ui.jobs import Job
from softmoa.ui.standings import duration

LOOK_EVERY = 0.5  # seconds between two looks at a running comparison


class Stage:
    """What the tab shows of a comparison while it runs, laid out where it is made."""

    def __init__(self) -> None:
        verdict = f"### {standings.NO_VERDICT}"
        self.verdict = gr.Markdown(verdict, container=True, elem_id="verdict")
        self.progress = Figure(elem_id="progress")
        self.lanes = growing("lanes")
        with gr.Row():
            bare: dict[str, Any] = {"show_label": False, "container": False}
            values = ["accuracy", "loss"]
            shown = gr.Radio(values, value="accuracy", elem_id="shown", **bare)
            axes = [("against steps", "step"), ("against seconds of training", "seconds")]
            axis = gr.Radio(axes, value="step", elem_id="axis", **bare)
        # What figures are drawn by.
        self.choices: dict[str, gr.Radio | gr.Dropdown] = {"shown": shown, "axis": axis}
        self.curves = growing("curves")

    def lay_out_below(self) -> None:
        """What needs the whole width."""
        self.table = Table(headers=standings.COLUMNS, wrap=True, elem_id="results")
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("### What it costs")
                with gr.Row():
                    for name, label, axis in (
                        ("up", "Vertical axis", "test accuracy"),
                        ("across", "Horizontal axis", "trained parameters"),
                    ):
                        self.choices[name] = gr.Dropdown(
                            list(standings.AXES), value=axis, label=label, elem_id=name,
                            min_width=120, show_label=False, container=False,
                        )  # fmt: skip
                self.costs = growing("costs")
                Note(
                    "Here and above: means over seeds, with bands of ± one standard deviation, of "
                    "the last weights. Parameters are counted without head and final norm."
                )
            with gr.Column(min_width=320):
                gr.Markdown("### Do experts collapse?")
                self.balance = growing("balance")
                Note(
                    "Each expert's share of the combine weights, step by step; below, experts at "
                    "work in the end, exp(entropy). One colour that takes over is collapse."
                )

    @property
    def outputs(self) -> list:
        return [self.verdict, self.progress, self.lanes, self.curves, self.table, self.costs,
                self.balance]  # fmt: skip

    def words(self, job: Job, board: Scoreboard, over: bool) -> dict:
        """What may change at every look; before the verdict, what can come of the race at all."""
        racing = f"### The race is on\n{outlook(board)}"
        return {
            self.verdict: standings.verdict(board) if over else racing,
            self.progress: progress(job, board),
            self.table: [*standings.rows(board, over).values()],
            self.lanes: growth(standings.lanes(board, over)),
        }

    def figures(self, board: Scoreboard, view: dict[str, str]) -> dict:
        """What changes with a new evaluation or result."""
        up, across = view["up"], view["across"]
        costs = race.costs(standings.costs(board, across, up), across, up)
        return {
            self.curves: growth(standings.curves(board, view["shown"], view["axis"])),
            self.costs: growth(costs),
            self.balance: growth(standings.balance(board)),
        }

    def turn(self, job_id: str, view: dict[str, str], *chosen: str) -> dict:
        """Other axes, for now and for the watch that goes on."""
        view |= dict(zip(self.choices, chosen, strict=True))
        if (job := comparing.find(job_id)) is None:
            return {}
        return self.figures(Scoreboard().add_all(list(job.events)), view)


async def watch(job: Job) -> AsyncIterator[tuple[Scoreboard, bool]]:
    """Follow a job: what is known of it twice a second, and whether that is all."""
    board, seen = Scoreboard(), 0
    with job.watched():
        while True:
            over = job.over  # asked before the events are read: none can come after
            news = job.events[seen:]
            seen += len(news)
            yield board.add_all(news), over
            if over:
                return
            await asyncio.sleep(LOOK_EVERY)


def progress(job: Job, board: Scoreboard) -> str:
    """Where the comparison is, and how long it will still take."""
    done = sum(job.weights.get(run, 0.0) * part for run, part in board.progress.items())
    share = done / (sum(job.weights.values()) or 1)
    runs = len(board.plan.runs) if board.plan else 0
    time = job.seconds or sum(run.seconds for run in board.finished)
    if job.state == "waiting":
        words = f"Waiting: {jobs.ahead_of(job)} before this one. It starts by itself."
    elif job.state == "failed":
        words = job.message
    elif job.over:
        share = 1.0 if job.state == "finished" else share
        ended = f"{len(board.finished)} of {runs} runs"
        words = {
            "finished": f"Done: {ended} in {duration(time)}.",
            "stopped": f"Stopped: {ended} were finished and are kept.",
            "interrupted": f"Interrupted: {ended} were finished; the others were cut off.",
        }[job.state]
        if board.plan:  # the form beside it may say something else by now
            shots = board.plan.shots
            clips = f"{shots} training clips per class" if shots else "all training clips"
            words += f" {board.plan.title}, {clips}."
    elif job.asked_to_stop:
        words = "Stopping…"
    else:
        words = f"{share:.0%}: {board.doing}"
        first = next((k for k, e in enumerate(job.events) if isinstance(e, RunEvent)), None)
        if first is not None and share > 0.03:
            spent = job.seconds - job.times[first]
            words += f", about {duration(spent * (1 - share) / share)} left"
    bar = f"<progress max='1' value='{share:.2f}' aria-label='Part done'></progress>"
    return f"{bar}<p role='status'>{escape(words)}</p>"
