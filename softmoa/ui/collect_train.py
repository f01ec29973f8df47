"""The second half of "Your sounds": train on the takes, try what came out, take it home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import gradio as gr

from softmoa.data.audio import AudioError
from softmoa.data.collection import Collection, Current
from softmoa.data.limits import limits
from softmoa.data.tasks import Row, Task, TaskError
from softmoa.data.values import InputError
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.training.fit import TrainingOptions
from softmoa.training.plan import Choice, Comparison, title
from softmoa.training.scoreboard import Scoreboard, conclusion
from softmoa.ui import compare, comparing, standings
from softmoa.ui.checks import refuse, refusing
from softmoa.ui.compare import Compare
from softmoa.ui.figure import ON_MODEL, QUIET, Figure, Note, Recorder, Stream, Table, progress_on
from softmoa.ui.jobs import Job
from softmoa.ui.microphone import Recent, follow
from softmoa.ui.take_next import take_next

METHODS_TRAINED = ("linear", "soft-moa")
RUN_SECONDS = 20.0
FEW = 20  # test clips that say little
PICTURED = 24  # takes of a class that have a picture
WINDOW = 1.5  # seconds of the microphone that each live answer is about


class Training:
    """This half of the tab, laid out and wired where it is made."""

    def __init__(self, mine: gr.State, raced: Compare) -> None:
        """mine: a State of `Current`."""
        gr.Markdown(
            "### Train\nA linear probe and a Soft-MoA on the same clips, for at most "
            f"{RUN_SECONDS:g} seconds each. **Train** clips are learned from, **validate** is what "
            "curves show, **test** is looked at once, at the end."
        )
        with gr.Row():
            self.train = gr.Button(
                "Train on these sounds", variant="primary", interactive=False, elem_id="train"
            )
            self.stop = gr.Button(
                "Stop", variant="stop", interactive=False, elem_id="stop-training"
            )
            self.race = gr.Button("Race more methods on these", interactive=False, elem_id="race")
        self.buttons = [self.train, self.race]
        self.job_id = gr.State("")
        self.progress = Figure(elem_id="training")
        with gr.Column(visible=False) as self.tried:
            self.verdict = gr.Markdown(container=True, elem_id="training-verdict")
            self.table = Table(headers=standings.COLUMNS, elem_id="training-results")
            self.next = gr.Markdown(elem_id="take-next")
            gr.Markdown(
                "### Try it\nIt always names one of your classes, so a class for silence or for "
                "anything else helps."
            )
            self.use = gr.Radio([], label="Classify with", elem_id="use")
            with gr.Row():
                with gr.Column(min_width=320):
                    test = Recorder(label="Record or upload a new sound", elem_id="test-sound")
                    answer = gr.Label(label="What it is", elem_id="test-answer")
                with gr.Column(min_width=320):
                    live = Stream(label="Or listen live", elem_id="live")
                    heard = gr.Label(label="What it hears now", elem_id="live-answer")
            self.home = gr.DownloadButton(
                "Download the trained adapters", size="md", elem_id="take-home"
            )
            Note("On the command line: `python -m softmoa classify SOUND --bundle FILE`.")

        shown = [*self.buttons, self.stop, self.job_id, self.progress, self.tried, self.verdict,
                 self.table, self.use, self.home]  # fmt: skip
        trained = self.train.click(self.run, mine, shown, concurrency_limit=None, **QUIET)
        trained.success(next_of, [mine, self.use], self.next, **ON_MODEL | progress_on(self.next))
        self.stop.click(stop, self.job_id, None, queue=False, **QUIET)
        self.race.click(raced.race, raced.own_tasks, raced.raced, **QUIET)
        for event in (test.change, self.use.change):
            event(name_sound, [self.use, test], answer, **ON_MODEL | progress_on(answer))
        self.use.change(bundle_file, self.use, self.home, **QUIET)

        def hear(recent: Recent, key: str) -> dict:
            return {heard: listen(recent, key)}

        follow(live, hear, [self.use], [heard], {heard: gr.skip()})

    def allow(self, ready: bool) -> dict:
        """The buttons, once there is enough to train on."""
        return {button: gr.Button(interactive=ready) for button in self.buttons}

    async def run(self, mine: Current) -> AsyncIterator[dict]:
        """Train every method on the takes; what the page shows, twice a second."""
        try:
            if mine.now is None or mine.now.swept:
                raise TaskError(expired())
            data = mine.now.build()
            mine.now.folder.touch()  # in use: not to be swept away
            job = comparing.begin(titled(data.task), comparison())
        except InputError as error:
            raise refuse(str(error)) from None
        async for board, over in compare.watch(job):
            yield {
                self.train: gr.Button(interactive=over),
                self.stop: gr.Button(interactive=not over),
                self.job_id: job.id,
                self.progress: compare.progress(job, board),
                **(self.finished(job, board) if over else {}),
            }

    def finished(self, job: Job, board: Scoreboard) -> dict:
        """What can be done with what was trained."""
        if not board.finished or not board.plan:
            return {self.tried: gr.Column(visible=False)}
        said, clips = conclusion(board), len(board.plan.truth)
        if clips < FEW:
            said += f" With {clips} test clips this says little: record more takes to know."
        keys = {run.method: comparing.bundle_key(job, run) for run in board.finished}
        titles = [(title(method), key) for method, key in keys.items()]
        key = keys[max(board.finished, key=lambda run: run.val_accuracy).method]
        return {
            self.tried: gr.Column(visible=True),
            self.verdict: said,
            self.table: standings.table(board, True),
            self.use: gr.Radio(titles, value=key),
            self.home: bundle_file(key),
        }


def expired() -> str:
    return (
        f"Your earlier takes were deleted: none was added for {limits().upload_minutes} minutes. "
        "The names of your classes are kept."
    )


def takes(now: Collection | None) -> list[tuple[Row, str]]:
    """The takes that are shown, class by class, each with its caption."""
    return [
        (row, f"{label} {k}")
        for label in (now.labels if now else ())
        for k, row in enumerate(now.of(label)[:PICTURED] if now else (), 1)
    ]


def titled(task: Task) -> Task:
    """With the names of its classes."""
    return replace(task, title=f"Your sounds: {', '.join(task.labels)}")


def comparison() -> Comparison:
    """A handful of short clips are few steps an epoch; the limit in seconds ends runs on many."""
    training = TrainingOptions(epochs=20, seconds=RUN_SECONDS, batch=8)
    return comparing.bounded(Comparison(tuple(map(Choice.of, METHODS_TRAINED)), training))


def next_of(mine: Current, key: str | None) -> str:
    """Which take to record next; nothing if the takes are others by now."""
    bundle = comparing.bundle_of_key(key or "")
    if bundle is None or mine.now is None or mine.now.swept:
        return ""
    names = {row.path: name for row, name in takes(mine.now)}
    try:
        task = mine.now.build().task
        return take_next(bundle, task, {f.path: names.get(f.path, f.path.name) for f in task.files})
    except InputError:  # not those that it was trained on
        return ""


def stop(job_id: str) -> None:
    """End the training; what was finished stays."""
    if job := comparing.find(job_id):
        job.stop()


def bundle_file(key: str | None) -> str:
    """The trained adapters, to download."""
    if (path := comparing.bundle_of_key(key or "")) is None:
        raise refuse("Train first.")
    return str(path)


@refusing
def name_sound(key: str, path: str | None) -> dict | None:
    """Probabilities of the visitor's classes for a new recording."""
    if not path:
        return None
    return dict(classify(open_classifier(bundle_file(key)), path, record=False).top(5))


def listen(recent: Recent, key: str) -> dict | None:
    """The label of the last moments of the microphone."""
    if comparing.bundle_of_key(key or "") is None:
        return None
    try:
        return dict(classify(open_classifier(bundle_file(key)), recent.last(WINDOW), False).top(5))
    except AudioError:
        return None
