"""The stage: a clip's log-mel with the routing of every layer over it, drawn by the page itself.

A clip is sent once, as `clip_of` packs it. Which layer, expert, slot and view is shown changes in
the browser; the component's value is that choice, as `Choice` reads it. It triggers events: "pick"
with the `token` of a patch that was pressed, "explain" with the `label` whose signed contribution
is to be shown, which the server answers by `signed_of`, "judge" with a `label` and the `key` of the
map that is shown, answered by `truth`, "brush" with a `Brush`, answered by `heard` for "play", and
"zip" where one is brought in place of a sound.
"""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import gradio as gr
import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from softmoa.data.audio import FRAME_SHIFT, SAMPLE_RATE, encode
from softmoa.lens import export
from softmoa.lens.ablation import signed_contribution
from softmoa.lens.classify import Classification
from softmoa.lens.contribution import PatchGrid, specialisation
from softmoa.model.moa import Gates
from softmoa.plots.style import EXPERTS, mel_ticks

HERE = Path(__file__).parent
FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SHIFT
FLOOR = 0.01  # times an even share; smaller weights are sent as 0
LABELS = 5
QUIETEST = 50  # grey of the quietest sound, so that colour shows there too

Count = Annotated[int, Field(ge=0)]


class Choice(BaseModel):
    """What the stage shows; numbers count from 1.

    layer: 0 is the layer whose experts differ most. expert: 0 is none in particular.
    """

    layer: Count = 0
    site: str = ""
    view: Literal["experts", "dispatch", "combine", "label"] = "experts"
    expert: Count = 0
    slot: Count = 1

    @classmethod
    def of(cls, value: object) -> Choice:
        """What the page says; the default if it says nonsense."""
        try:
            return cls.model_validate(value or {})
        except ValidationError:
            return cls()

    def row(self, result: Classification) -> int:
        """Index of the chosen record; of the one whose experts differ most if there is none."""
        for row, record in enumerate(result.records):
            if record.layer + 1 == self.layer and self.site in ("", record.site):
                return row
        return most_different(result)

    def patches(self, result: Classification, target: int) -> torch.Tensor:
        """What the picture shows of each patch, (bands, columns), the more the stronger its colour;
        target: the class of the view of a label."""
        row = self.row(result)
        shares = result.records[row].routing.expert_weights[0]  # (m, n)
        expert = min(max(self.expert, 1), shares.shape[1]) - 1
        if self.view == "label":
            tokens = signed_contribution(result.classifier.model, result.mel, target)[row]
            values = tokens[:, expert] if self.expert else tokens.sum(dim=1)
        elif self.view == "experts":
            values = shares[:, expert] if self.expert else shares.amax(dim=1)
        else:
            weights = export.weights_of(result.records[row])[self.view == "combine"]
            values = weights[expert, min(self.slot, weights.shape[1]) - 1]
        return result.grid.unfold(values)


class Brush(BaseModel):
    """What is to become of a box of patches; first and last column and band, from 0."""

    act: Literal["play", "erase", "keep", "clear"]
    columns: tuple[Count, Count] = (0, 0)
    bands: tuple[Count, Count] = (0, 0)

    @classmethod
    def of(cls, event: gr.EventData) -> Brush | None:
        """What came with an event; None for nonsense."""
        try:
            told = {name: getattr(event, name, None) for name in cls.model_fields}
            return cls.model_validate({name: one for name, one in told.items() if one is not None})
        except (TypeError, ValidationError):
            return None

    def mask(self, grid: PatchGrid) -> torch.Tensor:
        """(bands, columns), one in the box, and nothing elsewhere."""
        (low, high), (first, last) = self.bands, self.columns
        mask = torch.zeros(grid.bands, grid.columns)
        mask[low : high + 1, first : last + 1] = 1
        return mask


def build(player: str, clip: dict | None = None, **options: Any) -> gr.HTML:
    """The component. player: CSS selector of what holds the page's <audio> of the clip; without
    one the clip brings its `sound`, and there is nothing to brush."""
    return gr.HTML(
        {},
        html_template=(HERE / "stage.html").read_text("utf-8"),
        js_on_load=(HERE / "stage.js").read_text("utf-8"),
        apply_default_css=False,
        clip=clip,
        signed=None,
        heard=None,
        truth=None,
        player=player,
        colours=EXPERTS,
        **options,
    )


