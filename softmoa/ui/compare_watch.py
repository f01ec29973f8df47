"""A comparison of the Compare tab while it runs: watched, found again after a reload, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import gradio as gr

from softmoa import jobs
from softmoa.events import ComparisonEvent, RunEvent
from softmoa.jobs import Job
from softmoa.scoreboard import Scoreboard
from softmoa.ui import compare_runs, comparing, standings
from softmoa.ui.standings import duration
from softmoa.ui.texts import compare as texts

LOOK_EVERY = 0.5  # seconds between two looks at a running comparison


def find_again(request: gr.Request) -> list:
    """The comparison that the page's address names, after a reload."""
    identity = str(request.query_params.get("run") or "")
    return [identity, gr.Tabs(selected="compare") if identity else gr.skip()]


async def watch(job_id: str, view: dict[str, str]) -> AsyncIterator[list]:
    """Follow a job until it is over; every frame says all, and the changes are sent."""
    job = comparing.find(job_id)
    if job is None:
        yield [idle(texts.LOST if job_id else texts.NO_RUN)] + [gr.skip()] * 20
        return
    board, seen = Scoreboard(), 0
    with job.watched():
        while True:
            over = job.over  # asked before the events are read: none can come after
            news = job.events[seen:]
            seen += len(news)
            # Not in the loop that serves all visitors: there may be much to fold and to draw.
            yield await asyncio.to_thread(_frame, job, board, news, over, view["axis"])
            if over:
                return
            await asyncio.sleep(LOOK_EVERY)


def _frame(
    job: Job, board: Scoreboard, news: Sequence[ComparisonEvent], over: bool, axis: str
) -> list:
    """All outputs of the tab, after these events more."""
    board.add_all(news)
    return [
        progress_bar(job, board),
        gr.Button(interactive=over),
        gr.Button(interactive=not over and not job.stopping),
        gr.Button(visible=False),  # the example; a reloaded page offers it again
        gr.Radio(visible=board.plan is not None),
        *standings.curves(board, axis),
        standings.results_table(board, over),
        standings.conclusion(board) if over else "",
        standings.router_balance(board),
        *(compare_runs.shown(job, board) if over else compare_runs.hidden()),
    ]


def turn_axis(job_id: str, view: dict[str, str], axis: str) -> list:
    """The curves again, over the other axis, for now and for the watch that goes on."""
    view["axis"] = axis
    job = comparing.find(job_id)
    if job is None:
        return [gr.skip(), gr.skip()]
    return [*standings.curves(Scoreboard().add_all(list(job.events)), axis)]


def idle(words: str = texts.NO_RUN) -> list[str]:
    """The empty bar, and why nothing runs."""
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
        return standings.progress_bar(share, texts.STOPPED.format(**done) + _on(board))
    if job.state == "interrupted":
        return standings.progress_bar(share, texts.INTERRUPTED.format(**done) + _on(board))
    if job.state == "finished":
        time = sum(run.seconds for run in board.finished) if not job.seconds else job.seconds
        words = texts.FINISHED.format(**done | {"time": duration(time)})
        return standings.progress_bar(1, words + _on(board))
    if job.stopping:
        return standings.progress_bar(share, texts.STOPPING)
    words = f"{100 * share:.0f} %: {board.doing}"
    first = next((k for k, e in enumerate(job.events) if isinstance(e, RunEvent)), None)
    if first is not None and share > 0.03:
        spent = job.seconds - job.times[first]
        words += texts.LEFT.format(time=duration(spent * (1 - share) / share))
    return standings.progress_bar(share, words)


def _on(board: Scoreboard) -> str:
    """What a comparison was run on: the form beside it may say something else by now."""
    if board.plan is None:
        return ""
    shots = board.plan.shots
    clips = texts.ON_SHOTS.format(shots=shots) if shots else texts.ON_ALL
    return texts.ON.format(title=board.plan.title, clips=clips)
