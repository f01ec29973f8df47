"""Balance: how evenly the experts share the work, in all mixtures of a task, over chosen sounds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa.data import audio, tasks
from softmoa.data.limits import limits
from softmoa.lens.attribution import Attribution
from softmoa.lens.balance import METRICS, at_work
from softmoa.lens.classifier import open_classifier
from softmoa.lens.task_bundles import BundleBalance, same_task
from softmoa.plots import experts as plots
from softmoa.ui import comparing
from softmoa.ui.checks import refuse, refusing
from softmoa.ui.drawing import meter, place_names, row_names
from softmoa.ui.figure import MATH, QUIET, Chart, Note, chart
from softmoa.ui.texts import experts as texts

NOTES = 20  # sentences shown about sounds that were left out
MEAN = -1  # in the place of a row: the mean of all layers
UPDATE_SECONDS = 0.7
MAX_SECONDS = 10.0  # of one sound of many; the rest of it is not listened to


class Balance:
    def __init__(self, seen: gr.State) -> None:
        self.measured = gr.State([])
        self.meter = gr.Markdown(elem_id="balance-meter")
        with gr.Row():
            overs = [("This sound", "sound"), ("A task's test set", "task"), ("My sounds", "files")]
            self.over = gr.Radio(overs, value="sound", label="Over", elem_id="balance-over")
            self.compared = gr.CheckboxGroup(
                [], label="Mixtures of the same task", elem_id="balance-compared"
            )
        with gr.Row():
            known = [(task.title, name) for name, task in comparing.embedded_tasks().items()]
            many = {"visible": False, "scale": 3}
            self.task = gr.Dropdown(known, label="Task", elem_id="balance-task", **many)
            label = f"Up to {limits().balance_sounds} sounds; {MAX_SECONDS:g} s of each are used"
            self.files = gr.File(
                file_count="multiple", label=label, height=120, elem_id="balance-files", **many
            )
            self.stop = gr.Button("Stop", visible=False, elem_id="balance-stop")
        self.status = gr.Markdown(elem_id="balance-status")
        self.picture = Chart(elem_id="balance-shares")
        with gr.Accordion("All metrics", open=False, elem_id="balance-metrics"):
            self.layer = gr.Dropdown([], label="Of", elem_id="balance-layer")
            options = {"datatype": "markdown", "latex_delimiters": MATH, "wrap": True}
            self.table = gr.Dataframe(
                **options, interactive=False, max_height=900, elem_id="balance-table"
            )
            Note(texts.METRICS_NOTE, latex_delimiters=MATH)
        self.offered = [self.over, self.compared, self.task, self.files, self.stop, self.layer]

        measuring: dict[str, Any] = QUIET | {
            "outputs": [self.measured, self.meter, self.status, self.picture, self.table],
            "concurrency_id": "measure",  # many sounds: nobody's classification waits for them
            "concurrency_limit": 1,
            "trigger_mode": "always_last",
        }
        choice = [self.over, self.compared, self.task, self.files, self.layer]
        changes = [self.over.input, self.compared.input, self.task.select, self.files.upload]
        # First: the page does not show what comes second before the first is over.
        self.over.input(self.offer_over, self.over, [self.task, self.files, self.stop], **QUIET)
        runs: list[Any] = [
            seen.change(self.measure_new, seen, **measuring),
            gr.on(changes, self.measure, [seen, *choice], **measuring),
        ]
        table: tuple = (metrics, [self.measured, self.layer], self.table)
        self.layer.input(*table, **QUIET)
        self.stop.click(*table, cancels=runs, **QUIET)

    def offer(self, seen: Attribution) -> dict:
        mixtures, rows = _mixtures(seen), enumerate(row_names(seen.result))
        choices = [(title, name) for name, title in mixtures.items()]
        layers = [("Mean of all layers", MEAN), *((layer, row) for row, layer in rows)]
        return self.offer_over("sound") | {
            self.task: gr.Dropdown(visible=False, value=_own_task(seen)),
            self.over: "sound",
            self.compared: gr.CheckboxGroup(choices, value=[*mixtures], visible=len(mixtures) > 1),
            self.layer: gr.Dropdown(layers, value=MEAN),
        }

    def offer_over(self, over: str) -> dict:
        """What there is to choose for a task's sounds or for the visitor's."""
        return {
            self.task: gr.Dropdown(visible=over == "task"),
            self.files: gr.File(visible=over == "files", value=None),
            self.stop: gr.Button(visible=over != "sound"),
        }

    def measure_new(self, seen: Attribution | None) -> Iterator[dict]:
        """A new sound alone, by what `offer` chooses: the page may not have applied that yet."""
        yield from self.measure(seen, "sound", [*_mixtures(seen)] if seen else [])

    def measure(
        self,
        seen: Attribution | None,
        over: str,
        compared: Sequence[str],
        task: str | None = None,
        files: Sequence[str] | None = None,
        layer: int = MEAN,
    ) -> Iterator[dict]:
        """Measure all chosen mixtures, showing how far it is about once a second; without a task
        over the test set of the model's own."""
        task = task or _own_task(seen)
        missing = {"task": "Choose a task." * (not task), "files": "Choose sounds." * (not files)}
        if seen is None or missing.get(over):
            yield {self.status: missing.get(over, "")}
            return
        measured = [_opened(seen, name) for name in compared]
        paths, notes = _sounds(over, task or "", files or [])
        if not measured:
            raise refuse("Choose at least one mixture.")
        began = said = time.perf_counter()
        if over == "sound":
            for one in measured:
                one.add(seen.result.mel)
        front_end = seen.result.classifier.model.config.front_end
        for path in paths:
            try:
                mel = tasks.CACHE.log_mel(path, MAX_SECONDS, front_end)
            except audio.AudioError as error:
                notes.append(f"Left out: {path.name}. {error}")
                continue
            for one in measured:
                one.add(mel)
            if time.perf_counter() - said > UPDATE_SECONDS:
                said = time.perf_counter()
                status = f"{measured[0].clips} of {len(paths)} sounds · {said - began:.0f} s"
                yield self.show(measured) | {self.status: status}
        if not measured[0].clips:
            raise refuse("None of these files is a sound that can be read.")
        status = f"{_count(measured[0].clips)} · {time.perf_counter() - began:.1f} s"
        words = "\n\n".join([status, *notes[:NOTES]])
        yield self.show(measured) | {self.status: words, self.table: metrics(measured, layer)}

    def show(self, measured: list[BundleBalance]) -> dict:
        """The meter of the first mixture, and all experts of all mixtures."""
        shares = [[of.share for of in one.balances.values()] for one in measured]
        panels = {
            f"{one.title}: {meter(of)}": dict(zip(place_names([*one.balances]), of, strict=True))
            for one, of in zip(measured, shares, strict=True)
        }
        first, of_first = measured[0], shares[0]
        return {
            self.measured: measured,
            self.meter: f"## {meter(of_first)}\n{first.title}, over {_count(first.clips)}, mean of "
            f"{len(of_first)} layers: as uneven as {at_work(of_first):.1f} experts with equal "
            "shares of the combine weights. Dispatch says nothing about balance: it sums to 1 for "
            "every slot.",
            self.picture: chart(plots.shares(panels)),
        }


