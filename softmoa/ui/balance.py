"""Balance: how evenly the experts share the work, in all mixtures of a task, over chosen sounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from softmoa.data import audio, tasks
from softmoa.data.limits import limits
from softmoa.lens.attribution import Attribution
from softmoa.lens.balance import METRICS, at_work
from softmoa.lens.classifier import open_classifier
from softmoa.lens.task_bundles import BundleBalance, same_task
from softmoa.methods.bundle import BundleError
from softmoa.model.weights import WeightsError
from softmoa.plots import experts as plots
from softmoa.ui import comparing
from softmoa.ui.checks import refuse
from softmoa.ui.drawing import meter, place_names, row_names
from softmoa.ui.figure import MATH, QUIET, Chart, Note, chart, chosen
from softmoa.ui.texts import experts as texts

NOTES = 20  # sentences shown about sounds that were left out
MEAN = -1  # in the place of a row: the mean of all layers
UPDATE_SECONDS = 0.7
MAX_SECONDS = 10.0  # of one sound of many; the rest of it is not listened to


class Balance:
    """Laid out when it is made."""

    def __init__(self, seen: gr.State) -> None:
        self.measured = gr.State([])
        # Changed in place for a run to look at, which itself says so: what a cancelled run had sent
        # last may reach the page after the word of who cancelled it.
        stopping = gr.State({"asked": False})
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

        self.choice = over, compared, task, files = self.over, self.compared, self.task, self.files
        measuring: dict[str, Any] = QUIET | {
            "inputs": [seen, *self.choice, stopping],
            "outputs": [self.measured, self.meter, self.status, self.picture],
            "concurrency_id": "measure",  # many sounds: nobody's classification waits for them
            "concurrency_limit": 1,
            "trigger_mode": "always_last",
        }
        seen.change(self.measure_new, **measuring)
        changes = [over.input, compared.input, task.select, files.upload]
        gr.on(changes, self.measure, **measuring)
        self.stop.click(lambda it: it.update(asked=True), stopping, queue=False, **QUIET)
        over.input(self.offer_over, over, [self.task, self.files, self.stop], **QUIET)
        gr.on(
            [self.measured.change, self.layer.input],
            lambda measured, layer: metrics(measured, layer) if measured else gr.skip(),
            [self.measured, self.layer],
            self.table,
            **QUIET,
        )

    def offer(self, seen: Attribution) -> dict:
        """The controls for a new sound."""
        name = seen.result.classifier.name
        mixtures = [(title, bundle) for bundle, title in same_task(name).items()]
        rows = [(layer, row) for row, layer in enumerate(row_names(seen.result))]
        names = [bundle for _, bundle in mixtures] or [name]
        return self.offer_over("sound") | {
            self.over: "sound",
            self.compared: gr.CheckboxGroup(
                mixtures or [(name, name)], value=names, visible=len(names) > 1
            ),
            self.layer: gr.Dropdown([("Mean of all layers", MEAN), *rows], value=MEAN),
        }

    def offer_over(self, over: str) -> dict:
        """What there is to choose for a task's sounds or for the visitor's."""
        return {
            self.task: gr.Dropdown(visible=over == "task", value=None),
            self.files: gr.File(visible=over == "files", value=None),
            self.stop: gr.Button(visible=over != "sound"),
        }

    def measure_new(self, seen: Attribution | None, *before) -> Iterator[dict]:
        """`measure` for a new sound."""
        *values, stopping = before
        offered = self.offer(seen) if seen else {}
        over, compared, task, files = chosen(offered, self.choice, values)
        yield from self.measure(seen, over, compared, task, files, stopping)

    def measure(
        self,
        seen: Attribution | None,
        over: str,
        compared: Sequence[str],
        task: str | None,
        files: Sequence[str] | None,
        stopping: dict[str, bool],
    ) -> Iterator[dict]:
        """Measure all chosen mixtures, saying how far it is about once a second."""
        missing = {"task": "Choose a task." * (not task), "files": "Choose sounds." * (not files)}
        if seen is None or missing.get(over):
            yield {self.status: missing.get(over, "")}
            return
        stopping["asked"] = False
        try:
            measured = [_opened(seen, name) for name in compared]
            mels, note = _sounds(seen, over, task or "", files or [])
        except (BundleError, WeightsError, tasks.TaskError) as error:
            raise refuse(str(error)) from None
        if not measured:
            raise refuse("Choose at least one mixture.")
        began = said = time.perf_counter()
        notes = [note] if note else []
        for name, mel in mels:
            if stopping["asked"]:
                notes.insert(0, "Stopped; this is what was measured until then.")
                break
            try:
                values = mel()
            except audio.AudioError as error:
                notes.append(f"Left out: {name}. {error}")
                continue
            for one in measured:
                one.add(values)
            if time.perf_counter() - said > UPDATE_SECONDS:
                said = time.perf_counter()
                status = f"{measured[0].clips} of {len(mels)} sounds · {said - began:.0f} s"
                yield self.show(measured) | {self.status: status}
        if not measured[0].clips:
            if stopping["asked"]:
                raise refuse("Stopped before anything was measured.")
            raise refuse("None of these files is a sound that can be read.")
        status = f"{_count(measured[0].clips)} · {time.perf_counter() - began:.1f} s"
        said = "\n\n".join([status, *notes[:NOTES]])
        yield self.show(measured) | {self.measured: measured, self.status: said}

    def show(self, measured: list[BundleBalance]) -> dict:
        """The meter of the first mixture, and all experts of all mixtures."""
        shares = [[of.share for of in one.balances.values()] for one in measured]
        panels = {
            f"{one.title}: {meter(of)}": dict(zip(place_names([*one.balances]), of, strict=True))
            for one, of in zip(measured, shares, strict=True)
        }
        first, of_first = measured[0], shares[0]
        return {
            self.meter: f"## {meter(of_first)}\n{first.title}, over {_count(first.clips)}, mean of "
            f"{len(of_first)} layers: as uneven as {at_work(of_first):.1f} experts with equal "
            "shares of the combine weights. Dispatch says nothing about balance: it sums to 1 for "
            "every slot.",
            self.picture: chart(plots.shares(panels)),
        }


def _opened(seen: Attribution, name: str) -> BundleBalance:
    own = seen.result.classifier
    titles = same_task(own.name)
    if name not in {own.name, *titles}:  # a caller may not name any file on this machine
        raise BundleError("Choose mixtures from the list.")
    opened = own if name == own.name else open_classifier(name)
    return BundleBalance(opened, titles.get(name, name))


def _sounds(
    seen: Attribution, over: str, task: str, files: Sequence[str]
) -> tuple[list[tuple[str, Callable[[], Tensor]]], str]:
    """Name of each sound with what gives its log-mel, and a note if not all are used."""
    if over == "sound":
        return [("", lambda: seen.result.mel)], ""
    paths = [file.path for file in tasks.load(task).test] if over == "task" else map(Path, files)
    paths = list(paths)
    step = math.ceil(len(paths) / limits().balance_sounds)
    chosen = paths[:: step or 1]
    note = f"Of {len(paths)} sounds {len(chosen)} were used, at equal distances."
    read = tasks.CACHE.log_mel if over == "task" else _log_mel
    front_end = seen.result.classifier.model.config.front_end
    return [(p.name, partial(read, p, MAX_SECONDS, front_end)) for p in chosen], note * (step > 1)


def _log_mel(path: Path, max_seconds: float, front_end: audio.FrontEnd) -> Tensor:
    return audio.log_mel(audio.load(path, max_seconds).waveform, front_end)


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
