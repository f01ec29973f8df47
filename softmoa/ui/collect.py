"""The tab "Your sounds": record or upload classes of one's own, train on them, try the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa import collection
from softmoa.audio import SAMPLE_RATE, AudioError
from softmoa.collection import TAKE_SECONDS, Collection, Current
from softmoa.limits import LIMITS, LimitError
from softmoa.tasks import Row, Task, TaskError, own
from softmoa.tasks.own import DataLimits
from softmoa.ui import collect_train
from softmoa.ui import collect_view as view
from softmoa.ui.checks import not_stored, refuse
from softmoa.ui.collect_train import EXPIRED
from softmoa.ui.examples import clip_name
from softmoa.ui.figure import Figure
from softmoa.ui.texts import collect as texts

DATA = DataLimits(LIMITS.classes, LIMITS.clips, own.ZipLimits(files=LIMITS.clips + 500))

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


def build(own_tasks: gr.State, tabs: gr.Tabs) -> None:
    """Lay out the tab and wire it, inside a `gr.Tab`.

    own_tasks: the list of this visitor's tasks that the Compare tab offers.
    """
    # Changed in place, and an output all the same: gradio deletes no State that never was one.
    mine = gr.State(Current(), delete_callback=lambda mine: collection.delete(mine.now))
    chosen = gr.State()  # a Row
    replacing = gr.State(False)
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
            remove = gr.Button(texts.REMOVE, size="sm", visible=False, elem_id="remove-class")
            seconds = gr.Slider(
                0.5, TAKE_SECONDS, 1.5, step=0.5, label=texts.SECONDS, elem_id="take-seconds"
            )
            record = gr.Button(texts.RECORD_ONE, variant="primary", elem_id="record-take")
            take = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                buttons=["download"],
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
                player = gr.Audio(
                    buttons=["download"],
                    label=texts.PLAYER,
                    interactive=False,
                    elem_id="player",
                )
                with gr.Row():
                    again = gr.Button(texts.AGAIN, size="md", elem_id="again")
                    delete = gr.Button(texts.DELETE, size="md", elem_id="delete-take")
            with gr.Column(visible=False) as divided:
                gr.Markdown(texts.SPLIT, elem_classes="quiet")
                division = Figure(css_template=view.TABLE_CSS, elem_id="division")
            with gr.Row(visible=False) as keep:
                save = gr.Button(texts.SAVE, size="md", elem_id="save-takes")
                clear = gr.Button(texts.CLEAR, size="md", elem_id="clear-takes")
    collect_train.build(mine, tabs)
    # Not in the columns above: what is in a column that appears, appears with it.
    saved = gr.DownloadButton(visible="hidden", elem_id="file-takes")

    shown = [mine, label, takes, chosen, replacing, one, player, divided, division, keep, remove,
             clear, status]  # fmt: skip
    quick: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 4,
        "show_progress": "hidden",
    }
    unpacking: dict[str, Any] = {**quick, "show_progress": "full", "show_progress_on": [takes]}
    record.click(None, [seconds], None, js=RECORD_ONE)
    again.click(record_again, [mine, chosen], [replacing, label, status], **quick).then(
        None, [seconds], None, js=RECORD_ONE
    )
    label.input(lambda: _button(texts.REMOVE), None, remove, **quick)
    for event in (
        add.click(add_class, [mine, name], [name, *shown], **quick),
        name.submit(add_class, [mine, name], [name, *shown], **quick),
        take.input(add_take, [mine, label, take, chosen, replacing], [take, *shown], **quick),
        upload.upload(add_zip, [mine, upload], [mine, status], **unpacking).then(
            redraw, [mine, label, status, chosen], shown, **quick
        ),
        takes.select(choose, [mine], shown, **quick),
        delete.click(drop, [mine, label, chosen], shown, **quick),
        remove.click(remove_class, [mine, label, remove], shown, **quick),
        clear.click(start_over, [mine, clear], shown, **quick),
    ):
        # One after another, so that the last to come offers what there is by then.
        event.then(tasks_of, mine, own_tasks, **{**quick, "concurrency_limit": 1})
    save.click(write_takes, [mine], saved, **quick).success(
        None, js="() => document.querySelector('#file-takes').click()"
    )


def tasks_of(mine: Current) -> list[Task]:
    """The collection as a task, as soon as one can be trained on it."""
    if mine.now is None:
        return []
    try:
        task = mine.now.build().task
    except TaskError:
        return []
    return [replace(task, title=texts.RACE_TITLE.format(classes=", ".join(task.labels)))]


def show(mine: Current, label: str | None, says: str, chosen: Row | None = None) -> list:
    """Everything the tab shows of a collection."""
    with mine.lock:
        now = mine.now
        assert now is not None  # before a visitor has one, nothing is shown
        if now.swept:
            now = mine.now = Collection(now.folder, now.labels)
            says = EXPIRED
    label = label if label in now.labels else (now.labels[-1] if now.labels else None)
    chosen = chosen if chosen in now.rows else None
    place = now.rows.index(chosen) if chosen else None
    divided, table = False, ""
    if now.rows:
        try:
            table, divided = view.division(now.build()), True
        except TaskError as error:
            says = f"{says} {error}"
    return [
        mine,
        gr.Radio(list(now.labels), value=label),
        view.takes(now, place),
        chosen,
        False,
        gr.Column(visible=chosen is not None),
        str(chosen.path) if chosen else None,
        gr.Column(visible=divided),
        table,
        gr.Row(visible=bool(now.rows)),
        _button(texts.REMOVE, visible=bool(now.labels)),
        _button(texts.CLEAR),
        says,
    ]


def redraw(mine: Current, label: str | None, says: str, chosen: Row | None) -> list:
    """`show` after what took its time: what is chosen by now stays so, to be recorded again too."""
    if mine.now is None:
        return same()
    shown = show(mine, label, says, chosen)
    return shown if shown[3] is None else [*shown[:4], gr.skip(), *shown[5:]]


def same(remove: Any = None, clear: Any = None, says: str | None = None) -> list:
    """In place of `show`: all as it is, but for a button or the status."""
    last = (remove, clear, says)
    return [*[gr.skip()] * 10, *(gr.skip() if value is None else value for value in last)]


def _button(text: str, **options: Any) -> gr.Button:
    return gr.Button(text, variant="secondary", **options)


def _sure(question: str) -> gr.Button:
    """A button that asks before it deletes; its text comes back when it is pressed again."""
    return gr.Button(question, variant="stop")


def kept(now: Collection | None) -> tuple[Collection, str]:
    """The visitor's collection, or a new one if its folder is gone, and what became of its takes.

    Raises OSError if the server has no room for a new one.
    """
    if now is None:
        return collection.new(LIMITS.upload_minutes), ""
    if now.folder.is_dir():
        return now, ""
    return collection.new(LIMITS.upload_minutes, now.labels), EXPIRED if now.rows else ""


def _sentence(error: Exception) -> str:
    return not_stored(error) if isinstance(error, OSError) else str(error)


def add_class(mine: Current, name: str) -> list:
    try:
        with mine.lock:
            now, says = kept(mine.now)
            mine.now = now = now.add_label(name, DATA)
    except (OSError, TaskError) as error:
        gr.Warning(_sentence(error))
        return [gr.skip(), *same()]
    return ["", *show(mine, now.labels[-1], says)]


def add_take(
    mine: Current, label: str, path: str | None, chosen: Row | None, replacing: bool
) -> list:
    """A new recording, in the place of the chosen one if that is to be recorded again."""
    if path is None:
        return [gr.skip(), *same()]
    try:
        with mine.lock:
            now, says = kept(mine.now)
            place = None
            if replacing and chosen in now.rows:
                place, label = now.rows.index(chosen), chosen.label
            mine.now, seconds = now, _ = now.add_take(label, path, DATA, place)
    except (AudioError, OSError, TaskError) as error:
        gr.Warning(_sentence(error))
        return [None, *same()]
    finally:
        _delete_upload(path)
    added = texts.ADDED.format(number=len(now.of(label)), label=label, seconds=seconds)
    return [None, *show(mine, label, f"{says} {added}".strip())]


def add_zip(mine: Current, path: str) -> list:
    """All clips of a zip, and what is said of it; the upload itself does not stay."""
    try:
        LIMITS.check_upload(path)
        with collection.unpacked(Path(path), DATA) as (rows, remarks), mine.lock:
            now, says = kept(mine.now)
            mine.now = after = now.add_clips(rows, remarks, DATA)
    except (LimitError, OSError, TaskError) as error:
        gr.Warning(_sentence(error))
        return [gr.skip(), _sentence(error)]
    finally:
        _delete_upload(path)
    clips = after.rows[len(now.rows) :]
    classes = len({row.label for row in clips})
    added = texts.ADDED_ZIP.format(clips=len(clips), classes=classes)
    return [mine, f"{says} {added}".strip()]


def _delete_upload(path: str) -> None:
    """The server's copy of what was sent: what is kept of it is in the collection."""
    if not clip_name(path):  # the examples lie there for all visitors
        Path(path).unlink(missing_ok=True)


