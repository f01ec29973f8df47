"""The tab "Your sounds": record or upload classes of one's own, train on them, try the result."""

from __future__ import annotations

from pathlib import Path
from threading import Timer
from typing import Any

import gradio as gr

from softmoa.data import collection, own, tasks
from softmoa.data.audio import AudioError
from softmoa.data.collection import Collection, Current
from softmoa.data.limits import LimitError, limits
from softmoa.data.own import DataLimits
from softmoa.data.tasks import Row, TaskError
from softmoa.ui.checks import not_stored, plain, refuse, warn
from softmoa.ui.collect_train import Training, expired, takes, titled
from softmoa.ui.compare import Compare
from softmoa.ui.drawing import spectrogram
from softmoa.ui.examples import is_offered
from softmoa.ui.figure import QUIET, Gallery, Note, Player, Recorder, Table, progress_on

QUICK: dict[str, Any] = QUIET | {"concurrency_limit": 4}
REMOVE, CLEAR = "Remove this class", "Delete everything"
NO_TAKES = "No takes yet."
DRAWN = 20.0  # seconds in which the page has fetched a take for its waveform
READY = ("guitar", "organ", "flute")
HELP = """\
Of a take the first 10 s are used, without the silence before and after. Takes stay on this server
until you delete them, or for {limits.upload_minutes} minutes after the last one. A page that is
loaded again begins without them: download them before.

A zip has a folder for each class, or a table `path,label[,split][,group]` beside the sounds: up to
{limits.clips} clips, {limits.classes} classes and {limits.upload_mb:g} MB. Clips of one group, such
as a speaker, stay together when the sounds are divided."""


def data_limits() -> DataLimits:
    bounds = limits()
    unpacked = own.ZipLimits(files=bounds.clips + 500, total_mb=4 * bounds.upload_mb)
    return DataLimits(bounds.classes, bounds.clips, unpacked)


