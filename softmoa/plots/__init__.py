"""Arrays to figures: pure functions; no model, no user interface.

`scales` turns numbers into places and colours, `screen` draws figures for a web page and
`lens` those of the expert lens, `report` draws one figure for a file. Arguments may be
tensors or arrays.
"""

from softmoa.plots import lens, screen
from softmoa.plots.report import report_png
from softmoa.plots.scales import scale_top
from softmoa.plots.screen import (
    contribution_bars,
    expert_bars,
    experts,
    overlay,
    spectrogram,
    waveform,
)

CSS = screen.CSS + lens.CSS

__all__ = [
    "CSS",
    "contribution_bars",
    "expert_bars",
    "experts",
    "overlay",
    "report_png",
    "scale_top",
    "spectrogram",
    "waveform",
]
