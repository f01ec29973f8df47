"""How to train: the short recipe of the live race, a long one for the best weights, the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from softmoa.augment import NONE, Augmentation
from softmoa.training import PAPER, TrainingOptions


@dataclass(frozen=True)
class Recipe:
    """clip_seconds: what is used of a clip. short_rate: each method's rate for short runs, else
    that of its paper."""

    training: TrainingOptions
    clip_seconds: float = 10.0
    short_rate: bool = False
    warm_head: bool = False


SHORT = Recipe(TrainingOptions(), short_rate=True, warm_head=True)
LONG = Recipe(
    TrainingOptions(epochs=20, augmentation=Augmentation(48, 80, warp_mels=0.1, warp_frames=0.2)),
    short_rate=True,
    warm_head=True,
)
OURS = {"short": SHORT, "long": LONG}
RECIPES = (*OURS, "paper")

# The recipe of arXiv 2402.00828 and 2312.03694: AdamW, cosine to zero, a random head, and the
# lengths (500, 400, 100 and 400 frames), batches, epochs and SpecAugment of each dataset.
ESC = Recipe(PAPER, clip_seconds=5.0)
_SPEECH = replace(PAPER, epochs=75, augmentation=NONE)
OF_PAPER = {
    "esc50": ESC,
    "esc10": ESC,  # in neither paper: as ESC-50, which it is a part of
    "urbansound8k": Recipe(replace(PAPER, epochs=30), clip_seconds=4.0),
    "speech-commands": Recipe(replace(_SPEECH, batch=128), clip_seconds=1.0),
    "fluent-speech-commands": Recipe(_SPEECH, clip_seconds=4.0),
}


def recipe(name: str, task: str) -> Recipe:
    """A recipe of RECIPES for a task; raises ValueError if there is none."""
    if name in OURS:
        return OURS[name]
    if name != "paper":
        raise ValueError(f"there is no recipe '{name}'; there are {', '.join(RECIPES)}")
    if task not in OF_PAPER:
        raise ValueError(f"the paper has no recipe for '{task}', only for {', '.join(OF_PAPER)}")
    return OF_PAPER[task]
