"""How to train: the short recipe of the live race, and the paper's for each of its benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from softmoa.data.mels import CLIP_SECONDS
from softmoa.data.values import InputError
from softmoa.training.fit import PAPER, TrainingOptions

Start = Literal["probe", "cold"]


@dataclass(frozen=True)
class Recipe:
    """clip_seconds: what is used of a clip, the loudest part of a longer one. short_rate: each
    method's rate for short runs, else that of its paper. start: the head of every run begins at the
    linear probe, or cold, at zero.
    """

    training: TrainingOptions
    clip_seconds: float = CLIP_SECONDS
    short_rate: bool = False
    start: Start = "cold"


SHORT = Recipe(TrainingOptions(), short_rate=True, start="probe")

# The recipe of arXiv 2402.00828 and 2312.03694, but for the head, which starts at random there and
# at zero here: AdamW, cosine to zero, and the lengths (500, 400, 100 and 400 frames), batches,
# epochs and SpecAugment of each dataset.
ESC = Recipe(PAPER, clip_seconds=5.0)
_SPEECH = replace(PAPER, epochs=75, mask_mels=0, mask_frames=0)
OF_PAPER = {
    "esc50": ESC,
    "esc10": ESC,  # in neither paper: as ESC-50, which it is a part of
    "urbansound8k": Recipe(replace(PAPER, epochs=30), clip_seconds=4.0),
    "speech-commands": Recipe(replace(_SPEECH, batch=128), clip_seconds=1.0),
    "fluent-speech-commands": Recipe(_SPEECH, clip_seconds=4.0),
}


def of_paper(task: str) -> Recipe:
    """The paper's recipe for a task; raises InputError if it has none."""
    if task not in OF_PAPER:
        raise InputError(f"The paper has no recipe for '{task}', only for {', '.join(OF_PAPER)}.")
    return OF_PAPER[task]