class Sounds:
    """The tab, laid out and wired where it is made, inside a `gr.Tab`."""

    def __init__(self, raced: Compare) -> None:
        # Changed in place, and an output all the same: gradio deletes no State that never was one.
        self.mine = gr.State(Current(), delete_callback=lambda mine: collection.delete(mine.now))
        self.chosen = gr.State()  # a Row
        self.own_tasks = raced.own_tasks
        gr.Markdown(
            "Teach the model sounds of your own: name two or more classes, record a few takes of "
            "each, train, and try it at once. Five takes a class are enough to begin with."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                with gr.Row():
                    self.name = gr.Textbox(
                        label="Name of a class", placeholder="such as: clap, whistle, nothing",
                        max_lines=1, scale=3, min_width=160, elem_id="class-name",
                    )  # fmt: skip
                    add = gr.Button(
                        "Add", size="md", min_width=80, interactive=False, elem_id="add-class"
                    )
                self.status = gr.Markdown(NO_TAKES, elem_id="collect-status")
                with gr.Column(visible=False) as self.named:
                    self.label = gr.Radio([], label="Class to record", elem_id="take-class")
                    self.take = Recorder(label="Record a take, or choose a file", elem_id="take")
                    self.remove = gr.Button(REMOVE, size="sm", elem_id="remove-class")
                self.upload = gr.UploadButton(
                    "Add a zip of sounds", file_types=[".zip"], size="md", elem_id="upload-zip"
                )
                ready = "No sounds at hand? Take some of three instruments"
                self.ready = gr.Button(ready, size="md", elem_id="ready-takes")
                with gr.Accordion("What becomes of the sounds, what a zip may hold", open=False):
                    Note(HELP.format(limits=limits()))
            with gr.Column(scale=3, min_width=320):
                self.gallery = Gallery(columns=6, elem_id="takes")
                with gr.Column(visible=False) as self.one:
                    self.player = Player(
                        label="The chosen take", buttons=["download"], elem_id="player"
                    )
                    delete = gr.Button("Delete this take", size="md", elem_id="delete-take")
                with gr.Column(visible=False) as self.any:
                    splits = ["Class", "Train", "Validate", "Test"]
                    self.division = Table(headers=splits, elem_id="division")
                    self.remarks = Note(elem_id="remarks")
                    with gr.Row():
                        pack = gr.Button("Pack all takes", size="md", elem_id="save-takes")
                        self.zip = gr.DownloadButton(
                            "Download the zip", size="md", visible=False, elem_id="file-takes"
                        )
                        self.clear = gr.Button(CLEAR, size="md", elem_id="clear-takes")
        self.training = Training(self.mine, raced)
        self.shown = [
            self.mine, self.name, self.take, self.label, self.gallery, self.chosen, self.named,
            self.one, self.player, self.any, self.division, self.remarks, self.remove, self.clear,
            self.status, self.zip, self.ready, self.own_tasks, *self.training.buttons,
        ]  # fmt: skip
        mine, label, chosen = self.mine, self.label, self.chosen
        self.take.start_recording(recording, [mine, label], self.status, **QUICK)
        self.name.change(may_add, self.name, add, trigger_mode="always_last", **QUICK)
        label.input(lambda: _button(REMOVE), None, self.remove, **QUICK)
        pack.click(self.write_takes, mine, self.zip, **QUICK)
        unpacking = QUICK | progress_on(self.status)
        unpacked = self.upload.upload(
            self.add_zip, [mine, self.upload], [mine, self.status], **unpacking
        )
        # Only then, so that what was chosen while it was unpacked stays so.
        unpacked.then(self.show, [mine, label, self.status, chosen], self.shown, **QUICK)
        for event, change, inputs in (
            (add.click, self.add_class, [mine, self.name]),
            (self.name.submit, self.add_class, [mine, self.name]),
            (self.take.input, self.add_take, [mine, label, self.take]),
            (self.ready.click, self.add_ready, mine),
            (self.gallery.select, self.choose, mine),
            (delete.click, self.drop, [mine, label, chosen]),
            (self.remove.click, self.remove_class, [mine, label, self.remove]),
            (self.clear.click, self.start_over, [mine, self.clear]),
        ):
            event(change, inputs, self.shown, **QUICK)

    def show(self, mine: Current, label: str | None, says: str, chosen: Row | None = None) -> dict:
        """Everything the tab shows of a collection."""
        with mine.lock:
            now = mine.now
            if now is None:
                return {self.mine: mine}
            if now.swept:
                now = mine.now = Collection(now.folder, now.labels)
                says = expired()
        label = label if label in now.labels else (now.labels[-1] if now.labels else None)
        chosen = chosen if chosen in now.rows else None
        table, remarks, own_tasks = [], "", []
        try:
            data = now.build()
            own_tasks, counts = [titled(data.task)], data.task.counts
            table = [list(row) for row in zip(data.task.labels, *counts.values(), strict=True)]
            remarks = "\n".join(f"- {plain(remark.message)}" for remark in data.remarks)
        except TaskError as error:
            says = f"{says} {plain(str(error))}".strip()
        return {
            self.mine: mine,
            self.label: gr.Radio(list(now.labels), value=label),
            # A take may go while the others are drawn.
            self.gallery: [
                (spectrogram(row.path), name) for row, name in takes(now) if row.path.exists()
            ],
            self.chosen: chosen,
            self.named: gr.Column(visible=bool(now.labels)),
            self.one: gr.Column(visible=chosen is not None),
            self.player: str(chosen.path) if chosen else None,
            self.any: gr.Column(visible=bool(now.rows)),
            self.division: table,
            self.remarks: remarks,
            self.remove: _button(REMOVE),
            self.clear: _button(CLEAR),
            self.zip: gr.DownloadButton(visible=False),
            self.ready: gr.Button(visible=not now.labels),
            self.status: says,
            self.own_tasks: own_tasks,
            **self.training.allow(bool(own_tasks)),
        }

    def add_class(self, mine: Current, name: str) -> dict:
        try:
            with mine.lock:
                now, says = kept(mine.now)
                mine.now = now = now.add_label(name, data_limits())
        except (OSError, TaskError) as error:
            return self._refused(mine, error)
        return {**self.show(mine, now.labels[-1], says), self.name: ""}

    def add_take(self, mine: Current, label: str, path: str | None) -> dict:
        if path is None:
            return {self.mine: mine}
        try:
            with mine.lock:
                now, says = kept(mine.now)
                mine.now, seconds = now, _ = now.add_take(label, path, data_limits())
        except (AudioError, OSError, TaskError) as error:
            return {**self._refused(mine, error), self.take: None}
        finally:
            _delete_upload(path, DRAWN)
        added = f"Added take {len(now.of(label))} of '{plain(label)}', {seconds:.1f} s."
        return {**self.show(mine, label, f"{says} {added}".strip()), self.take: None}

    def add_zip(self, mine: Current, path: str) -> dict:
        """All clips of a zip, and what is said of it; the upload itself does not stay."""
        try:
            limits().check_upload(path)
            with collection.unpacked(Path(path), data_limits()) as (rows, remarks), mine.lock:
                now, says = kept(mine.now)
                mine.now = after = now.add_clips(rows, remarks, data_limits())
        except (LimitError, OSError, TaskError) as error:
            return self._refused(mine, error)
        finally:
            _delete_upload(path)
        clips = set(after.rows).difference(now.rows)
        classes = len({row.label for row in clips})
        added = f"Added {len(clips)} clips of {classes} classes."
        return {self.mine: mine, self.status: f"{says} {added}".strip()}

    def add_ready(self, mine: Current) -> dict:
        """Takes of three instruments, for who has no sounds of their own at hand."""
        try:
            with mine.lock:
                now, says = kept(mine.now)
                for label, path in ready_takes():
                    if label not in now.labels:
                        now = now.add_label(label, data_limits())
                    now, _ = now.add_take(label, path, data_limits())
                mine.now = now
        except (OSError, TaskError) as error:
            return self._refused(mine, error)
        added = "Nine takes each of a guitar, an organ and a flute: now train on them."
        return self.show(mine, None, f"{says} {added}".strip())

    def _refused(self, mine: Current, error: Exception) -> dict:
        sentence = not_stored(error) if isinstance(error, OSError) else str(error)
        return {self.mine: mine, self.status: warn(sentence)}

    def choose(self, mine: Current, event: gr.SelectData) -> dict:
        """A press on a take: play it, or delete it."""
        caption = event.value.get("caption") if isinstance(event.value, dict) else None
        for row, name in takes(mine.now):
            if name == caption:
                return self.show(mine, row.label, f"Take {plain(name)}.", row)
        return {self.mine: mine}

    def drop(self, mine: Current, label: str, chosen: Row | None) -> dict:
        with mine.lock:
            now = mine.now
            if now is None or chosen is None or chosen not in now.rows:
                return {self.mine: mine}
            mine.now = now.drop(now.rows.index(chosen))
        return self.show(mine, label, "")

    def remove_class(self, mine: Current, label: str, pressed: str) -> dict:
        """Remove the chosen class; one with takes at the second press, when it has asked."""
        with mine.lock:
            now = mine.now
            if now is None or label not in now.labels:
                return {self.mine: mine}
            sure = f"Yes, remove '{label}' (takes: {len(now.of(label))})"
            if now.of(label) and pressed != sure:
                return {self.remove: _button(sure, "stop")}
            mine.now = now.drop_label(label)
        return self.show(mine, None, f"Removed '{plain(label)}'.")

    def start_over(self, mine: Current, pressed: str) -> dict:
        """Delete everything, at the second press, when the button has asked."""
        with mine.lock:
            now = mine.now
            if now is None:
                return {self.mine: mine}
            sure = f"Yes, delete all classes (takes: {len(now.rows)})"
            if pressed != sure:
                return {self.clear: _button(sure, "stop")}
            collection.delete(now)
            mine.now = Collection(now.folder)  # its folder comes with the next take
        minutes = f"{limits().upload_minutes} minutes"
        says = f"Everything was deleted; what the player fetched of it goes within {minutes}."
        return self.show(mine, None, says)

    def write_takes(self, mine: Current) -> dict:
        """Offer all takes as a zip."""
        now = mine.now
        if now is None or not now.rows:
            raise refuse(NO_TAKES)
        if now.swept:
            raise refuse(expired())
        path = now.folder / "your-sounds.zip"
        try:
            own.write_zip(now.rows, path)
        except OSError as error:
            raise refuse(not_stored(error)) from None
        return {self.zip: gr.DownloadButton(value=str(path), visible=True)}


def ready_takes() -> list[tuple[str, Path]]:
    """Label and file, of several recordings of every instrument of READY."""
    task = tasks.load("instruments")
    found = [(task.labels[file.label], file.path) for file in task.train]
    return [take for label in READY for take in [t for t in found if t[0] == label][::4]]


def may_add(name: str) -> gr.Button:
    return gr.Button(interactive=bool(name.strip()))


def recording(mine: Current, label: str) -> str:
    """What the status says while the microphone is on."""
    number = len(mine.now.of(label)) + 1 if mine.now else 1
    return f"### ● Recording take {number} of '{plain(label)}'\nPress *Stop* when it is over."


def kept(now: Collection | None) -> tuple[Collection, str]:
    """The visitor's collection, or a new one if its folder is gone, and what became of its takes.

    Raises OSError if the server has no room for a new one.
    """
    minutes = limits().upload_minutes
    if now is None:
        return collection.new(minutes), ""
    if now.folder.is_dir():
        return now, ""
    return collection.new(minutes, now.labels), expired() if now.rows else ""


def _button(text: str, variant: Any = "secondary") -> gr.Button:
    """A button that may ask before it deletes; its text comes back when it is pressed again."""
    return gr.Button(text, variant=variant)


def _delete_upload(path: str, after: float = 0) -> None:
    """The server's copy of what was sent, as many seconds later: what is kept of it is in the
    collection. One sent again since then stays."""
    sent = Path(path)
    if not sent.exists() or is_offered(path):
        return
    stamp = sent.stat().st_mtime_ns

    def delete() -> None:
        if sent.exists() and sent.stat().st_mtime_ns == stamp:
            sent.unlink(missing_ok=True)

    if after:
        timer = Timer(after, delete)
        timer.daemon = True
        timer.start()
    else:
        delete()
