"""The HTTP endpoints, with stable names and plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa.data import tasks
from softmoa.data.limits import limits
from softmoa.data.values import InputError
from softmoa.lens import export
from softmoa.lens.ablation import Intervention, Mode, Weights
from softmoa.lens.classifier import DEFAULT_BUNDLE, bundles, open_classifier
from softmoa.lens.classify import Classification, noted, reclassify, report
from softmoa.lens.classify import classify as classify_sound
from softmoa.model.recording import LayerRecord
from softmoa.model.weights import load_backbone
from softmoa.training.plan import Comparison, plan
from softmoa.training.scoreboard import Scoreboard, conclusion
from softmoa.ui import comparing
from softmoa.ui.checks import refuse, refusing, text, whole
from softmoa.ui.figure import MODEL_QUEUE

SECONDS_BETWEEN = 1.0  # two answers of `compare`


def build() -> None:
    """Add the endpoints to a `gr.Blocks`; nothing of this is shown on the page.

    Who compares waits in the line of `jobs`, not in the queue of what classifies: a training would
    hold up everybody there.
    """
    with gr.Row(visible=False):
        for function in (classify, routing, ablate):
            _endpoint(function, concurrency_id=MODEL_QUEUE, concurrency_limit=1)
        most = limits().comparisons_waiting + 1
        _endpoint(compare, concurrency_id="compare", concurrency_limit=most)


def _endpoint(function: Callable, **queue: Any) -> None:
    """A function as an endpoint of its name, with a field for each of its parameters."""
    defaults = {name: one.default for name, one in signature(function).parameters.items()}
    fields = [_field(name, default) for name, default in defaults.items()]
    answer = gr.JSON(label="answer")
    gr.Button().click(function, fields, answer, api_name=function.__name__, **queue)


def _field(name: str, default: object):
    if name == "file":
        return gr.Audio(type="filepath", label=name)
    if isinstance(default, int):
        return gr.Number(default, label=name)
    if isinstance(default, str):
        return gr.Textbox(default, label=name)
    return gr.JSON([], label=name)


def classify(file: str, bundle: str = DEFAULT_BUNDLE, top_k: int = 5) -> dict:
    """Name a sound and report which experts took part.

    Args:
        file: A sound: WAV, FLAC, OGG or MP3; the first 30 seconds are used.
        bundle: Name of an embedded bundle of trained adapters.
        top_k: How many labels to return, best first.

    Returns:
        {"file", "bundle", "backbone", "device", "duration_s", "headline", "labels": [{"label",
        "probability"}], "experts": [{"layer", "site", "share", "contribution"}], "timing_ms"};
        layers count from 0.
        "share" and "contribution" each sum to 1 over the experts of a layer; where the experts add
        nothing, every contribution is 0. "notes" is there if anything is odd about the sound, such
        as that only its first 30 seconds were used.
    """
    top_k = whole(top_k, "top_k", 1, 10_000)
    return report(_classified(file, bundle), Path(file).name, top_k)


def routing(
    file: str,
    bundle: str = DEFAULT_BUNDLE,
    layer: int = 0,
    expert: int = 0,
    slot: int = 0,
    site: str = "mhsa",
) -> dict:
    """Dispatch and combine weights of one slot of one expert over the patches of a sound.

    Args:
        file: A sound: WAV, FLAC, OGG or MP3; the first 30 seconds are used.
        bundle: Name of an embedded bundle of trained adapters.
        layer: Index of the transformer layer, from 0.
        expert: Index of the expert, from 0.
        slot: Index of the expert's slot, from 0.
        site: The mixture's place: "mhsa" (beside attention) or "ffn" (beside the MLP).

    Returns:
        {"layer", "site", "expert", "slot", "dispatch", "combine", "special", "seconds", "hertz"}:
        the weights as (bands, columns) from the lowest band, those of the class and distillation
        tokens, start and end of each column in seconds and of each band in Hz; "notes" as of
        /classify.
    """
    layer, expert, slot = (
        whole(value, name, 0, 1000)
        for value, name in ((layer, "layer"), (expert, "expert"), (slot, "slot"))
    )
    result = _classified(file, bundle)
    record = _mixture(result, layer, site)
    dispatch, combine = export.weights_of(record)
    if not (0 <= expert < len(dispatch) and 0 <= slot < dispatch.shape[1]):
        raise refuse(
            f"This layer has {len(dispatch)} experts with {dispatch.shape[1]} slots each, "
            "counted from 0."
        )
    grid = result.grid
    d, c = dispatch[expert, slot], combine[expert, slot]
    return {
        "layer": layer,
        "site": site,
        "expert": expert,
        "slot": slot,
        "dispatch": grid.unfold(d).tolist(),
        "combine": grid.unfold(c).tolist(),
        "special": {"dispatch": d[:2].tolist(), "combine": c[:2].tolist()},
        "seconds": [grid.seconds(column) for column in range(grid.columns)],
        "hertz": [grid.hertz(band) for band in range(grid.bands)],
        **noted(result.clip),
    }


@refusing
def ablate(
    file: str,
    bundle: str = DEFAULT_BUNDLE,
    layer: int = -1,
    experts: list[int] | None = None,
    mode: Mode = "zero",
    site: str = "mhsa",
    dispatch: Weights = "learned",
    combine: Weights = "learned",
    seed: int = 0,
) -> dict:
    """Name a sound with experts switched off or routing made blind, beside the intact model.

    Args:
        file: A sound: WAV, FLAC, OGG or MP3; the first 30 seconds are used.
        bundle: Name of an embedded bundle with a mixture of adapters.
        layer: Index of the transformer layer, from 0; -1 changes all mixtures of the model.
        experts: Indices of the experts to switch off, from 0.
        mode: What becomes of their combine weights: "zero" drops them, "renormalise" hands them to
            the other experts.
        site: The mixture's place: "mhsa" (beside attention) or "ffn" (beside the MLP).
        dispatch: Weights over the tokens: "learned", "uniform" or "shuffled".
        combine: Weights over the slots: "learned", "uniform" or "shuffled".
        seed: Of the shuffle, from 0.

    Returns:
        {"file", "bundle", "backbone", "changed": [{"layer", "site"}], "intact", "ablated",
        "labels": [{"label", "probability", "logit", "ablated_probability", "ablated_logit",
        "difference"}]}: the mixtures that were changed, the best label of each model, and all
        labels, best of the intact model first; "difference" is of the logits; "notes" as of
        /classify.
    """
    layer, seed = whole(layer, "layer", -1, 1000), whole(seed, "seed", 0, 2**31 - 1)
    result = _classified(file, bundle)
    all_of_them = layer == -1 and result.records
    chosen = [of.place for of in all_of_them or [_mixture(result, layer, site)]]
    count = result.records[0].routing.expert_weights.shape[2]
    off = _experts(experts, count)
    try:
        change = Intervention(off, mode, dispatch, combine, seed)
        changed = reclassify(result, dict.fromkeys(chosen, change))
    except ValueError as error:
        raise refuse(f"This cannot be changed: {error}.") from None
    columns = (result.probabilities, result.logits, changed.probabilities, changed.logits)
    rows = zip(result.classifier.labels, *(c.tolist() for c in columns), strict=True)
    keys = "label", "probability", "logit", "ablated_probability", "ablated_logit"
    return {
        "file": Path(file).name,
        "bundle": result.classifier.name,
        "backbone": result.classifier.backbone,
        "changed": [{"layer": place[0], "site": place[1]} for place in chosen],
        "intact": result.top(1)[0][0],
        "ablated": changed.top(1)[0][0],
        "labels": [
            dict(zip(keys, row, strict=True), difference=row[4] - row[2])
            for row in sorted(rows, key=lambda row: -row[2])
        ],
        **noted(result.clip),
    }


def _experts(experts: object, count: int) -> tuple[int, ...]:
    if experts is None:
        return ()
    if not isinstance(experts, list):
        raise refuse("experts must be a list of whole numbers, such as [0, 2].")
    return tuple(sorted({whole(expert, "experts", 0, count - 1) for expert in experts}))


def _mixture(result: Classification, layer: int, site: object) -> LayerRecord:
    found = {record.place: record for record in result.records}
    if (place := (layer, text(site, "site"))) not in found:
        there = ", ".join(f"{at} {beside}" for at, beside in found) or "none in this bundle"
        raise refuse(f"There is no mixture at {layer} {site}; there are {there}.")
    return found[place]


@refusing
def _classified(file: str, bundle: str) -> Classification:
    """A sound with an embedded bundle, or a refusal."""
    if not file:
        raise refuse("Send a sound as `file`.")
    if text(bundle, "bundle") not in bundles():  # a caller may name no path
        raise refuse(f"There is no bundle of that name; there are {', '.join(bundles())}.")
    limits().check_upload(file)
    return classify_sound(open_classifier(bundle), file)


def compare(
    task: str = "instruments",
    methods: str = "linear,adapter,soft-moa",
    shots: int = 5,
    epochs: int = 2,
    seeds: str = "0",
) -> Iterator[dict]:
    """Train several fine-tuning methods on the same few clips and say which was best.

    Args:
        task: Name of a task with labelled sounds, such as "instruments" or "tones".
        methods: Names of methods, separated by commas.
        shots: Training clips per class.
        epochs: Passes over the training clips of every run.
        seeds: Seeds, separated by commas; every method is run with each.

    Returns:
        While it runs, once a second, {"status": "running", "progress", "doing"}; at the end
        {"status": "done", "task", "test_clips", "rows": [{"method", "trained_parameters", "seeds",
        "seconds", "clips_per_second", "memory_mb", "val_accuracy", "test_accuracy", "spread"}],
        "failed": [{"run", "message"}], "conclusion"}. A caller who asks for one answer gets the
        last. Runs and their seconds are limited by the server.
    """
    if text(task, "task") not in tasks.TASKS:
        raise refuse(f"There is no such task; there are {', '.join(tasks.TASKS)}.")
    board, seen = Scoreboard(), 0
    try:
        comparison = _comparison(methods, shots, epochs, seeds)
        data = tasks.load(task)
        job = comparing.begin(data, comparison)
    except InputError as error:
        raise refuse(str(error)) from None
    try:
        with job.watched():
            while not job.over:
                job.wait(SECONDS_BETWEEN)
                news = job.events[seen:]
                seen += len(news)
                board.add_all(news)
                over = sum(board.progress.values()) / len(comparison.runs)
                yield {"status": "running", "progress": round(over, 3), "doing": board.doing}
    finally:
        job.stop()
        job.wait()
        comparing.forget(job)
    board.add_all(job.events[seen:])
    if job.state == "failed":
        raise refuse(job.message)
    yield {
        "status": "done",
        "task": task,
        "test_clips": len(data.test),
        "rows": [{k: _rounded(v) for k, v in asdict(row).items()} for row in board.rows()],
        "failed": [{"run": run.run, "message": run.message} for run in board.failed],
        "conclusion": conclusion(board),
    }


def _comparison(methods: object, shots: object, epochs: object, seeds: object) -> Comparison:
    """What is asked for; raises InputError if it cannot be run."""
    numbers = [seed.strip() for seed in text(seeds, "seeds").split(",")]
    if not all(seed.isascii() and seed.isdecimal() and len(seed) < 10 for seed in numbers):
        raise refuse("seeds must be whole numbers separated by commas, such as 0,1,2.")
    try:
        asked = plan(
            text(methods, "methods").split(","),
            amount=whole(epochs, "epochs", 1, 1000),
            config=load_backbone(comparing.BACKBONE).model.config,
            seeds=[int(seed) for seed in numbers],
            shots=whole(shots, "shots", 1, limits().clips),
        )
    except InputError:
        raise
    except ValueError as error:
        raise refuse(f"This comparison cannot be run: {error}.") from None
    return comparing.bounded(asked)


def _rounded(value: object) -> object:
    """A number of a table; JSON has no NaN."""
    if not isinstance(value, float):
        return value
    return round(value, 5) if math.isfinite(value) else None
