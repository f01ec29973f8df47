"""The HTTP endpoints `/classify` and `/routing`: plain JSON values, stable names."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from softmoa import export
from softmoa.audio import AudioError
from softmoa.bundle import BundleError
from softmoa.classify import (
    DEFAULT_BUNDLE,
    Classification,
    bundles,
    open_classifier,
    report,
)
from softmoa.classify import classify as run
from softmoa.ui.figure import MODEL_QUEUE
from softmoa.weights import WeightsError


def build() -> None:
    """Add the endpoints to a `gr.Blocks`; nothing of this is shown on the page."""
    with gr.Row(visible=False):
        file = gr.Audio(type="filepath", label="file")
        bundle = gr.Textbox(DEFAULT_BUNDLE, label="bundle")
        top_k, layer, expert, slot = (
            gr.Number(value, precision=0, label=name)
            for name, value in (("top_k", 5), ("layer", 0), ("expert", 0), ("slot", 0))
        )
        site = gr.Textbox("mhsa", label="site")
        answer = gr.JSON(label="answer")
        queue = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
        gr.Button().click(classify, [file, bundle, top_k], answer, api_name="classify", **queue)
        gr.Button().click(
            routing, [file, bundle, layer, expert, slot, site], answer, api_name="routing", **queue
        )


def classify(file: str, bundle: str = DEFAULT_BUNDLE, top_k: int = 5) -> dict:
    """Name a sound and report which experts took part.

    Args:
        file: A sound: WAV, FLAC, OGG or MP3; the first 30 seconds are used.
        bundle: Name of an embedded bundle of trained adapters.
        top_k: How many labels to return, best first.

    Returns:
        {"file", "bundle", "backbone", "device", "duration_s", "labels": [{"label", "probability"}],
        "experts": [{"layer", "site", "share", "contribution"}], "timing_ms"}; layers count from 0.
    """
    if not 1 <= top_k <= 10_000:
        raise gr.Error("top_k must be from 1 to 10000.", print_exception=False)
    return report(_run(file, bundle), Path(file).name, top_k)


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
        tokens, start and end of each column in seconds and of each band in Hz.
    """
    result = _run(file, bundle)
    for record in result.records:
        if (record.layer, record.site) == (layer, site):
            break
    else:
        places = ", ".join(f"{record.layer} {record.site}" for record in result.records)
        raise gr.Error(
            f"There is no mixture at {layer} {site}; there are {places}.", print_exception=False
        )
    dispatch, combine = export.weights_of(record)
    if not (0 <= expert < len(dispatch) and 0 <= slot < dispatch.shape[1]):
        raise gr.Error(
            f"This layer has {len(dispatch)} experts with {dispatch.shape[1]} slots each, "
            "counted from 0.",
            print_exception=False,
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
    }


def _run(file: str, bundle: str) -> Classification:
    if not file:
        raise gr.Error("Send a sound as `file`.", print_exception=False)
    if bundle not in bundles():  # a caller may name embedded bundles only, never a path
        raise gr.Error(
            f"There is no bundle of that name; there are {', '.join(bundles())}.",
            print_exception=False,
        )
    try:
        return run(open_classifier(bundle), file)
    except (AudioError, BundleError, WeightsError) as error:
        raise gr.Error(str(error), print_exception=False) from None
