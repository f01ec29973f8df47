"""What a pretraining is chosen by: three measures on sounds that it never heard and that no result
is reported on.

    python -m analysis.pretraining.validation assets/ast-small.safetensors ...

household  a linear probe names the folder of a household sound of noise-of-life: 18 folders, the
           clips of each cut into 5 parts, of which one is tested
scenes     how much of YAMNet's embedding of held-out scenes a linear map of the features explains
words      a linear probe on 50 takes of each of nine words of Speech Commands, from the training
           list, names the takes of the official validation list; mean of SEEDS draws

All on the frozen, mean-pooled features. Log-mels are kept under $SOFTMOA_CORPUS/validation/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from analysis.pretraining.accepted import HOUSEHOLD
from analysis.pretraining.corpus import folder, read
from analysis.pretraining.packages import HOUSEHOLD_PACKAGE
from analysis.pretraining.scenes import Batches, Scenes, shards_of
from analysis.pretraining.student import explained
from analysis.pretraining.teacher import clip_of, scene_folder
from softmoa.data import tasks
from softmoa.data.audio import load, log_mel
from softmoa.model.ast import AST
from softmoa.model.weights import load_embedded
from softmoa.training.probe import fit_linear, pooled_features

HELD_OUT_SHARDS = 2  # of scenes, the first ones
PARTS = 5
SHOTS = 50
SEEDS = 3
L2 = 0.1  # of the probes


@dataclass(frozen=True)
class Validation:
    """Shares from 0 to 1."""

    household: float
    scenes: float
    words: float

    @property
    def mean(self) -> float:
        return float(np.mean(astuple(self)))

    def __str__(self) -> str:
        return (
            f"household {100 * self.household:.1f} %, scenes {100 * self.scenes:.1f} %, "
            f"words {100 * self.words:.1f} %, mean {100 * self.mean:.2f} %"
        )


def measure(encoder: AST) -> Validation:
    """Of an encoder whose features are mean-pooled."""
    held_out = Scenes(shards_of(scene_folder())[:HELD_OUT_SHARDS])
    return Validation(
        household=on_household(encoder),
        scenes=explained(encoder, held_out, Batches(held_out)),
        words=on_words(encoder),
    )


def on_household(encoder: AST) -> float:
    mels, labels = household()
    features = pooled_features(encoder, mels)
    parts = torch.cat([torch.arange(n) * PARTS // n for n in torch.bincount(labels).tolist()])
    right = [named(features, labels, parts != part, parts == part) for part in range(PARTS)]
    return float(torch.cat(right).double().mean())


def on_words(encoder: AST) -> float:
    mels, labels, trained = nine_words()
    features = pooled_features(encoder, mels, batch=64)
    shares = []
    for seed in range(SEEDS):
        draw = np.random.default_rng(seed)
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        for word in range(int(labels.max()) + 1):
            takes = np.flatnonzero((labels == word) & trained)
            chosen[draw.choice(takes, SHOTS, replace=False)] = True
        shares.append(named(features, labels, chosen, ~trained).double().mean())
    return float(torch.stack(shares).mean())


def named(x: Tensor, labels: Tensor, fitted: Tensor, tested: Tensor) -> Tensor:
    """Whether a probe fitted on some rows of x (clips, d) is right on others."""
    weight, bias = fit_linear(x[fitted], labels[fitted], int(labels.max()) + 1, L2)
    return (x[tested] @ weight.T + bias).argmax(dim=1) == labels[tested]


def household_rows() -> list[tuple[str, dict[str, str]]]:
    """(folder, row) of the household sounds in the corpus, in the order of HOUSEHOLD."""
    of_package = [row for row in read()[1] if row["package"] == HOUSEHOLD_PACKAGE]
    of_package.sort(key=lambda row: row["path"])
    return [
        (folder, row)
        for folder in HOUSEHOLD
        for row in of_package
        if row["path"].split("/")[0] == folder
    ]


@cache
def household() -> tuple[list[Tensor], Tensor]:
    """Log-mels and folders, in the order of the folders."""
    (corpus, _), rows, names = read(), household_rows(), list(HOUSEHOLD)
    mels = cached("household", (clip_of(corpus, row) for _, row in rows))
    return mels, torch.tensor([names.index(name) for name, _ in rows])


@cache
def nine_words() -> tuple[list[Tensor], Tensor, Tensor]:
    """Log-mels, words and whether a take is of the training list: of those the takes that some seed
    could draw, and all of the validation list."""
    task = tasks.load("speech-commands")
    draw = np.random.default_rng(0)
    files = list(task.valid)
    for word in range(len(task.labels)):
        takes = [file for file in task.train if file.label == word]
        files += [takes[i] for i in draw.permutation(len(takes))[: 3 * SHOTS]]
    mels = cached("words", (load(file.path).waveform for file in files))
    trained = torch.arange(len(files)) >= len(task.valid)
    return mels, torch.tensor([file.label for file in files]), trained


def cached(name: str, waveforms: Iterable[Tensor]) -> list[Tensor]:
    """The log-mels of waveforms, computed once."""
    target = folder() / "validation" / f"{name}.npz"
    if not target.exists():
        mels = [log_mel(waveform) for waveform in waveforms]
        target.parent.mkdir(exist_ok=True)
        partial = target.with_suffix(".part.npz")
        np.savez(
            partial,
            mel=np.concatenate([mel.numpy() for mel in mels]).astype(np.float16),
            frames=np.array([len(mel) for mel in mels]),
        )
        partial.rename(target)
    content = np.load(target)
    mel = torch.from_numpy(content["mel"].astype(np.float32))
    return list(mel.split(content["frames"].tolist()))


def main(files: list[Path]) -> None:
    """Measure backbone files."""
    for file in files:
        encoder = load_embedded(file).model
        encoder.pooling = "mean"
        typer.echo(f"{file.name}: {measure(encoder)}")


if __name__ == "__main__":
    typer.run(main)
