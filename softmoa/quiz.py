"""Questions about one classified sound, with answers that the model computes.

Each function takes the classification and a mixture's record and returns the number the answer
hangs on; QUESTIONS says what is asked and which choice a number makes right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from softmoa.ablation import Intervention, intervene
from softmoa.audio import log_mel
from softmoa.balance import MOST, tokens_for
from softmoa.classify import Classification
from softmoa.contribution import expert_contribution
from softmoa.moa import Slots
from softmoa.recording import LayerRecord

QUIETER = 0.1  # of the amplitude: 20 dB less


@dataclass(frozen=True)
class Answer:
    """value: the number asked for. shown: what a figure of it is drawn from."""

    value: float
    shown: torch.Tensor


@dataclass(frozen=True)
class Question:
    """asked, choices: what the visitor reads. right: number -> index of the right choice.

    reading: the number in a sentence, with {value}.
    """

    name: str
    asked: str
    choices: tuple[str, ...]
    answer: Callable[[Classification, LayerRecord], Answer]
    right: Callable[[float], int]
    reading: str


def loud_half(result: Classification, record: LayerRecord) -> Answer:
    """Percent of the dispatch weight on patches that falls on the louder half of them, as a mean
    over slots. shown: (bands, columns), mean dispatch as a multiple of an even spread."""
    grid = result.grid
    dispatch = grid.unfold(_slots(record).dispatch_weights[0].flatten(1).mean(dim=1))
    mel = result.mel.T[: grid.bands * grid.stride_frequency]
    # The last patch may reach beyond the clip, whose end is as loud as the frame that it ends with.
    beyond = (grid.columns - 1) * grid.stride_time + grid.patch - mel.shape[1]
    mel = F.pad(mel[None], (0, max(beyond, 0)), mode="replicate")[0]
    size = grid.patch, grid.patch
    loudness = (
        mel.unfold(0, size[0], grid.stride_frequency)
        .unfold(1, size[1], grid.stride_time)
        .mean(dim=(-1, -2))[: grid.bands, : grid.columns]
    )
    loud = loudness.flatten().argsort(descending=True)[: loudness.numel() // 2]
    part = dispatch.flatten()[loud].sum() / dispatch.sum()
    return Answer(100 * part.item(), dispatch * grid.tokens)


def tokens_of_a_slot(result: Classification, record: LayerRecord) -> Answer:
    """Percent of the tokens that carry 90 % of a slot's dispatch weight, as a mean over slots.
    shown: dispatch weights (slots, m)."""
    dispatch = _slots(record).dispatch_weights
    few = tokens_for(dispatch, MOST).float().mean().item()
    return Answer(100 * few / dispatch.shape[1], dispatch[0].flatten(1).T)


def without_the_loudest(result: Classification, record: LayerRecord) -> Answer:
    """Points by which the best label's probability changes when the expert with the largest
    contribution in this mixture is switched off; 200 if another label wins.
    shown: probabilities (2, classes), before and after."""
    loudest = int(expert_contribution(record)[0].argmax())
    model = result.classifier.model
    switch = {(record.layer, record.site): Intervention(off=(loudest,))}
    with torch.inference_mode(), intervene(model, switch):
        after = _probabilities(result, result.mel)
    return _change(result, after)


def played_quietly(result: Classification, record: LayerRecord) -> Answer:
    """The same of the sound played 20 dB more quietly."""
    with torch.inference_mode():
        after = _probabilities(result, log_mel(QUIETER * result.clip.waveform))
    return _change(result, after)


def _change(result: Classification, after: torch.Tensor) -> Answer:
    before = result.probabilities
    best = int(before.argmax())
    if int(after.argmax()) != best:
        return Answer(OTHER_LABEL, torch.stack([before, after]))
    return Answer(100 * (after[best] - before[best]).item(), torch.stack([before, after]))


OTHER_LABEL = 200.0  # beyond any change of a probability


def _probabilities(result: Classification, mel: torch.Tensor) -> torch.Tensor:
    logits = result.classifier.model(mel[None])[0].float().cpu()
    return logits.sigmoid() if result.classifier.multilabel else logits.softmax(dim=0)


def _slots(record: LayerRecord) -> Slots:
    if not isinstance(record.routing, Slots):
        raise ValueError("only a soft mixture has slots to ask about")
    return record.routing


def _of_change(points: float) -> int:
    return 0 if points == OTHER_LABEL else 1 if abs(points) >= 1 else 2


_CHANGES = (
    "another label wins",
    "the label stays, its probability moves by a point or more",
    "the label stays, its probability moves by less than a point",
)

QUESTIONS = (
    Question(
        "loud",
        "Sort the patches by loudness. How much do the slots of this layer read from the louder "
        "half?",
        ("more than 55 %", "45 to 55 %, about half", "less than 45 %"),
        loud_half,
        lambda percent: 0 if percent > 55 else 1 if percent >= 45 else 2,
        "The louder half of the patches holds {value:.1f} % of the dispatch weight.",
    ),
    Question(
        "tokens",
        "How many of the tokens are needed for 90 % of what a slot of this layer reads?",
        ("less than a tenth of them", "a tenth to a half", "more than half"),
        tokens_of_a_slot,
        lambda percent: 0 if percent < 10 else 1 if percent <= 50 else 2,
        "{value:.1f} % of the tokens carry 90 % of a slot's weight, as a mean over the slots.",
    ),
    Question(
        "off",
        "Switch off the expert that contributes most to this layer. What happens to the label?",
        _CHANGES,
        without_the_loudest,
        _of_change,
        "The probability of the first label changes by {value:+.2f} points.",
    ),
    Question(
        "quiet",
        "Play the clip 20 dB more quietly. What happens to the label?",
        _CHANGES,
        played_quietly,
        _of_change,
        "The probability of the first label changes by {value:+.2f} points.",
    ),
)
