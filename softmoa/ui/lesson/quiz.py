"""Questions about one classified sound, with answers that the model computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
import torch
import torch.nn.functional as F

from softmoa.lens.ablation import Intervention
from softmoa.lens.balance import MOST, tokens_for
from softmoa.lens.classify import Classification
from softmoa.lens.contribution import expert_contribution
from softmoa.lens.run import run
from softmoa.model.recording import LayerRecord
from softmoa.plots import lesson as plots
from softmoa.plots.experts import spectrograms
from softmoa.plots.style import QUIET

QUIETER = 0.1  # of the amplitude: 20 dB less


class Answer(NamedTuple):
    """right: index of the choice that is right. value: the number it hangs on."""

    right: int
    value: float
    sentence: str
    figure: go.Figure


@dataclass(frozen=True)
class Question:
    """answer: of a sound and one of its mixtures."""

    name: str
    asked: str
    choices: tuple[str, ...]
    answer: Callable[[Classification, LayerRecord], Answer]


def loud_half(result: Classification, record: LayerRecord) -> Answer:
    """Percent of the patches' dispatch weight on the louder half of them, as a mean over slots."""
    grid = result.grid
    dispatch = grid.unfold(record.routing.per_slot()[0][0].flatten(1).mean(dim=1))
    # The last patch may reach beyond the clip, whose end is as loud as the frame that it ends with.
    beyond = (grid.columns - 1) * grid.stride_time + grid.patch - len(result.mel)
    mel = F.pad(result.mel.T[None], (0, max(beyond, 0)), mode="replicate")
    loudness = F.avg_pool2d(mel, grid.patch, (grid.stride_frequency, grid.stride_time))[0]
    loudness = loudness[: grid.bands, : grid.columns]
    loud = loudness.flatten().argsort(descending=True)[: loudness.numel() // 2]
    value = 100 * (dispatch.flatten()[loud].sum() / dispatch.sum()).item()
    sentence = f"The louder half of the patches holds {value:.1f}% of the dispatch weight."
    figure = spectrograms({"": result.mel}, dispatch * grid.tokens, grid, unit="× even")
    return Answer(0 if value > 55 else 1 if value >= 45 else 2, value, sentence, figure)


def tokens_of_a_slot(result: Classification, record: LayerRecord) -> Answer:
    """Percent of the tokens that carry 90% of a slot's dispatch weight, as a mean over slots."""
    dispatch = record.routing.per_slot()[0]
    value = 100 * tokens_for(dispatch, MOST).float().mean().item() / dispatch.shape[1]
    sentence = f"{value:.1f}% of the tokens carry 90% of a slot's weight, as a mean over slots."
    figure = plots.carried(dispatch[0].flatten(1).T, MOST)
    return Answer(0 if value < 10 else 1 if value <= 50 else 2, value, sentence, figure)


def without_the_loudest(result: Classification, record: LayerRecord) -> Answer:
    """Points by which the first label's probability changes when the expert with the largest
    contribution in this mixture is switched off."""
    loudest = int(expert_contribution(record)[0].argmax())
    switch = {record.place: Intervention(off=(loudest,))}
    after = run(result.classifier, [result.mel], record=False, change=switch)
    return _change(result, after.logits[0], f"expert {loudest + 1} off")


def played_quietly(result: Classification, record: LayerRecord) -> Answer:
    """The same of the sound played 20 dB more quietly."""
    mel = result.classifier.log_mel(QUIETER * result.clip.waveform)
    after = run(result.classifier, [mel], record=False)
    return _change(result, after.logits[0], "20 dB quieter")


def _change(result: Classification, logits: torch.Tensor, name: str) -> Answer:
    before, labels = result.probabilities, result.classifier.labels
    after = result.classifier.probabilities(logits)
    first, now = int(before.argmax()), int(after.argmax())
    value = 100 * (after[first] - before[first]).item()
    shown = list(dict.fromkeys([*before.argsort(descending=True)[:4].tolist(), now]))
    series = {"as it is": before[shown], name: after[shown]}
    figure = plots.bars([labels[i] for i in shown], series, (QUIET, "#e8710a"))
    sentence = f"The probability of {labels[first]} changes by {value:+.2f} points"
    if result.classifier.another(labels[first], labels[now]):
        return Answer(0, value, f"{sentence}, and {labels[now]} wins.", figure)
    return Answer(1 if abs(value) >= 1 else 2, value, f"{sentence}.", figure)


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
        ("more than 55%", "45 to 55%, about half", "less than 45%"),
        loud_half,
    ),
    Question(
        "tokens",
        "How many of the tokens are needed for 90% of what a slot of this layer reads?",
        ("less than a tenth of them", "a tenth to a half", "more than half"),
        tokens_of_a_slot,
    ),
    Question(
        "off",
        "Switch off the expert that contributes most to this layer. What happens to the label?",
        _CHANGES,
        without_the_loudest,
    ),
    Question(
        "quiet",
        "Play the clip 20 dB more quietly. What happens to the label?",
        _CHANGES,
        played_quietly,
    ),
)
