"""The second half of "Your sounds": train on the takes, try what came out, take it home."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa import race, run_directory
from softmoa.audio import SAMPLE_RATE, AudioError
from softmoa.classify import Classifier, classify, open_classifier
from softmoa.collection import Current
from softmoa.limits import LIMITS
from softmoa.methods import METHODS
from softmoa.plan import Choice, Comparison
from softmoa.scoreboard import Scoreboard, conclusion
from softmoa.tasks import TaskError
from softmoa.training import TrainingOptions
from softmoa.ui import collect_view as view
from softmoa.ui.checks import not_stored
from softmoa.ui.figure import MODEL_QUEUE, Figure
from softmoa.ui.microphone import Heard, Shown, follow
from softmoa.ui.texts import collect as texts

METHODS_TRAINED = ("linear", "soft-moa")
RUN_SECONDS = min(20.0, LIMITS.run_seconds)
# A handful of short clips are few steps an epoch; the limit in seconds ends runs on many.
TRAINING = TrainingOptions(epochs=20, steps=LIMITS.run_steps, seconds=RUN_SECONDS, batch=8)
EXPIRED = texts.EXPIRED.format(limits=LIMITS)
WINDOW = 1.5  # seconds of the microphone that each live answer is about


@dataclass(frozen=True)
class Trained:
    """What one training left: a classifier and its bundle's file for every method."""

    classifiers: dict[str, Classifier]
    files: dict[str, Path]


def build(mine: gr.State, tabs: gr.Tabs) -> None:
    """Lay out this half of the tab and wire it. mine: a State of `Current`."""
    trained = gr.State()
    gr.Markdown(texts.TRAIN)
    gr.Markdown(texts.TRAIN_HELP.format(seconds=RUN_SECONDS), elem_classes="quiet")
    with gr.Row():
        train = gr.Button(texts.TRAIN_BUTTON, variant="primary", elem_id="train")
        stop = gr.Button(texts.STOP, variant="stop", visible=False, elem_id="stop-training")
        race = gr.Button(texts.RACE, elem_id="race")
    progress = Figure(css_template=view.TABLE_CSS, elem_id="training")
    with gr.Column(visible=False) as tried:
        gr.Markdown(texts.TRY)
        use = gr.Radio([], label=texts.USE, elem_id="use")
        gr.Markdown(texts.TRY_HELP, elem_classes="quiet")
        with gr.Row():
            with gr.Column(min_width=320):
                test = gr.Audio(
                    sources=["microphone", "upload"],
                    type="filepath",
                    buttons=["download"],
                    label=texts.TEST,
                    waveform_options=gr.WaveformOptions(sample_rate=SAMPLE_RATE),
                    elem_id="test-sound",
                )
                answer = gr.Label(label=texts.ANSWER, elem_id="test-answer")
            with gr.Column(min_width=320):
                live = gr.Audio(
                    sources=["microphone"],
                    streaming=True,
                    type="numpy",
                    buttons=["download"],
                    label=texts.LIVE,
                    elem_id="live",
                )
                live_answer = gr.Label(label=texts.LIVE_ANSWER, elem_id="live-answer")
        home = gr.Button(texts.TAKE_HOME, size="md", elem_id="take-home")
        gr.Markdown(texts.BUNDLE_HELP, elem_classes="quiet")

    # Not in the column above: what is in a column that appears, appears with it.
    home_file = gr.DownloadButton(visible="hidden", elem_id="file-home")

    quick: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 4,
        "show_progress": "hidden",
    }
    model: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
    }
    run = train.click(
        train_all,
        [mine],
        [progress, tried, use, trained, train, stop],
        show_progress="hidden",
        api_visibility="private",
        concurrency_id="training",  # classifying does not wait for it
        concurrency_limit=1,
    )
    race.click(lambda: gr.Tabs(selected="compare"), None, tabs, **quick)
    stop.click(
        lambda: ["", gr.Button(visible=True), gr.Button(visible=False)],
        None,
        [progress, train, stop],
        cancels=[run],
        **quick,
    )
    test.change(name_sound, [trained, use, test], answer, **model)
    use.input(name_sound, [trained, use, test], answer, **model)
    follow(live, listen, [trained, use], [live_answer], [gr.skip()])
    home.click(bundle_file, [trained, use], home_file, **quick).success(
        None, js="() => document.querySelector('#file-home').click()"
    )


