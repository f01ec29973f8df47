"""How much a backbone's frozen features know: linear probes on data it was never trained on.

    python -m analysis.evaluate_backbone
    python -m analysis.evaluate_backbone start.safetensors assets/ast-small.safetensors --teacher

ESC-10: the official 5 folds, 4 to train and 1 to test. FSDD (spoken digits): one speaker held out,
mean of 6. The probe is a logistic regression on standardised mean-pooled features; its strength of
regularisation is chosen inside the training part, group by group, never on the test part.
Writes analysis/results/backbone.{csv,md}. The data sets lie in the folder that SOFTMOA_DATA names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
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

from softmoa import tasks
from softmoa.ast import AST
from softmoa.audio import load, log_mels, pad_batch
from softmoa.weights import ASSETS, load_embedded

RESULTS = Path(__file__).parent / "results"
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # C of the logistic regression; small is strong


@dataclass(frozen=True)
class Probe:
    """Accuracy on each held-out group and the predictions that gave it."""

    groups: tuple[str, ...]
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))


def esc10() -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files, class names and folds, "1" to "5"."""
    return _clips("esc10")


def fsdd(takes: int = 50) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files digit_speaker_take.wav, digits and speakers, of the first so many takes."""
    files, digits, speakers = _clips("digits")
    first = np.array([int(file.stem.split("_")[2]) < takes for file in files])
    kept = [file for file, is_first in zip(files, first, strict=True) if is_first]
    return kept, digits[first], speakers[first]


def _clips(name: str) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """All files of a benchmark in order, their classes and groups."""
    task = tasks.load(name)
    clips = sorted(task.files, key=lambda clip: clip.path)
    labels = np.array([task.labels[clip.label] for clip in clips])
    return [clip.path for clip in clips], labels, np.array([clip.group for clip in clips])


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


@dataclass(frozen=True)
class Row:
    """One line of the table: what was probed on which data."""

    features: str
    data: str
    result: Probe


def measure(model: AST, title: str, takes: int) -> Iterator[Row]:
    """Probes on the frozen, mean-pooled features of an encoder."""
    files, labels, folds = esc10()
    features = pooled_features(model, mels_of(files))
    yield Row(title, "ESC-10, official 5 folds", probe(features, labels, folds))
    files, labels, speakers = fsdd(takes)
    features = pooled_features(model, mels_of(files), batch=64)
    data = f"FSDD, one speaker held out, {takes} takes"
    yield Row(title, data, probe(features, labels, speakers))


def measure_teacher(takes: int) -> Iterator[Row]:
    """The same probes on the mean embedding of YAMNet: what the student was taught from."""
    from analysis.teacher import embeddings

    for data, (files, labels, groups) in (
        ("ESC-10, official 5 folds", esc10()),
        (f"FSDD, one speaker held out, {takes} takes", fsdd(takes)),
    ):
        yield Row(
            "YAMNet's embedding",
            data,
            probe(embeddings(load(f).waveform for f in files), labels, groups),
        )


def write(rows: Sequence[Row], command: str) -> None:
    """results/backbone.csv and backbone.md."""
    with (RESULTS / "backbone.csv").open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["features", "data", "held_out", "accuracy"])
        for row in rows:
            for group, value in zip(row.result.groups, row.result.accuracy, strict=True):
                writer.writerow([row.features, row.data, group, round(value, 5)])
    lines = [
        "# Linear probes on frozen features",
        "",
        f"`{command}`; a logistic regression, its regularisation chosen inside the training part. "
        "The spread is the standard deviation over the held-out parts.",
        "",
        "| features | data | accuracy | held-out parts |",
        "|---|---|---|---|",
    ]
    for row in rows:
        parts = ", ".join(f"{100 * value:.1f}" for value in row.result.accuracy)
        spread = 100 * np.std(row.result.accuracy, ddof=1)
        lines.append(
            f"| {row.features} | {row.data} | {100 * row.result.mean:.2f} % ± {spread:.1f} "
            f"| {parts} |"
        )
    (RESULTS / "backbone.md").write_text("\n".join(lines) + "\n")


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="default: the embedded one")] = None,
    takes: Annotated[int, typer.Option(help="takes of each digit and speaker, at most 50")] = 50,
    teacher: Annotated[bool, typer.Option(help="probe YAMNet's embedding, too")] = False,
) -> None:
    """Probe backbone files, show the table and write it to analysis/results/backbone."""
    rows = []
    chosen = files or [ASSETS / "ast-small.safetensors"]
    for file in chosen:
        model = load_embedded(file).model
        model.pooling = "mean"
        for row in measure(model, file.stem, takes):
            show(row)
            rows.append(row)
    for row in measure_teacher(takes) if teacher else ():
        show(row)
        rows.append(row)
    names = "".join(f" {file.name}" for file in files or ())
    command = f"python -m analysis.evaluate_backbone{names}" + " --teacher" * teacher
    write(rows, command)


def show(row: Row) -> None:
    parts = "  ".join(
        f"{name} {100 * value:.1f}"
        for name, value in zip(row.result.groups, row.result.accuracy, strict=True)
    )
    typer.echo(f"{row.features}, {row.data}: {100 * row.result.mean:.2f} %   ({parts})")


if __name__ == "__main__":
    typer.run(main)