def clip_of(result: Classification) -> dict:
    """A classification as the page draws it, JSON values.

    headline: what is said before the first labels, and how many of these are said.
    weights: deflated bytes in base64, by (layer, dispatch or combine, expert, slot, token): 0 is
    less than FLOOR times an even share, 1 to 255 go from there to the layer's `top` in equal
    ratios, so a weight is off by at most 2 %.
    """
    packed, layers = [], []
    best = most_different(result) if result.records else 0
    for row, record in enumerate(result.records):
        weights = export.weights_of(record)
        n, p, m = weights[0].shape
        tops = []
        for weight, even in zip(weights, (m, n * p), strict=True):
            multiple = (weight * even).numpy()
            tops.append(max(float(multiple.max()), 2 * FLOOR))
            packed.append(_in_ratios(multiple, tops[-1]))
        layers.append(
            {
                "layer": record.layer + 1,
                "site": record.site,
                "gates": isinstance(record.routing, Gates),
                "tops": tops,
                "best": row == best,
            }
        )
    grid, known, headline = result.grid, result.classifier.labels, result.headline()
    likely = [label for label, _ in result.top(LABELS)]
    classes = [known.index(label) for label in dict.fromkeys((*headline.labels, *likely))]
    return {
        "headline": [headline.before, len(headline.labels)],
        "labels": [(known[i], result.probabilities[i].item()) for i in classes],
        "classes": classes,
        "mel": _picture(result.mel.numpy()),
        "seconds": len(result.mel) / FRAMES_PER_SECOND,
        "real": result.clip.seconds,
        "grid": {"bands": grid.bands, "columns": grid.columns, "mels": grid.mels},
        "times": [grid.seconds(column) for column in range(grid.columns)],
        "hertz": [[round(edge) for edge in grid.hertz(band)] for band in range(grid.bands)],
        "cell": {  # where patches overlap, a cell is one stride wide, in the middle of its patch
            "low": (grid.patch - grid.stride_frequency) / 2,  # in bins
            "height": grid.stride_frequency,
            "left": (grid.patch - grid.stride_time) / 2 / FRAMES_PER_SECOND,  # in seconds
            "width": grid.stride_time / FRAMES_PER_SECOND,
        },
        "ticks": list(zip(*mel_ticks(grid.mels), strict=True)),
        "floor": FLOOR,
        "shape": [n, p, m] if result.records else [0, 0, grid.tokens],
        "layers": layers,
        "weights": base64.b64encode(zlib.compress(b"".join(packed), 9)).decode(),
    }


def sound_of(waveform: torch.Tensor) -> str:
    """(samples,) at 16 kHz as the page plays them."""
    return "data:audio/flac;base64," + base64.b64encode(encode(waveform, form="FLAC")).decode()


def signed_of(tokens: torch.Tensor, target: int, label: str) -> dict:
    """Signed contributions (layers, m, n) to the logit of a class, as the page draws them: signed
    bytes by (layer, expert, token), 127 being `top`."""
    top = max(float(tokens.abs().max()), 1e-12)
    whole = (tokens.transpose(1, 2) / top * 127).round().to(torch.int8).numpy()
    deflated = base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()
    return {"class": target, "label": label, "top": top, "values": deflated}


def sent(event: gr.EventData, name: str) -> int | None:
    """A whole number that came with an event; the page says what it likes, so None for others."""
    try:
        value = getattr(event, name, None)
    except TypeError:  # nothing came with it
        return None
    return value if isinstance(value, int) else None


def most_different(result: Classification) -> int:
    """Index of the record whose experts differ most."""
    return int(np.argmax([specialisation(record) for record in result.records]))


def _in_ratios(multiple: np.ndarray, top: float) -> bytes:
    with np.errstate(divide="ignore"):
        steps = 1 + 254 * np.log(multiple / FLOOR) / np.log(top / FLOOR)
    return np.where(multiple < FLOOR, 0, steps.round().clip(1, 255)).astype(np.uint8).tobytes()


def _picture(mel: np.ndarray) -> str:
    """Log-mel (frames, mels) as a grey WebP, time to the right, pitch upwards."""
    low, high = np.percentile(mel, 2), max(float(mel.max()), float(mel.min()) + 1e-6)
    level = ((mel.T[::-1] - low) / (high - low)).clip(0, 1) ** 1.5
    grey = (QUIETEST + (255 - QUIETEST) * level).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "WEBP", quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
