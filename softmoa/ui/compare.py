"""The Compare tab: choose methods, watch them train, take the winner to Explore.

A comparison is a job that runs in a thread of its own; this page only watches it, twice a second.
Closing the page gives it up after a while, reloading finds it again by its id in the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from softmoa.plots import race
from softmoa.training.cost import duration
from softmoa.training.events import Planned, RunEvent
from softmoa.training.scoreboard import Scoreboard, outlook
from softmoa.ui import compare_form, comparing, jobs, standings
from softmoa.ui.compare_form import Form
from softmoa.ui.compare_runs import Runs
from softmoa.ui.explore import Explored
from softmoa.ui.figure import ON_MODEL, QUIET, Figure, Note, Table, growing, growth
from softmoa.ui.jobs import Job
from softmoa.ui.links import Linked

LOOK_EVERY = 0.5  # seconds between two looks at a running comparison
NAMED_RUN = (  # in the place of the first value, the comparison that the address names
    "(shown, ...rest) => [new URLSearchParams(location.search).get('run') || shown, ...rest]"
)


class Compare:
    """The tab, laid out and wired inside its `gr.Tab`.

    own_tasks: the visitor's own, a list of `Task`.
    """

    def __init__(self, explored: Explored, tabs: gr.Tabs, tab: gr.Tab, demo: gr.Blocks) -> None:
        self.tabs, self.own_tasks = tabs, gr.State([])
        self.job_id = job_id = gr.Textbox(visible="hidden", elem_id="run-id")
        # In the browser, so that a page that is loaded again can still stop what it began.
        began = gr.BrowserState([], storage_key="softmoa-began")
        with gr.Row():
            with gr.Column(scale=5, min_width=320, elem_id="race-stage"):
                self.stage = Stage()
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(
                    "Every method starts from the same backbone and sees the same clips in the "
                    "same order. Watch them learn, see what each costs, and take one with you."
                )
                self.form = Form(tab, self.own_tasks)
                with gr.Row():
                    self.start = gr.Button(
                        "Start", variant="primary", elem_id="start", min_width=100
                    )
                    self.stop = gr.Button(
                        "Stop", variant="stop", interactive=False, elem_id="stop", min_width=100
                    )
        self.stage.lay_out_below()
        self.runs = Runs(job_id, explored, tabs)
        self.raced = [*self.form.chosen, tabs]  # the outputs of `race`
        self.link = Linked("compare", tab, {"run": job_id})  # `find_again` opens it

        asked, saved = [*self.form.controls, job_id, began], self.form.saved
        begun = self.start.click(compare_form.begin, asked, [job_id, began], **QUIET)
        opening = [saved, self.own_tasks, job_id, began]
        events = [begun, saved.upload(compare_form.open_saved, opening, job_id, **QUIET)]
        for name, button in self.form.recorded.items():
            recorded = partial(compare_form.open_recorded, name)
            events.append(button.click(recorded, [job_id, began], job_id, **QUIET))
        events.append(demo.load(self.find_again, None, [job_id, tabs], **QUIET))
        self.stop.click(compare_form.stop, [job_id, began], None, queue=False, **QUIET)
        choices = self.stage.choices
        # Changed in place for a watch that runs.
        view = gr.State({name: control.value for name, control in choices.items()})
        shown = [self.start, self.stop, *self.stage.outputs, *self.runs.outputs]
        watching: dict[str, Any] = QUIET | {"concurrency_limit": None}
        watched = [
            event.success(self.follow, [job_id, view], shown, **watching) for event in events
        ]
        first = {"inputs": [job_id, view], "outputs": [job_id, *shown], "js": NAMED_RUN}
        watched.append(tab.select(self.first_look, **first, **watching))
        making: dict[str, Any] = QUIET | {"concurrency_id": "files", "concurrency_limit": 1}
        for event in watched:
            event.success(self.runs.make_files, job_id, self.runs.files, **making)
            event.success(self.runs.suggest, [job_id, self.runs.run], self.runs.next, **ON_MODEL)
        for choice in choices.values():
            chosen = [job_id, view, *choices.values()]
            choice.input(self.stage.turn, chosen, self.stage.drawn, queue=False, **QUIET)

    def race(self, own: list) -> dict:
        """Open the tab with the visitor's own sounds as the task."""
        chosen = self.form.choose(compare_form.OWN, own)
        return chosen | {self.tabs: gr.Tabs(selected="compare")} if own else chosen

    async def follow(self, identity: str, view: dict[str, str]) -> AsyncIterator[dict]:
        """Show a comparison until it is over."""
        if (job := comparing.find(identity)) is None:
            if identity:
                gr.Warning("That comparison is no longer kept on this server.")
            yield {self.start: gr.skip()}  # no frame at all would empty every output
            return
        stage, runs, drawn, of = self.stage, self.runs, {}, None
        async for board, over in watch(job):
            now = [len(board.points), len(board.finished), *view.values()]
            # Not in the loop that serves all visitors.
            said = await asyncio.to_thread(stage.words, job, board, over)
            if now != of:
                drawn, of = await asyncio.to_thread(stage.figures, board, view), now
            yield {
                self.start: gr.Button(interactive=over),
                self.stop: gr.Button(interactive=not over and not job.asked_to_stop),
                **said,
                **drawn,
                **(runs.show(job, board) if over else {runs.after: gr.Column(visible=False)}),
            }

    async def first_look(self, linked: str, view: dict[str, str]) -> AsyncIterator[dict]:
        """The recorded comparison, where the page's address names none."""
        if comparing.find(linked):
            yield {self.start: gr.skip()}
            return
        job = comparing.example()
        async for frame in self.follow(job.id, view):
            yield frame | {self.job_id: job.id}

    def find_again(self, request: gr.Request) -> dict:
        """The comparison that the page's address names, after a reload."""
        identity = str(request.query_params.get("run") or "")
        selected = {self.tabs: gr.Tabs(selected="compare")} if identity else {}
        return {self.job_id: identity} | selected


