"""Balance: how evenly the experts share the work, in all mixtures of a task, over chosen sounds."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from softmoa import audio, tasks
from softmoa.balance import METRICS, Metric
from softmoa.bundle import BundleError
from softmoa.classify import Classification, open_classifier
from softmoa.evidence import Evidence
from softmoa.limits import LIMITS
from softmoa.plots.shares import share_charts
from softmoa.recording import Place
from softmoa.siblings import Measured, siblings
from softmoa.tasks.archive import TooMuch, ZipLimits, unpack
from softmoa.tasks.own import SOUNDS
from softmoa.ui.checks import not_stored, refuse
from softmoa.ui.drawing import place_names, row_names
from softmoa.ui.figure import MATH, Figure
from softmoa.ui.section import Section
from softmoa.ui.texts import lens as texts
from softmoa.weights import WeightsError

NOTES = 20  # sentences shown about sounds that were left out
MEAN = -1  # in the place of a row: the mean of all layers
UPDATE_SECONDS = 0.7
MAX_SECONDS = 10.0  # of one sound of many; the rest of it is not listened to


@dataclass
class Stop:
    """A visitor's wish, for a run to look at. The run itself then says so: what a cancelled one
    had sent last may reach the page after the word of who cancelled it."""

    asked: bool = False

    def ask(self) -> None:
        self.asked = True


def build(evidence: gr.State) -> Section:
    """Lay out the section and wire it."""
    measured, stopping = gr.State([]), gr.State(Stop())
    gr.Markdown(texts.BALANCE)
    with gr.Row():
        over = gr.Radio(
            list(texts.OVERS.items()), value="sound", label=texts.OVER, elem_id="balance-over"
        )
        compared = gr.CheckboxGroup([], label=texts.COMPARED, elem_id="balance-compared")
    alone = gr.Markdown(texts.ALONE, elem_classes="quiet", visible=False, elem_id="balance-alone")
    with gr.Column(visible=False) as of_task:
        task = gr.Dropdown(
            [(tasks.TASKS[name].title, name) for name in tasks.available()],
            label=texts.TASK,
            elem_id="balance-task",
        )
    with gr.Column(visible=False) as of_files:
        files = gr.File(file_count="multiple", label=texts.FILES, elem_id="balance-files")
        folder = gr.UploadButton(
            texts.FOLDER, file_count="directory", size="sm", elem_id="balance-folder"
        )
        limits = texts.FILES_HELP.format(sounds=LIMITS.balance_sounds, seconds=MAX_SECONDS)
        gr.Markdown(limits, elem_classes="quiet")
    with gr.Row():
        start = gr.Button(texts.MEASURE, variant="primary", size="md", elem_id="balance-start")
        stop = gr.Button(texts.STOP, size="md", elem_id="balance-stop")
    status = gr.Markdown(elem_id="balance-status")
    charts = Figure(elem_id="balance-charts")
    layer = gr.Dropdown(
        [(texts.MEAN_LAYER, MEAN)], value=MEAN, label=texts.LAYER_OF_TABLE, elem_id="balance-layer"
    )
    table = gr.Markdown(elem_id="balance-table", latex_delimiters=MATH)
    gr.Markdown(texts.METRICS_NOTE, latex_delimiters=MATH, elem_classes="quiet")

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    measure: dict[str, Any] = {
        "fn": run,
        "inputs": [evidence, over, compared, task, files, layer, stopping],
        "outputs": [measured, status, charts, table],
        "concurrency_id": "measure",  # many sounds: nobody's classification waits for them
        "concurrency_limit": 1,
        **quick,
    }
    over.input(
        lambda over: [gr.Column(visible=over == "task"), gr.Column(visible=over == "files")],
        over,
        [of_task, of_files],
        **quick,
    )
    folder.upload(lambda paths: paths, folder, files, **quick)
    start.click(**measure)
    stop.click(Stop.ask, stopping, queue=False, **quick)
    layer.input(table_of, [measured, layer], table, **quick)
    return Section(
        redraw={**measure, "fn": run_on_sound},
        reset=(over, of_task, of_files, compared, alone, layer),
    )


def reset(result: Classification) -> list:
    """The controls for a new sound, in the order of `Section.reset`."""
    found = siblings(result.classifier.name)
    others = found or {result.classifier.name: result.classifier.name}
    rows = [(name, i) for i, name in enumerate(row_names(result))]
    hidden = gr.Column(visible=False)
    return [
        "sound",
        hidden,
        hidden,
        gr.CheckboxGroup([(title, name) for name, title in others.items()], value=list(others)),
        gr.Markdown(visible=len(others) < 2),
        gr.Dropdown([(texts.MEAN_LAYER, MEAN), *rows], value=MEAN),
    ]


def run_on_sound(evidence, over, compared, task, files, layer, stopping) -> Iterator[list]:
    """As `run`, after a new sound; nothing if it is not measured over the sound."""
    if over != "sound":
        yield [gr.skip()] * 4
        return
    yield from run(evidence, over, compared, task, files, layer, stopping)


def run(
    evidence: Evidence | None,
    over: str,
    compared: Sequence[str],
    task: str | None,
    files: Sequence[str] | None,
    layer: int,
    stopping: Stop,
) -> Iterator[list]:
    """Measure all chosen mixtures, saying how far it is about once a second."""
    if evidence is None:
        yield [gr.skip()] * 4
        return
    stopping.asked = False
    try:
        unpacked = tempfile.TemporaryDirectory(prefix="softmoa-balance-")
    except OSError as error:
        raise refuse(not_stored(error)) from None
    with unpacked as folder:
        try:
            measured = [_opened(evidence, name) for name in compared]
            mels, note = _sounds(evidence, over, task, files, Path(folder))
        except (BundleError, WeightsError, tasks.TaskError) as error:
            raise refuse(str(error)) from None
        if not measured:
            raise refuse(texts.NONE_CHOSEN)
        began = said = time.perf_counter()
        notes = [note] if note else []
        for name, mel in mels:
            if stopping.asked:
                notes.insert(0, texts.STOPPED)
                break
            try:
                values = mel()
            except audio.AudioError as error:
                notes.append(texts.LEFT_OUT.format(name=name, why=error))
                continue
            for one in measured:
                one.add(values)
            if time.perf_counter() - said > UPDATE_SECONDS:
                said = time.perf_counter()
                status = texts.MEASURING.format(
                    done=measured[0].clips, total=len(mels), seconds=said - began
                )
                yield [measured, status, charts_of(measured), table_of(measured, layer)]
    if not measured[0].clips:
        raise refuse(texts.STOPPED_EARLY if stopping.asked else texts.NO_SOUND_FOUND)
    status = texts.MEASURED.format(
        done=_count(measured[0].clips), seconds=time.perf_counter() - began
    )
    status = "\n\n".join([status, *notes[:NOTES]])
    yield [measured, status, charts_of(measured), table_of(measured, layer)]


def _opened(evidence: Evidence, name: str) -> Measured:
    own = evidence.result.classifier
    titles = siblings(own.name)
    if name == own.name:
        return Measured(own, titles.get(name, name))
    if name not in titles:  # a caller may not name any file on this machine
        raise BundleError(texts.NO_SIBLING)
    return Measured(open_classifier(name), titles[name])


def _sounds(
    evidence: Evidence, over: str, task: str | None, files: Sequence[str] | None, folder: Path
) -> tuple[list[tuple[str, Callable[[], Tensor]]], str]:
    """Name of each sound with what gives its log-mel, and a note; zips are unpacked in `folder`."""
    if over == "sound":
        return [("", lambda: evidence.result.mel)], ""
    if over == "task":
        if not task:
            raise tasks.TaskError(texts.NO_TASK)
        paths = [file.path for file in tasks.load(task).test]
    elif files:
        try:
            paths = sounds_of([Path(file) for file in files], folder)
        except OSError as error:
            raise tasks.TaskError(not_stored(error)) from None
    else:
        raise tasks.TaskError(texts.NO_SOUNDS)
    step = math.ceil(len(paths) / LIMITS.balance_sounds)
    chosen = paths[:: step or 1]
    note = texts.CHOSEN.format(some=len(chosen), all=len(paths)) if step > 1 else ""
    read = tasks.CACHE.log_mel if over == "task" else _log_mel
    return [(path.name, partial(read, path, MAX_SECONDS)) for path in chosen], note


def sounds_of(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The files of what was sent, in the place of a zip those with a sound's suffix in it.

    Raises TaskError if a zip cannot be used or all of them are too much, OSError if the disk is
    full.
    """
    found, limits = [], ZipLimits(file_mb=LIMITS.upload_mb)
    left = limits
    for number, path in enumerate(paths):
        if path.suffix.lower() != ".zip":
            found.append(path)
            continue
        target = folder / str(number)
        try:
            unpack(path, target, left, SOUNDS)
        except TooMuch:
            if left == limits:
                raise
            most = {"files": limits.files, "mb": limits.total_mb}
            raise tasks.TaskError(texts.ZIPS_TOO_LARGE.format(**most)) from None
        inside = sorted(file for file in target.rglob("*") if file.is_file())
        size = sum(file.stat().st_size for file in inside) / 1e6
        left = replace(left, files=left.files - len(inside), total_mb=left.total_mb - size)
        found += inside
    return found


