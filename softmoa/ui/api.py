"""The HTTP endpoints, with stable names and plain JSON values.

`/ablate` is in api_ablate, `/compare` in api_compare.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from softmoa import export
from softmoa.classify import DEFAULT_BUNDLE, report
from softmoa.ui import api_ablate, api_compare
from softmoa.ui.calls import classified
from softmoa.ui.checks import refuse, text, whole
from softmoa.ui.figure import MODEL_QUEUE


def build() -> None:
    """Add the endpoints to a `gr.Blocks`; nothing of this is shown on the page."""
    with gr.Row(visible=False):
        file = gr.Audio(type="filepath", label="file")
        bundle = gr.Textbox(DEFAULT_BUNDLE, label="bundle")
        top_k, layer, expert, slot = (
            gr.Number(value, label=name)
            for name, value in (("top_k", 5), ("layer", 0), ("expert", 0), ("slot", 0))
        )
        site = gr.Textbox("mhsa", label="site")
        answer = gr.JSON(label="answer")
        queue = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
        gr.Button().click(classify, [file, bundle, top_k], answer, api_name="classify", **queue)
        gr.Button().click(
            routing, [file, bundle, layer, expert, slot, site], answer, api_name="routing", **queue
        )
        api_ablate.build(file, bundle, site, answer, queue)
        api_compare.build()


def classify(file: str, bundle: str = DEFAULT_BUNDLE, top_k: int = 5) -> dict:
    """Name a sound and report which experts took part.

    Args:
        file: A sound: WAV, FLAC, OGG or MP3; the first 30 seconds are used.
        bundle: Name of an embedded bundle of trained adapters.
        top_k: How many labels to return, best first.

    Returns:
        {"file", "bundle", "backbone", "device", "duration_s", "labels": [{"label", "probability"}],
        "experts": [{"layer", "site", "share", "contribution"}], "timing_ms"}; layers count from 0.
        "share" and "contribution" each sum to 1 over the experts of a layer; where the experts add
        nothing, every contribution is 0.
    """
    top_k = whole(top_k, "top_k", 1, 10_000)
    return report(classified(file, bundle), Path(file).name, top_k)


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
    layer, expert, slot = (
        whole(value, name, 0, 1000)
        for value, name in ((layer, "layer"), (expert, "expert"), (slot, "slot"))
    )
    result = classified(file, bundle)
    for record in result.records:
        if (record.layer, record.site) == (layer, site):
            break
    else:
        places = ", ".join(f"{record.layer} {record.site}" for record in result.records)
        raise refuse(f"There is no mixture at {layer} {text(site, 'site')}; there are {places}.")
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
    }
