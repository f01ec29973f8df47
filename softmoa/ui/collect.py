"""The tab "Your sounds": record or upload classes of one's own, train on them, try the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from softmoa import collection, experiment, race, run_directory
from softmoa.audio import SAMPLE_RATE, AudioError, load
from softmoa.classify import Classifier, classify, open_classifier
from softmoa.collection import TAKE_SECONDS, Collection
from softmoa.limits import LIMITS, LimitError
from softmoa.methods import METHODS
from softmoa.scoreboard import Scoreboard, conclusion
from softmoa.tasks import Task, TaskError, own
from softmoa.tasks.own import DataLimits
from softmoa.training import TrainingOptions
from softmoa.ui import collect_view as view
from softmoa.ui.checks import not_stored
from softmoa.ui.explore import MODEL_QUEUE, Figure
from softmoa.ui.texts import collect as texts

DATA = DataLimits(LIMITS.classes, LIMITS.clips, own.ZipLimits(files=LIMITS.clips + 500))
METHODS_TRAINED = ("linear", "soft-moa")
RUN_SECONDS = min(20.0, LIMITS.run_seconds)
# A handful of short clips are few steps an epoch; the limit in seconds ends runs on many.
TRAINING = TrainingOptions(epochs=20, steps=LIMITS.run_steps, seconds=RUN_SECONDS, batch=8)
LIVE_SECONDS = 20.0
WINDOW = 1.5  # seconds of the microphone that each live answer is about

# Press, wait until the microphone is open (a visitor may have to allow it), stop.
RECORD_ONE = """
async seconds => {
  const seen = selector =>
    [...document.querySelectorAll('#take ' + selector)].find(e => e.offsetParent);
  const wait = ms => new Promise(done => setTimeout(done, ms));
  if (seen('.stop-button')) return [];
  seen('.record-button')?.click();
  for (let k = 0; k < 300 && !seen('.stop-button'); k++) await wait(100);
  await wait(1000 * seconds);
  seen('.stop-button')?.click();
  return [];
}
"""
ON_CLICK = """
element.addEventListener('click', event => {
  const hit = event.target.closest('[data-take]');
  if (hit) trigger('select', {...hit.dataset});
});
"""


@dataclass(frozen=True)
class Trained:
    """What one training left: a classifier and its bundle's file for every method."""

    classifiers: dict[str, Classifier]
    files: dict[str, Path]


