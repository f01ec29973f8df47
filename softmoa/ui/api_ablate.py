"""The HTTP endpoint `/ablate`: a sound with experts switched off or routing made blind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from softmoa.ablation import Intervention, Mode, Weights
from softmoa.classify import DEFAULT_BUNDLE
from softmoa.evidence import again
from softmoa.ui.calls import classified
from softmoa.ui.checks import refuse, text, whole


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
        labels, best of the intact model first; "difference" is of the logits.
    """
    layer, seed = whole(layer, "layer", -1, 1000), whole(seed, "seed", 0, 2**31 - 1)
    result = classified(file, bundle)
    places = [(record.layer, record.site) for record in result.records]
    chosen = places if layer == -1 else [place for place in places if place == (layer, site)]
    if not chosen:
        found = ", ".join(f"{at} {beside}" for at, beside in places) or "none in this bundle"
        raise refuse(f"There is no mixture at {layer} {text(site, 'site')}; there are {found}.")
    count = result.records[0].routing.expert_weights.shape[2]
    off = _experts(experts, count)
    try:
        change = Intervention(off, mode, dispatch, combine, seed)
        changed = again(result, dict.fromkeys(chosen, change))
    except ValueError as error:
        raise refuse(f"This cannot be changed: {error}.") from None
    columns = (result.probabilities, result.logits, changed.probabilities, changed.logits)
    rows = zip(result.classifier.labels, *(c.tolist() for c in columns), strict=True)
    return {
        "file": Path(file).name,
        "bundle": result.classifier.name,
        "backbone": result.classifier.backbone,
        "changed": [{"layer": place[0], "site": place[1]} for place in chosen],
        "intact": result.top(1)[0][0],
        "ablated": changed.top(1)[0][0],
        "labels": [
            {
                "label": label,
                "probability": before,
                "logit": intact,
                "ablated_probability": after,
                "ablated_logit": logit,
                "difference": logit - intact,
            }
            for label, before, intact, after, logit in sorted(rows, key=lambda row: -row[2])
        ],
    }


def _experts(experts: object, count: int) -> tuple[int, ...]:
    if experts is None:
        return ()
    if not isinstance(experts, list):
        raise refuse("experts must be a list of whole numbers, such as [0, 2].")
    return tuple(sorted({whole(expert, "experts", 0, count - 1) for expert in experts}))


def build(
    file: gr.Audio, bundle: gr.Textbox, site: gr.Textbox, answer: gr.JSON, queue: dict[str, Any]
) -> None:
    """Add the endpoint, invisible, inside a row of a `gr.Blocks`."""
    layer = gr.Number(-1, label="layer")
    experts = gr.JSON([], label="experts")
    mode, dispatch, combine = (
        gr.Textbox(value, label=name)
        for name, value in (("mode", "zero"), ("dispatch", "learned"), ("combine", "learned"))
    )
    seed = gr.Number(0, label="seed")
    gr.Button().click(
        ablate,
        [file, bundle, layer, experts, mode, site, dispatch, combine, seed],
        answer,
        api_name="ablate",
        **queue,
    )
