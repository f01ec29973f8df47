"""From a sound to its labels and the routing behind them: the one path that the app, the command
line and the HTTP interface share."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from torch import Tensor

from softmoa.data import audio
from softmoa.lens.classifier import Classifier
from softmoa.lens.contribution import PatchGrid, expert_contribution
from softmoa.lens.headline import SURE, Headline
from softmoa.lens.run import run
from softmoa.model.precision import Precision
from softmoa.model.recording import Changes, LayerRecord, expert_share


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent in each stage."""

    decode: float
    features: float
    forward: float


@dataclass(frozen=True)
class Classification:
    """One sound, classified. Arrays are on the CPU; records have a batch axis of one clip.

    mel: (frames, 128). logits: (classes,), in the order of `classifier.labels`.
    """

    classifier: Classifier
    clip: audio.Clip
    mel: Tensor
    logits: Tensor
    records: tuple[LayerRecord, ...]
    timing: Timing

    @property
    def probabilities(self) -> Tensor:
        """(classes,): sigmoid or softmax of the logits."""
        return self.classifier.probabilities(self.logits)

    @property
    def grid(self) -> PatchGrid:
        return PatchGrid.of(self.classifier.model.config, len(self.mel))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable labels, best first."""
        return self.classifier.top(self.probabilities, k)

    def headline(self, sure: float = SURE) -> Headline:
        """What the sound is said to be."""
        return self.classifier.headline(self.probabilities, self.clip.waveform, sure)


def classify(
    classifier: Classifier,
    source: audio.Source,
    record: bool = True,
    precision: Precision = "auto",
) -> Classification:
    """Decode, compute the log-mel, run the model and record its routing.

    A clip is run at its own length, not padded as the published checkpoints were trained; see
    `Classifier.seconds`.
    In bfloat16 (see `softmoa.model.precision`) a base-size model takes half the time.
    Raises AudioError with one sentence if the sound cannot be used.
    """
    times = [time.perf_counter()]
    clip = audio.load(source, classifier.seconds)
    times.append(time.perf_counter())
    mel = classifier.log_mel(clip.waveform)
    times.append(time.perf_counter())
    output = run(classifier, [mel], record=record, precision=precision)
    times.append(time.perf_counter())
    timing = Timing(*(1000 * (after - before) for before, after in pairwise(times)))
    return Classification(classifier, clip, mel, output.logits[0], output.records, timing)


def reclassify(result: Classification, change: Changes) -> Classification:
    """The same sound with changed routing: new logits and records, which hold the change."""
    began = time.perf_counter()
    output = run(result.classifier, [result.mel], change=change)
    timing = replace(result.timing, forward=1000 * (time.perf_counter() - began))
    return replace(result, logits=output.logits[0], records=output.records, timing=timing)


def report(result: Classification, file: str, top_k: int = 5) -> dict:
    """The classification as plain JSON values; the contract of the command line and the API.

    The contributions of a mixture sum to 1, or are all 0 where its experts add nothing.
    """
    classifier, timing = result.classifier, result.timing
    return {
        "file": file,
        "bundle": classifier.name,
        "backbone": classifier.backbone,
        "device": str(classifier.model.device),
        "duration_s": round(result.clip.seconds, 4),
        "headline": str(result.headline()),
        "labels": [{"label": label, "probability": round(p, 6)} for label, p in result.top(top_k)],
        "experts": [
            {
                "layer": record.layer,
                "site": record.site,
                "share": [round(x, 6) for x in expert_share(record)[0].nan_to_num().tolist()],
                "contribution": [round(x, 6) for x in expert_contribution(record)[0].tolist()],
            }
            for record in result.records
        ],
        "timing_ms": {stage: round(spent, 2) for stage, spent in asdict(timing).items()},
        **noted(result.clip),
    }


def noted(clip: audio.Clip) -> dict[str, list[str]]:
    """The key `notes` of every answer about a sound, where there is anything to note."""
    return {"notes": list(clip.notes)} if clip.notes else {}
