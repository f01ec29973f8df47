"""A classification as files: every routing weight as CSV, everything as JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

from torch import Tensor

from softmoa.data.values import to_json
from softmoa.lens.classify import Classification, report
from softmoa.lens.contribution import PatchGrid, expert_norms
from softmoa.model.ast import SPECIAL_TOKENS
from softmoa.model.recording import LayerRecord

SPECIAL = ("class", "distillation")
COLUMNS = (
    "layer", "site", "expert", "slot", "token", "band", "column",
    "start_s", "end_s", "low_hz", "high_hz", "dispatch", "combine",
)  # fmt: skip


def weights_csv(result: Classification) -> str:
    """One row per layer, site, expert, slot and token, with the place of its patch."""
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(COLUMNS)
    places = [_place(result.grid, token) for token in range(result.grid.tokens)]
    for record in result.records:
        dispatch, combine = weights_of(record)
        for expert, of_expert in enumerate(zip(dispatch.tolist(), combine.tolist(), strict=True)):
            for slot, of_slot in enumerate(zip(*of_expert, strict=True)):
                for place, d, c in zip(places, *of_slot, strict=True):
                    head = (record.layer, record.site, expert, slot)
                    out.writerow((*head, *place, f"{d:.6g}", f"{c:.6g}"))
    return text.getvalue()


def everything_json(result: Classification, file: str) -> str:
    """Labels, notes, geometry, and for each mixture its weights and the experts' output norms.

    The contributions of a mixture sum to 1, or are all 0 where its experts add nothing.
    """
    classifier, grid = result.classifier, result.grid
    mixtures = []
    for record in result.records:
        dispatch, combine = map(_rounded, weights_of(record))
        place = {"layer": record.layer, "site": record.site}
        norms = {"expert_norm": _rounded(expert_norms(record)[0])}
        mixtures.append(place | norms | {"dispatch": dispatch, "combine": combine})
    return to_json(
        report(result, file, top_k=len(classifier.labels))
        | {
            "notes": result.clip.notes,
            "bundle_info": asdict(classifier.info) if classifier.info else None,
            "grid": asdict(grid),
            "seconds": [grid.seconds(column) for column in range(grid.columns)],
            "hertz": [grid.hertz(band) for band in range(grid.bands)],
            "weights_axes": ["expert", "slot", "token"],
            "tokens": [*SPECIAL, "patches, band by band from the lowest, each along time"],
            "mixtures": mixtures,
        }
    )


def weights_of(record: LayerRecord) -> tuple[Tensor, Tensor]:
    """Dispatch and combine weights of the one clip, each (n, p, m); a token router's gates twice.

    See `moa.Routing.per_slot`.
    """
    dispatch, combine = record.routing.per_slot()
    return dispatch[0].movedim(0, -1), combine[0].movedim(0, -1)


def _place(grid: PatchGrid, token: int) -> tuple:
    """Token, band, column, seconds and Hz; the last six empty for a special token."""
    if token < SPECIAL_TOKENS:
        return (SPECIAL[token], "", "", "", "", "", "")
    band, column = grid.place(token)
    low, high = grid.hertz(band)
    return (token, band, column, *grid.seconds(column), f"{low:.1f}", f"{high:.1f}")


def _rounded(values: Tensor) -> list:
    return values.double().round(decimals=7).tolist()
