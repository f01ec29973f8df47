"""What the Explore tab shows of a classification, for a choice of layer, expert and patch.

Everything is drawn from the records of the one forward pass; the model is not run again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from softmoa import export, plots
from softmoa.audio import SAMPLE_RATE
from softmoa.classify import Classification
from softmoa.contribution import (
    expert_contribution,
    expert_norms,
    expert_outputs,
    expert_share,
    fractions,
)
from softmoa.moa import Gates
from softmoa.recording import LayerRecord, Place
from softmoa.ui.texts import explore as texts


def figures(
    result: Classification,
    layer: int,
    site: str,
    view: str,
    expert: int,
    slot: int,
    token: int | None,
) -> list[str]:
    """Overlay, its note, patch table, all experts, contributions of all layers and of this one.

    layer: from 1. view: "dispatch" or "combine". expert, slot: from 0. token: a patch or None.
    """
    row, record = _find(result, layer, site)
    multiple, unit = multiples(record, view)  # (n, p, m)
    n, p, _ = multiple.shape
    maps = result.grid.unfold(multiple).flatten(0, 1)  # (n p, bands, columns)
    name = f"Expert {expert + 1}" + (f", slot {slot + 1}" if p > 1 else "")
    where = f"layer {layer}, beside {record.site.upper()}"
    scale = {
        "unit": unit,
        "vmin": maps.min().item(),
        "vmax": plots.scale_top(maps.numpy(), maps.min().item()),
        "uniform": 1.0,
        "real_frames": real_frames(result),
    }
    return [
        plots.overlay(
            result.mel,
            result.grid.unfold(multiple[expert, slot]),
            result.grid,
            title=f"{kind_of(record, view).capitalize()} of {name.lower()}, {where}",
            special=multiple[expert, slot, :2].tolist(),
            selected=token,
            **scale,
        ),
        texts.VIEW_NOTES[kind_of(record, view)],
        _patch_table(result, record, token),
        plots.experts(
            result.mel,
            maps,
            result.grid,
            titles=slot_names(n, p),
            title=f"{kind_of(record, view).capitalize()} of all experts, {where}",
            slots=p,
            selected=expert * p + slot,
            **scale,
        ),
        plots.contribution_bars(
            torch.cat([expert_contribution(r) for r in result.records]),
            overall=overall_contribution(result),
            layers=row_names(result),
            title="Contribution of the experts, layer by layer",
            unit="share of the added length",
            selected=(row, expert),
        ),
        plots.expert_bars(
            {
                "share (combine)": expert_share(record)[0],
                "contribution": expert_contribution(record)[0],
            },
            title=f"Layer {layer}, beside {record.site.upper()}",
            selected=expert,
        ),
    ]


def report_png(result: Classification, layer: int, site: str, view: str) -> bytes:
    """One page: waveform, log-mel, all experts of the layer and the contributions."""
    _, record = _find(result, layer, site)
    kind = kind_of(record, view)
    multiple, unit = multiples(record, view)
    label, probability = result.top(1)[0]
    return plots.report_png(
        result.clip.waveform,
        SAMPLE_RATE,
        result.mel,
        result.grid.unfold(multiple).flatten(0, 1),
        result.grid,
        titles=slot_names(*multiple.shape[:2]),
        unit=unit,
        contribution=torch.cat([expert_contribution(r) for r in result.records]),
        overall=overall_contribution(result),
        layers=row_names(result),
        heading=f"{label} ({100 * probability:.0f} %)",
        details=f"{result.classifier.name} on {result.classifier.backbone}",
        map_title=f"{kind.capitalize()}, layer {layer}, beside {record.site.upper()}",
        real_frames=real_frames(result),
    )


def overall_contribution(result: Classification) -> torch.Tensor:
    """(n,): what each expert adds, summed over all mixtures, as a share of all experts'; all 0
    where nothing is added."""
    return fractions(torch.cat([expert_norms(record) for record in result.records]).sum(dim=0))


def real_frames(result: Classification) -> int:
    """Frames that hold sound; a clip shorter than one patch is padded beyond them."""
    return max(1, round(100 * result.clip.seconds))


def _patch_table(result: Classification, record: LayerRecord, token: int | None) -> str:
    """The exact weights of one patch in this layer, as a table."""
    if token is None or not 0 <= token < result.grid.tokens:
        return f"<p class='quiet'>{texts.PICK}</p>"
    if token < len(export.SPECIAL):
        place = f"The {export.SPECIAL[token]} token, which stands for the whole clip"
    else:
        band, column = result.grid.place(token)
        (start, end), (low, high) = result.grid.seconds(column), result.grid.hertz(band)
        place = f"Patch at {start:.2f}–{end:.2f} s, {low:.0f}–{high:.0f} Hz (token {token})"
    dispatch, combine = export.weights_of(record)
    added = expert_outputs(record)[0, token].norm(dim=-1)
    rows = "".join(
        f"<tr><td>{j + 1}</td><td>{_numbers(dispatch[j, :, token])}</td>"
        f"<td>{_numbers(combine[j, :, token])}</td><td>{added[j]:.4g}</td></tr>"
        for j in range(len(dispatch))
    )
    return (
        f"<div class='patch'><b>{place}</b><table><thead><tr><th>Expert</th>"
        "<th>Dispatch weight</th><th>Combine weight</th><th>Length of what it adds</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def multiples(record: LayerRecord, view: str) -> tuple[torch.Tensor, str]:
    """Dispatch or combine weights (n, p, m) as multiples of an even spread, and that unit."""
    dispatch, combine = export.weights_of(record)
    n, p, m = dispatch.shape
    if kind_of(record, view) == "dispatch":
        return dispatch * m, "times an even spread"
    return combine * (n * p), "times an equal share"


def kind_of(record: LayerRecord, view: str) -> str:
    """What a view shows: a token router has but one weight, its gate, for both views."""
    return "gates" if isinstance(record.routing, Gates) else view


def slot_names(n: int, p: int) -> list[str]:
    return [f"E{j + 1}" + f".{k + 1}" * (p > 1) for j in range(n) for k in range(p)]


def _find(result: Classification, layer: int, site: str) -> tuple[int, LayerRecord]:
    """Row and record of a layer (from 1) and site; the first one if there is none such."""
    for row, record in enumerate(result.records):
        if (record.layer + 1, record.site) == (layer, site):
            return row, record
    return 0, result.records[0]


def row_names(result: Classification) -> list[str]:
    return place_names([(record.layer, record.site) for record in result.records])


def place_names(places: Sequence[Place]) -> list[str]:
    """What mixtures are called; their site is named where a model has them at both."""
    both = len({site for _, site in places}) > 1
    return [f"Layer {layer + 1}" + f" {site.upper()}" * both for layer, site in places]


def _numbers(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.5f}" for value in values.tolist())
