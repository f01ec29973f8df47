"""Numbers of a classification as the tabs show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from softmoa.data import audio
from softmoa.lens import export
from softmoa.lens.balance import at_work
from softmoa.lens.classify import Classification
from softmoa.lens.contribution import expert_contribution, expert_norms, expert_outputs, fractions
from softmoa.lens.faithfulness import faithfulness
from softmoa.lens.run import run
from softmoa.model.moa import Gates
from softmoa.model.recording import LayerRecord, Place, expert_share
from softmoa.plots import report as plots
from softmoa.plots.style import grey
from softmoa.ui.stage.stage import Choice


def contributions(result: Classification) -> dict[str, Any]:
    """What `plots.explore.contributions` draws."""
    return {
        "contribution": torch.cat([expert_contribution(r) for r in result.records]),
        "share": torch.cat([expert_share(r) for r in result.records]),
        "overall": overall_contribution(result),
        "layers": row_names(result),
    }


def patch_rows(result: Classification, row: int, token: int) -> tuple[str, list[list]]:
    """The place of a token, and its exact weights: expert, slot, dispatch, combine, and the length
    of what the expert adds to it."""
    record = result.records[row]
    if token < len(export.SPECIAL):
        place = f"The {export.SPECIAL[token]} token, which stands for the whole clip"
    else:
        band, column = result.grid.place(token)
        (start, end), (low, high) = result.grid.seconds(column), result.grid.hertz(band)
        place = f"Patch at {start:.2f}\u2013{end:.2f} s, {low:.0f}\u2013{high:.0f} Hz"
    dispatch, combine = export.weights_of(record)
    added = expert_outputs(record)[0, token].norm(dim=-1)
    rows = []
    for j, k in product(*map(range, dispatch.shape[:2])):
        values = dispatch[j, k, token], combine[j, k, token], added[j]
        rows.append([j + 1, k + 1, *(round(value.item(), 6) for value in values)])
    return f"{place}, {row_names(result)[row].lower()}", rows


def truth(result: Classification, patches: torch.Tensor, target: int) -> str:
    """How faithful a map of patches (bands, columns) is to the answer, beside random ones."""
    classifier = result.classifier

    def probability(mels):
        return classifier.probabilities(run(classifier, mels, record=False).logits)[:, target]

    found, random = faithfulness(probability, result.mel, patches, result.grid)
    better = (found.kept > random.kept) + (found.rest < random.rest)
    answer = ("No more than a random map", "In part", "More than a random map")[better]
    return (
        f"Is it true? {answer}. {classifier.labels[target]}, {found.whole:.0%}: with only the "
        f"quarter of the patches that the map marks most {found.kept:.0%} (a random quarter "
        f"{random.kept:.0%}), without them {found.rest:.0%} (random {random.rest:.0%}). AD "
        f"{found.drop:.0%}, AI {'yes' if found.increase else 'no'}, AG {found.gain:.0%}, FF "
        f"{found.faithfulness:+.0%}."
    )


def report_png(result: Classification, choice: Choice) -> bytes:
    """One page: log-mel, all experts of the chosen layer and the contributions."""
    record = result.records[choice.row(result)]
    view = "dispatch" if choice.view == "dispatch" else "combine"
    multiple, unit = multiples(record, view)
    grid, n, p, bars = result.grid, *multiple.shape[:2], contributions(result)
    return plots.report_png(
        result.mel,
        grid.unfold(multiple).flatten(0, 1),
        cells=(grid.patch, grid.stride_time, grid.stride_frequency),
        titles=[f"E{j + 1}" + f".{k + 1}" * (p > 1) for j in range(n) for k in range(p)],
        unit=unit,
        std=result.classifier.model.config.std,
        heading=str(result.headline()),
        details=f"{result.classifier.name} on {result.classifier.backbone}; "
        f"{kind_of(record, view)}, layer {record.layer + 1}, beside {record.site.upper()}",
        contribution=bars["contribution"],
        overall=bars["overall"],
        layers=bars["layers"],
    )


def played(waveform: torch.Tensor) -> tuple[int, np.ndarray]:
    """(samples,) at 16 kHz as a player takes them; floats it would raise to full loudness."""
    return audio.SAMPLE_RATE, (waveform.clamp(-1, 1) * 32767).round().short().numpy()


def spectrogram(path: Path) -> Image.Image:
    """A small picture of a sound: time to the right, pitch upwards."""
    return _spectrogram(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1000)
def _spectrogram(path: Path, written: int) -> Image.Image:
    del written  # part of the key: a take may be replaced
    mel = audio.log_mel(audio.load(path).waveform).numpy().T[::-1]
    return Image.fromarray(grey(mel)).resize((120, 64))


def meter(shares: Sequence[torch.Tensor]) -> str:
    """How many experts are at work, by the shares (..., n) of every mixture."""
    return f"{at_work(shares):.1f} of {shares[0].shape[-1]} experts at work"


def overall_contribution(result: Classification) -> torch.Tensor:
    """(n,): what each expert adds, summed over all mixtures, as a share of all experts'; all 0
    where nothing is added."""
    return fractions(torch.cat([expert_norms(record) for record in result.records]).sum(dim=0))


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


def row_names(result: Classification) -> list[str]:
    return place_names([record.place for record in result.records])


def row_choices(result: Classification) -> list[tuple[str, int]]:
    """What a control that says "Layer" offers: names without that word, and their rows."""
    return [(name.removeprefix("Layer "), row) for row, name in enumerate(row_names(result))]


def place_names(places: Sequence[Place]) -> list[str]:
    """What mixtures are called; their site is named where a model has them at both."""
    both = len({site for _, site in places}) > 1
    return [f"Layer {layer + 1}" + f" {site.upper()}" * both for layer, site in places]
