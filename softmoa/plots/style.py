"""What figures share: colours of experts and methods, an empty plotly figure, the mel axis."""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go

from softmoa.data.audio import AUDIOSET_STD
from softmoa.lens.contribution import mel_edges

# Okabe and Ito's colours, safe for colour-blind readers, neighbours unlike in lightness. From the
# ninth expert on they repeat, and the labels tell them apart.
EXPERTS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c8c8c",
)  # fmt: skip
# Paul Tol's muted scheme: no hue of an expert stands for a method. The first differ most.
METHODS = (
    "#cc6677", "#6699cc", "#997700", "#44aa99", "#aa4499", "#88ccee", "#999933", "#117733",
    "#ddcc77", "#ee99aa", "#882255", "#332288",
)  # fmt: skip
QUIET = "#8c8f98"  # lines and marks beside the point, visible on white and on black
TINT = [[0, "rgba(255,140,26,0)"], [1, "rgba(255,140,26,.9)"]]  # weights over a spectrogram
SIGNED = [[0, "#2166ac"], [0.5, "rgba(128,128,128,.08)"], [1, "#b2182b"]]  # against ... for
SPAN = 8 * np.log(10) / (2 * AUDIOSET_STD)  # 80 dB of a normalised log-mel
# A y axis of names, the first one on top.
ROWS = {"autorange": "reversed", "automargin": True, "ticksuffix": " ", "fixedrange": True}
HERTZ = (250, 500, 1000, 2000, 4000, 8000)  # ticks of a mel axis; lower ones would touch
TEXT = {"parse_math": False}  # for matplotlib: a label may hold dollar signs


def literal(text: str) -> str:
    """A text of others as plotly shows it letter by letter: without tags, formulas or fields."""
    return escape(text, quote=False).replace("$", "&#36;").replace("%{", "&#37;{")


def expert_colour(expert: int) -> str:
    return EXPERTS[expert % len(EXPERTS)]


def figure(height: int = 320, **layout) -> go.Figure:
    """An empty figure that reads on a light and on a dark page: transparent, its text coloured by
    the page's style sheet. Dragging scrolls the page and does not zoom."""
    grid = {"gridcolor": "rgba(140,143,152,.25)", "zerolinecolor": "rgba(140,143,152,.5)",
            "title": {"font": {"size": 13}, "standoff": 8}}  # fmt: skip
    all_of_them = {"xaxis": grid, "yaxis": grid, "annotationdefaults": {"showarrow": False}}
    base = go.Layout(
        template={"layout": all_of_them, "data": {"heatmap": [{"showscale": False}]}},
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": QUIET},
        margin={"l": 56, "r": 16, "t": 28, "b": 44},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        modebar={"bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
        dragmode=False,
        colorway=METHODS,
    )
    return go.Figure(layout=base).update_layout(**layout)


def mel_ticks(mels: int = 128) -> tuple[list[float], list[str]]:
    """Places on an axis of mel bins, 0 to `mels`, and their labels in Hz."""
    places = np.interp(HERTZ, mel_edges(mels), np.arange(mels + 1))
    return places.tolist(), [f"{h / 1000:g} kHz" if h >= 1000 else f"{h} Hz" for h in HERTZ]


def grey(mel: np.ndarray) -> np.ndarray:
    """Grey levels, 0 to 255, of a normalised log-mel: white is its loudest, but at least a loud
    sound's level, or silence would be white; black is 80 dB below."""
    return (255 * np.clip((mel - max(mel.max(), 0.5)) / SPAN + 1, 0, 1)).astype(np.uint8)