def train_all(mine: Current) -> Iterator[list]:
    """Train every method on the takes; what the page shows, at least once a second."""
    working = [gr.Button(visible=False), gr.Button(visible=True)]
    idle = [gr.Button(visible=True), gr.Button(visible=False)]
    now = mine.now
    try:
        if now is None:
            raise TaskError(texts.NO_TAKES)
        if now.swept:
            raise TaskError(EXPIRED)
        data = now.build()
        now.folder.touch()  # in use: not to be swept away
    except TaskError as error:
        gr.Warning(str(error))
        yield [*[gr.skip()] * 4, *idle]
        return
    choices = tuple(Choice.of(method) for method in METHODS_TRAINED)
    comparison = Comparison(choices, TRAINING)
    board = Scoreboard()
    events = race.compare("ast-small", data.task, comparison)
    said = time.monotonic()
    yield [view.progress(board, len(choices)), *[gr.skip()] * 3, *working]
    try:
        for event in events:
            board.add(event)
            if time.monotonic() - said > 0.3:
                said = time.monotonic()
                yield [view.progress(board, len(choices)), *[gr.skip()] * 5]
    except (AudioError, TaskError) as error:
        gr.Warning(str(error))
        yield ["", *[gr.skip()] * 3, *idle]
        return
    finally:
        events.close()
    if not board.finished:
        sentence = board.failed[0].message
        gr.Warning(sentence)
        yield [sentence, *[gr.skip()] * 3, *idle]
        return
    try:
        trained = keep(board, now.folder)
    except OSError as error:
        gr.Warning(not_stored(error))
        yield [not_stored(error), *[gr.skip()] * 3, *idle]
        return
    titles = {method: METHODS[method].title for method in METHODS_TRAINED}
    sentence = conclusion(board, titles)
    if len(data.task.test) < 20:
        sentence += " " + texts.SMALL_TEST.format(clips=len(data.task.test))
    yield [
        view.results(board.finished) + f"<p>{sentence}</p>",
        gr.Column(visible=True),
        gr.Radio([(titles[m], m) for m in trained.files], value=best(board)),
        trained,
        *idle,
    ]


def best(board: Scoreboard) -> str:
    """The method of the highest validation accuracy; among equals, of the lowest loss there."""
    points = max(board.points, key=lambda point: (point.accuracy, -point.loss))
    return points.method


def keep(board: Scoreboard, folder: Path) -> Trained:
    """The bundle of every run in `folder`, and a classifier with it."""
    files = {run.method: run_directory.save_bundle(run, folder) for run in board.finished}
    classifiers = {method: open_classifier(str(path)) for method, path in files.items()}
    return Trained(classifiers, files)


def _of(trained: Trained | None, method: str) -> Trained:
    if trained is None or method not in trained.files:
        raise gr.Error(texts.NOTHING_TRAINED, print_exception=False)
    return trained


def bundle_file(trained: Trained | None, method: str) -> str:
    """The trained adapters, to download."""
    path = _of(trained, method).files[method]
    if not path.is_file():
        raise gr.Error(texts.BUNDLE_GONE, print_exception=False)
    return str(path)


def name_sound(trained: Trained | None, method: str, path: str | None) -> dict | None:
    """Probabilities of the visitor's classes for a new recording."""
    if not path:
        return None
    classifier = _of(trained, method).classifiers[method]
    try:
        return dict(classify(classifier, path, record=False).top(5))
    except AudioError as error:
        gr.Warning(str(error))
        return None


def listen(heard: Heard, _: Shown, trained: Trained | None, method: str) -> list:
    """The label of the last moments of the microphone."""
    if trained is None or method not in trained.files:
        return [None]
    try:
        result = classify(trained.classifiers[method], heard.last(WINDOW), record=False)
    except AudioError:
        return [None]
    return [dict(result.top(5))]