def _mixtures(seen: Attribution) -> dict[str, str]:
    """Name and title of what can be compared: the model itself, and others of its task."""
    own = seen.result.classifier.name
    return same_task(own) or {own: own}


def _own_task(seen: Attribution | None) -> str | None:
    """The task of the model that is seen, if its sounds are at hand."""
    info = seen and seen.result.classifier.info
    return info.task if info and info.task in comparing.embedded_tasks() else None


@refusing
def _opened(seen: Attribution, name: str) -> BundleBalance:
    own, titles = seen.result.classifier, _mixtures(seen)
    if name not in titles:  # a caller may not name any file on this machine
        raise refuse("Choose mixtures from the list.")
    return BundleBalance(own if name == own.name else open_classifier(name), titles[name])


@refusing
def _sounds(over: str, task: str, files: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files to measure, none for the sound that is seen, and a note if not all are used."""
    if over == "sound":
        return [], []
    paths = [file.path for file in tasks.load(task).test] if over == "task" else map(Path, files)
    paths = list(paths)
    step = math.ceil(len(paths) / limits().balance_sounds)
    used = paths[:: step or 1]
    note = f"Of {len(paths)} sounds {len(used)} were used, at equal distances."
    return used, [note] * (step > 1)


def _count(clips: int) -> str:
    return "1 sound" if clips == 1 else f"{clips} sounds"


def metrics(measured: Sequence[BundleBalance], layer: int) -> gr.Dataframe:
    """Every metric of every mixture, of one row of the model or the mean of all: value, formula,
    reading and source."""
    rows = []
    for metric in METRICS:
        values = []
        for one in measured:
            balances = list(one.balances.values())
            some = balances if layer in (None, MEAN) else balances[layer:][:1]
            own = [metric.value(balance) for balance in some]
            known = [value for value in own if value is not None]
            values.append(f"{sum(known) / len(known):.3f}" if known else "\u2013")
        formula = f"${metric.formula}$"
        rows.append([f"**{metric.name}**", *values, formula, metric.reading, metric.source])
    titles = [one.title for one in measured]
    return gr.Dataframe(
        {"headers": ["Metric", *titles, "Formula", "Reading", "Source"], "data": rows},
        column_widths=["14%", *["7%"] * len(titles), "20%", f"{36 - 4 * len(titles)}%", "20%"],
    )
