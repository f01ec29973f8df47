"""Arrays to figures: pure functions; no model, no user interface.

`scales` turns numbers into places and colours, `screen` draws figures for a web page, `lens` and
`shares` those of the expert lens and `race` those of a comparison; `report` and `race_report` draw
one figure for a file. Arguments may be tensors or arrays.
"""

from softmoa.plots import lens, race, screen
from softmoa.plots.race import balance, confusion_table, curves, trade_off
from softmoa.plots.race_report import race_report
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

CSS = screen.CSS + lens.CSS + race.CSS

__all__ = [
    "CSS",
    "balance",
    "confusion_table",
    "curves",
    "trade_off",
    "contribution_bars",
    "expert_bars",
    "experts",
    "overlay",
    "race_report",
    "report_png",
    "scale_top",
    "spectrogram",
    "waveform",
]