def build(own_tasks: gr.State, tabs: gr.Tabs) -> None:
    """Lay out the tab and wire it, inside a `gr.Tab`.

    own_tasks: the list of this visitor's tasks that the Compare tab offers.
    """
    mine = gr.State(delete_callback=collection.delete)
    mine.change(tasks_of, mine, own_tasks, show_progress="hidden", api_visibility="private")
    chosen = gr.State()
    replacing = gr.State(False)
    trained = gr.State()
    heard = gr.State()
    gr.Markdown(texts.INTRO)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            gr.Markdown(texts.NAME)
            name = gr.Textbox(
                label=texts.LABEL, placeholder=texts.LABEL_HINT, max_lines=1, elem_id="class-name"
            )
            add = gr.Button(texts.ADD, size="md", elem_id="add-class")
            gr.Markdown(texts.RECORD)
            label = gr.Radio([], label=texts.CHOOSE, elem_id="take-class")
            seconds = gr.Slider(
                0.5, TAKE_SECONDS, 1.5, step=0.5, label=texts.SECONDS, elem_id="take-seconds"
            )
            record = gr.Button(texts.RECORD_ONE, variant="primary", elem_id="record-take")
            take = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=texts.TAKE,
                waveform_options=gr.WaveformOptions(sample_rate=SAMPLE_RATE),
                elem_id="take",
            )
            gr.Markdown(texts.RECORD_HELP.format(limits=LIMITS), elem_classes="quiet")
            upload = gr.UploadButton(
                texts.UPLOAD, file_types=[".zip"], size="md", elem_id="upload-zip"
            )
            gr.Markdown(texts.UPLOAD_HELP.format(limits=LIMITS), elem_classes="quiet")
        with gr.Column(scale=3, min_width=320):
            gr.Markdown(texts.TAKES)
            status = gr.Markdown(elem_id="collect-status", elem_classes="quiet")
            takes = Figure(
                view.takes(None, None),
                js_on_load=ON_CLICK,
                css_template=view.TAKES_CSS,
                elem_id="takes",
            )
            with gr.Column(visible=False) as one:
                player = gr.Audio(label=texts.PLAYER, interactive=False, elem_id="player")
                with gr.Row():
                    again = gr.Button(texts.AGAIN, size="md", elem_id="again")
                    delete = gr.Button(texts.DELETE, size="md", elem_id="delete-take")
            with gr.Column(visible=False) as divided:
                gr.Markdown(texts.SPLIT, elem_classes="quiet")
                division = Figure(css_template=view.TABLE_CSS, elem_id="division")
            with gr.Row(visible=False) as keep:
                save = gr.Button(texts.SAVE, size="md", elem_id="save-takes")
                clear = gr.Button(texts.CLEAR, size="md", elem_id="clear-takes")
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
                    label=texts.LIVE.format(seconds=LIVE_SECONDS),
                    elem_id="live",
                )
                live_answer = gr.Label(label=texts.LIVE_ANSWER, elem_id="live-answer")
        home = gr.Button(texts.TAKE_HOME, size="md", elem_id="take-home")
        gr.Markdown(texts.BUNDLE_HELP, elem_classes="quiet")

    # Not in the columns above: what is in a column that appears, appears with it.
    saved, home_file = (
        gr.DownloadButton(visible="hidden", elem_id=f"file-{name}") for name in ("takes", "home")
    )
    shown = [mine, label, takes, chosen, replacing, one, player, divided, division, keep, status]
    quick: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 4,
        "show_progress": "hidden",
    }
    unpacking: dict[str, Any] = {**quick, "show_progress": "full"}
    for event in (add.click, name.submit):
        event(add_class, [mine, name], [name, *shown], **quick)
    record.click(None, [seconds], None, js=RECORD_ONE)
    take.input(add_take, [mine, label, take, chosen, replacing], [take, *shown], **quick)
    upload.upload(add_zip, [mine, label, upload], shown, **unpacking)
    takes.select(choose, [mine, label], shown, **quick)
    again.click(record_again, [mine, chosen], [replacing, label, status], **quick).then(
        None, [seconds], None, js=RECORD_ONE
    )
    delete.click(drop, [mine, label, chosen], shown, **quick)
    clear.click(start_over, [mine], shown, **quick)
    save.click(write_takes, [mine], saved, **quick).success(
        None, js="() => document.querySelector('#file-takes').click()"
    )
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
        lambda: [gr.Button(visible=True), gr.Button(visible=False)],
        None,
        [train, stop],
        cancels=[run],
        **quick,
    )
    test.change(name_sound, [trained, use, test], answer, **model)
    use.input(name_sound, [trained, use, test], answer, **model)
    live.stream(
        listen, [trained, use, live, heard], [heard, live_answer], stream_every=0.5,
        time_limit=LIVE_SECONDS, show_progress="hidden", **model,
    )  # fmt: skip
    live.start_recording(lambda: [None, None], None, [heard, live_answer], **quick)
    home.click(
        lambda trained, use: str(_of(trained, use).files[use]), [trained, use], home_file, **quick
    ).success(None, js="() => document.querySelector('#file-home').click()")


def tasks_of(now: Collection | None) -> list[Task]:
    """The collection as a task, as soon as one can be trained on it."""
    if now is None:
        return []
    try:
        task = now.build().task
    except TaskError:
        return []
    return [replace(task, title=texts.RACE_TITLE.format(classes=", ".join(task.labels)))]


def show(now: Collection, label: str | None, says: str, place: int | None = None) -> list:
    """Everything the tab shows of a collection. place: of the chosen take."""
    label = label if label in now.labels else (now.labels[-1] if now.labels else None)
    divided, table = False, ""
    if now.rows:
        try:
            table, divided = view.division(now.build()), True
        except TaskError as error:
            says = f"{says} {error}"
    return [
        now,
        gr.Radio(list(now.labels), value=label),
        view.takes(now, place),
        place,
        False,
        gr.Column(visible=place is not None),
        None if place is None else str(now.rows[place].path),
        gr.Column(visible=divided),
        table,
        gr.Row(visible=bool(now.rows)),
        says,
    ]


def add_class(now: Collection | None, name: str) -> list:
    try:
        now = (now or collection.new(LIMITS.upload_minutes)).add_label(name, DATA)
    except TaskError as error:
        gr.Warning(str(error))
        return [gr.skip()] * 12
    return ["", *show(now, now.labels[-1], "")]


