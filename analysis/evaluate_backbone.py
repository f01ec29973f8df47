"""How much a backbone's frozen features know: linear probes on data it was never trained on.

    python -m analysis.evaluate_backbone assets/ast-small.safetensors

ESC-10: the official 5 folds, 4 to train and 1 to test. FSDD (spoken digits): one speaker held out,
mean of 6. The probe is a logistic regression on standardised mean-pooled features; its strength of
regularisation is chosen inside the training part, group by group, never on the test part.
The data sets are looked for in the folder $SOFTMOA_DATA (default ../shared/data).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from softmoa.ast import AST
from softmoa.audio import load, log_mels, pad_batch
from softmoa.weights import load_embedded

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # C of the logistic regression; small is strong


@dataclass(frozen=True)
class Probe:
    """Accuracy on each held-out group and the predictions that gave it."""

    groups: tuple[str, ...]
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))


def data_folder() -> Path:
    return Path(os.environ.get("SOFTMOA_DATA", "../shared/data"))


def esc10() -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files, class names and folds ("1".."5", the first number of a file's name)."""
    files = sorted((data_folder() / "esc10").glob("*/*.ogg"))
    classes = np.array([file.parent.name for file in files])
    return files, classes, np.array([file.name.split("-")[0] for file in files])


def fsdd(takes: int = 50) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files digit_speaker_take.wav, digits and speakers, of the first so many takes."""
    files = sorted((data_folder() / "fsdd").glob("*_*_*.wav"))
    files = [file for file in files if int(file.stem.split("_")[2]) < takes]
    digits = np.array([file.stem.split("_")[0] for file in files])
    return files, digits, np.array([file.stem.split("_")[1] for file in files])


def mels_of(files: Sequence[Path]) -> list[Tensor]:
    """Log-mel (frames, 128) of each file."""
    return [mel for file in files for mel in log_mels([load(file).waveform])]


@torch.inference_mode()
def pooled_features(model: AST, mels: Sequence[Tensor], batch: int = 16) -> np.ndarray:
    """(clips, d): mean over all real tokens of each clip, at its own length."""
    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    features = torch.empty(len(mels), model.config.width)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        features[chosen] = model.pool(*model.features(*pad_batch([mels[i] for i in chosen])))
    return features.numpy()


def probe(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Probe:
    """Leave one group out; the strength is chosen by leaving out groups of the rest in turn."""
    accuracy = []
    names = sorted(set(groups.tolist()))
    for name in names:
        test = groups == name
        classifier = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            {"logisticregression__C": STRENGTHS},
            cv=LeaveOneGroupOut(),
        )
        with threadpool_limits(1):  # small matrices: several threads make this 100 times slower
            classifier.fit(features[~test], labels[~test], groups=groups[~test])
        accuracy.append(float(np.mean(classifier.predict(features[test]) == labels[test])))
    return Probe(tuple(names), tuple(accuracy))


def show(title: str, result: Probe) -> None:
    folds = "  ".join(
        f"{name} {100 * value:.1f}"
        for name, value in zip(result.groups, result.accuracy, strict=True)
    )
    typer.echo(f"{title}: {100 * result.mean:.2f} %   ({folds})")


def main(
    file: Path,
    digits: Annotated[bool, typer.Option(help="also probe FSDD, one speaker held out")] = True,
    takes: Annotated[int, typer.Option(help="takes of each digit and speaker, at most 50")] = 50,
) -> None:
    """Print the accuracy of the probes on the features of a backbone file."""
    model = load_embedded(file).model
    model.pooling = "mean"
    files, labels, folds = esc10()
    show("ESC-10, 5 folds", probe(pooled_features(model, mels_of(files)), labels, folds))
    if digits:
        files, labels, speakers = fsdd(takes)
        result = probe(pooled_features(model, mels_of(files), batch=64), labels, speakers)
        show(f"FSDD, one speaker held out, {takes} takes", result)


if __name__ == "__main__":
    typer.run(main)