class Stage:
    """What the tab shows of a comparison while it runs, laid out where it is made."""

    def __init__(self) -> None:
        question = "### Who learns most, and at what cost?"  # until a race is opened
        self.progress = Figure(elem_id="progress")  # first, as it says what is raced
        self.verdict = gr.Markdown(question, container=True, elem_id="verdict")
        self.lanes = growing("lanes")
        self.reasons = gr.Markdown(elem_id="reasons")
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
        self.drawn = [self.curves, self.costs, self.balance]
        said = [self.verdict, self.reasons, self.progress]
        self.outputs = [*said, self.lanes, self.table, *self.drawn]

    def words(self, job: Job, board: Scoreboard, over: bool) -> dict:
        """What may change at every look; before the verdict, what can come of the race at all."""
        racing = f"### The race is on\n{outlook(board)}", ""
        verdict, reasons = standings.verdict(board) if over else racing
        return {
            self.verdict: verdict,
            self.reasons: reasons,
            self.progress: progress(job, board),
            self.table: standings.table(board, over),
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
            return gr.skip()
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
        ended = f"{len(board.finished)} of {runs} runs"
        words = {
            "finished": f"Done: {ended} in {duration(time)}.",
            "stopped": f"Stopped: {ended} were finished and are kept.",
            "interrupted": f"Interrupted: {ended} were finished; the others were cut off.",
        }[job.state]
        if board.plan:  # the form beside it may say something else by now
            words = f"{subject(job, board.plan)} {words}"
    elif job.asked_to_stop:
        words = "Stopping…"
    else:
        words = f"{share:.0%}: {board.doing}"
        first = next((k for k, e in enumerate(job.events) if isinstance(e, RunEvent)), None)
        if first is not None and share > 0.03:
            spent = job.seconds - job.times[first]
            words += f", about {duration(spent * (1 - share) / share)} left"
    bar = f"<progress max='1' value='{share:.2f}' aria-label='Part done'></progress>"
    bar *= job.state != "finished"
    return f"{bar}<p role='status'>{escape(words)}</p>"


def subject(job: Job, plan: Planned) -> str:
    """Whether a race was recorded, and on what: the task in plain words, clips and machine."""
    recorded = "Recorded race: " * (job.folder.parent.name == comparing.REOPENED)
    about = job.task.about.partition(";")[0] if job.task else ""
    task = plan.title + f". {about}" * bool(about)
    shots = f"{plan.shots} training clips per class" if plan.shots else "all training clips"
    where = f", on {plan.device}" * bool(plan.device)
    return f"{recorded}{task}; {shots}, {len(plan.truth)} test clips{where}."