def add_take(
    now: Collection | None, label: str, path: str | None, chosen: int | None, replacing: bool
) -> list:
    """A new recording, in the place of the chosen one if that is to be recorded again."""
    if path is None:
        return [gr.skip()] * 12
    now = now or collection.new(LIMITS.upload_minutes)
    place = chosen if replacing and chosen is not None and chosen < len(now.rows) else None
    label = label if place is None else now.rows[place].label
    try:
        now, seconds = now.add_take(label, path, DATA, place)
    except (AudioError, OSError, TaskError) as error:
        gr.Warning(not_stored(error) if isinstance(error, OSError) else str(error))
        return [None, *[gr.skip()] * 11]
    return [
        None,
        *show(
            now,
            label,
            texts.ADDED.format(number=len(now.of(label)), label=label, seconds=seconds),
        ),
    ]


def add_zip(now: Collection | None, label: str, path: str) -> list:
    """All clips of a zip; the upload itself does not stay."""
    now = now or collection.new(LIMITS.upload_minutes)
    try:
        LIMITS.check_upload(path)
        after = now.add_zip(Path(path), DATA)
    except (LimitError, OSError, TaskError) as error:
        says = not_stored(error) if isinstance(error, OSError) else str(error)
        gr.Warning(says)
        return [*[gr.skip()] * 10, says]
    finally:
        Path(path).unlink(missing_ok=True)
    clips = after.rows[len(now.rows) :]
    classes = len({row.label for row in clips})
    return show(after, label, texts.ADDED_ZIP.format(clips=len(clips), classes=classes))


def choose(now: Collection | None, label: str, event: gr.EventData) -> list:
    """A click on a take: play it, or delete or record it again."""
    text = str((event._data or {}).get("take"))
    place = int(text) if text.isdecimal() and len(text) < 7 else None
    if now is None or place is None or place >= len(now.rows):
        return [gr.skip()] * 11
    row = now.rows[place]
    number = now.of(row.label).index(row) + 1
    return show(now, row.label, texts.CHOSEN_NOTE.format(number=number, label=row.label), place)


def record_again(now: Collection | None, chosen: int | None) -> list:
    if now is None or chosen is None or chosen >= len(now.rows):
        return [False, gr.skip(), gr.skip()]
    return [True, now.rows[chosen].label, texts.AGAIN_NOTE]


def drop(now: Collection | None, label: str, chosen: int | None) -> list:
    if now is None or chosen is None or chosen >= len(now.rows):
        return [gr.skip()] * 11
    return show(now.drop(chosen), label, "")


def start_over(now: Collection | None) -> list:
    collection.delete(now)
    return show(collection.new(LIMITS.upload_minutes), None, "")


def write_takes(now: Collection | None) -> str:
    if now is None or not now.rows:
        raise gr.Error(texts.NO_TAKES, print_exception=False)
    path = now.folder / "your-sounds.zip"
    own.write_zip(now.rows, path)
    return str(path)


def train_all(now: Collection | None) -> Iterator[list]:
    """Train every method on the takes; what the page shows, at least once a second."""
    working = [gr.Button(visible=False), gr.Button(visible=True)]
    idle = [gr.Button(visible=True), gr.Button(visible=False)]
    try:
        if now is None:
            raise TaskError(texts.NO_TAKES)
        now.folder.touch()
        data = now.build()
    except TaskError as error:
        gr.Warning(str(error))
        yield [*[gr.skip()] * 4, *idle]
        return
    choices = tuple(experiment.Choice.of(method) for method in METHODS_TRAINED)
    comparison = experiment.Comparison(choices, TRAINING)
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
    sentence = conclusion(board.rows(), len(data.task.test), titles)
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


def listen(
    trained: Trained | None,
    method: str,
    chunk: tuple[int, np.ndarray] | None,
    heard: np.ndarray | None,
) -> list:
    """The last moments of the microphone, and their label."""
    if chunk is None or trained is None or method not in trained.files:
        return [heard, None]
    new = load(chunk).waveform.numpy()
    heard = new if heard is None else np.concatenate([heard, new])
    heard = heard[-int(WINDOW * SAMPLE_RATE) :]
    result = classify(trained.classifiers[method], (SAMPLE_RATE, heard), record=False)
    return [heard, dict(result.top(5))]