def _log_mel(path: Path, max_seconds: float) -> Tensor:
    return audio.log_mel(audio.load(path, max_seconds).waveform)


def _count(clips: int) -> str:
    return "1 sound" if clips == 1 else f"{clips} sounds"


def _places(measured: list[Measured]) -> list[Place]:
    return sorted({place for one in measured for place in one.balances}, key=_order)


def _order(place: Place) -> tuple[int, bool]:
    return place[0], place[1] == "ffn"


def charts_of(measured: list[Measured]) -> str:
    """The shares of all experts of all layers and mixtures, on one scale."""
    places = _places(measured)
    return share_charts(
        {
            one.title: [b.share if (b := one.balances.get(place)) else None for place in places]
            for one in measured
        },
        rows=place_names(places),
        title=texts.CHARTS,
        unit=texts.CHARTS_UNIT.format(sounds=_count(measured[0].clips)),
    )


def table_of(measured: list[Measured], layer: int) -> str:
    """Every metric of every mixture: value, formula, reading and source, as an HTML table whose
    formulas the page typesets."""
    if not measured:
        return ""
    places = _places(measured)
    chosen = places if layer == MEAN else places[layer : layer + 1]
    name, formula, reading, source = texts.TABLE
    head = "".join(f"<th>{escape(one.title)}</th>" for one in measured)
    rows = []
    for metric in METRICS:
        values = "".join(
            f"<td class='moa-val'>{number(mean_of(metric, one, chosen))}</td>" for one in measured
        )
        rows.append(
            f"<tr><td><b>{escape(metric.name)}</b></td>{values}<td class='moa-formula'>"
            f"${escape(metric.formula)}$</td><td class='moa-words'>{escape(metric.reading)}</td>"
            f"<td class='moa-words'>{escape(metric.source)}</td></tr>"
        )
    return (
        f"<div class='moa-balance'><table><thead><tr><th>{name}</th>{head}<th>{formula}</th>"
        f"<th>{reading}</th><th>{source}</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )


def mean_of(metric: Metric, measured: Measured, places: Sequence[Place]) -> float | None:
    """A metric's mean over mixtures; None if none of them has it."""
    values = [metric.value(measured.balances[p]) for p in places if p in measured.balances]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def number(value: float | None) -> str:
    """Three decimals below 10; a dash where there is nothing to measure."""
    if value is None:
        return "\u2013"
    if math.isinf(value):
        return "\u221e"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