def choose(mine: Current, event: gr.EventData) -> list:
    """A click on a take: play it, or delete or record it again."""
    now = mine.now
    text = str((event._data or {}).get("take"))
    place = int(text) if text.isdecimal() and len(text) < 7 else None
    if now is None or place is None or place >= len(now.rows):
        return same()
    row = now.rows[place]
    number = now.of(row.label).index(row) + 1
    return show(mine, row.label, texts.CHOSEN_NOTE.format(number=number, label=row.label), row)


def record_again(mine: Current, chosen: Row | None) -> list:
    if mine.now is None or chosen is None or chosen not in mine.now.rows:
        return [False, gr.skip(), gr.skip()]
    return [True, chosen.label, texts.AGAIN_NOTE]


def drop(mine: Current, label: str, chosen: Row | None) -> list:
    with mine.lock:
        now = mine.now
        if now is None or chosen is None or chosen not in now.rows:
            return same()
        mine.now = now.drop(now.rows.index(chosen))
    return show(mine, label, "")


def remove_class(mine: Current, label: str, pressed: str) -> list:
    """Remove the chosen class; one with takes at the second press, when the button has asked."""
    with mine.lock:
        now = mine.now
        if now is None or label not in now.labels:
            return same()
        sure = texts.REMOVE_SURE.format(label=label, clips=len(now.of(label)))
        if now.of(label) and pressed != sure:
            return same(remove=_sure(sure))
        mine.now = now.drop_label(label)
    return show(mine, None, texts.REMOVED.format(label=label))


def start_over(mine: Current, pressed: str) -> list:
    """Delete everything, at the second press, when the button has asked."""
    with mine.lock:
        now = mine.now
        if now is None:
            return same()
        sure = texts.CLEAR_SURE.format(clips=len(now.rows))
        if pressed != sure:
            return same(clear=_sure(sure))
        collection.delete(now)
        mine.now = Collection(now.folder)  # its folder comes with the next take
    return show(mine, None, texts.CLEARED.format(limits=LIMITS))


def write_takes(mine: Current) -> str:
    now = mine.now
    if now is None or not now.rows:
        raise refuse(texts.NO_TAKES)
    if now.swept:
        raise refuse(EXPIRED)
    path = now.folder / "your-sounds.zip"
    try:
        own.write_zip(now.rows, path)
    except OSError as error:
        raise refuse(not_stored(error)) from None
    return str(path)
