"""How much a backbone's frozen features know: linear probes on data it was never trained on.

    python -m analysis.pretraining.evaluate_backbone
    python -m analysis.pretraining.evaluate_backbone start.safetensors

ESC-50 and ESC-10: the official 5 folds, 4 to train and 1 to test. FSDD (spoken digits): one speaker
held out, mean of 6. Nine words of Speech Commands: so many takes of each from the training list,
drawn SEEDS times, tested on the official list. The strength of regularisation is chosen inside the
training part, group by group, never on the test part. Instruments and initials: as
`analysis.pretraining.probe_tasks`, chosen on the validation clips. Nothing is chosen by these rows:
that is what `analysis.pretraining.validation` is for.

Writes analysis/results/backbone.{csv,md}. The data sets lie in the folder that SOFTMOA_DATA names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from analysis import tables
from analysis.pretraining import probe_tasks
from analysis.pretraining.teacher import embeddings
from softmoa.data import tasks
from softmoa.data.audio import load, log_mel
from softmoa.model.ast import AST
from softmoa.model.weights import ASSETS, load_embedded
from softmoa.training.probe import pooled_features

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # C of the logistic regression; small is strong
SHOTS = (10, 50, 200)
SEEDS = 3
Features = Callable[[Sequence[Path]], np.ndarray]  # (clips, d) of files


def fsdd(takes: int = 50) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files digit_speaker_take.wav, digits and speakers, of the first so many takes."""
    files, digits, speakers = clips_of("digits")
    first = np.array([int(file.stem.split("_")[2]) < takes for file in files])
    kept = [file for file, is_first in zip(files, first, strict=True) if is_first]
    return kept, digits[first], speakers[first]


def clips_of(name: str) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """All files of a benchmark in order, names of their classes, and groups, such as folds."""
    task = tasks.load(name)
    clips = sorted(task.files, key=lambda clip: clip.path)
    labels = np.array([task.labels[clip.label] for clip in clips])
    return [clip.path for clip in clips], labels, np.array([clip.group for clip in clips])


def mels_of(files: Sequence[Path]) -> list[Tensor]:
    """Log-mel (frames, 128) of each file."""
    return [log_mel(load(file).waveform) for file in files]


def classifier(inner: LeaveOneGroupOut | StratifiedGroupKFold) -> GridSearchCV:
    """The probe, its strength chosen by `inner`."""
    return GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": STRENGTHS},
        cv=inner,
    )


def probe(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Accuracy on each group left out; the strength is chosen by leaving out groups of the rest in
    turn."""
    accuracy = {}
    for name in sorted(set(groups.tolist())):
        test = groups == name
        fitted = classifier(LeaveOneGroupOut())
        with threadpool_limits(1):  # small matrices: several threads make this 100 times slower
            fitted.fit(features[~test], labels[~test], groups=groups[~test])
        accuracy[name] = float(np.mean(fitted.predict(features[test]) == labels[test]))
    return accuracy


def probe_words(features_of: Features) -> Iterator[tuple[int, dict[str, float]]]:
    """Nine words by so many takes of each; the strength is chosen over speakers in five parts."""
    task = tasks.load("speech-commands")
    tested = np.array([file.label for file in task.test])
    x_test = features_of([file.path for file in task.test])
    for shots in SHOTS:
        accuracy = {}
        for seed in range(SEEDS):
            drawn = tasks.few_shot(task, shots, seed).train
            labels = np.array([file.label for file in drawn])
            speakers = np.array([file.group for file in drawn])
            fitted = classifier(StratifiedGroupKFold(5))
            with threadpool_limits(1):
                fitted.fit(features_of([file.path for file in drawn]), labels, groups=speakers)
            accuracy[f"seed {seed}"] = float(np.mean(fitted.predict(x_test) == tested))
        yield shots, accuracy


def measure(features_of: Features, takes: int) -> Iterator[tuple[str, dict[str, float]]]:
    """All probes on the features that a function gives: the data, and accuracy by held-out part."""
    for data, (files, labels, groups) in (
        ("ESC-50, official 5 folds", clips_of("esc50")),
        ("ESC-10, official 5 folds", clips_of("esc10")),
        (f"FSDD, one speaker held out, {takes} takes", fsdd(takes)),
    ):
        yield data, probe(features_of(files), labels, groups)
    for shots, result in probe_words(features_of):
        yield f"nine words of Speech Commands, {shots} takes of each", result
    for name in ("instruments", "initials"):
        task = tasks.load(name)
        values = features_of([file.path for file in task.files])
        _, accuracy = probe_tasks.probe(task, dict(zip(task.files, values, strict=True)))
        yield f"{name}, all training clips", {"test": accuracy}


def features_of_model(model: AST) -> Features:
    """The frozen, mean-pooled features of an encoder."""
    return lambda files: pooled_features(model, mels_of(files), batch=32).numpy()


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="default: the embedded one")] = None,
    takes: Annotated[int, typer.Option(help="takes of each digit and speaker, at most 50")] = 50,
    teacher: Annotated[bool, typer.Option(help="probe YAMNet's embedding, too")] = False,
) -> None:
    """Probe backbone files, show the table and write it to analysis/results/backbone."""
    kinds: dict[str, Features] = {}
    for file in files or [ASSETS / "ast-small.safetensors"]:
        model = load_embedded(file).model
        model.pooling = "mean"
        kinds[file.stem] = features_of_model(model)
    if teacher:
        kinds["YAMNet's embedding"] = lambda files: embeddings(load(f).waveform for f in files)
    runs, lines = [], []
    for kind, features_of in kinds.items():
        for data, accuracy in measure(features_of, takes):
            values = list(accuracy.values())
            spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            said = f"{100 * np.mean(values):.2f} %{spread}"
            parts = ", ".join(f"{100 * value:.1f}" for value in values)
            typer.echo(f"{kind}, {data}: {said}   ({parts})")
            lines.append([kind, data, said, parts])
            runs += [
                {"features": kind, "data": data, "held_out": group, "accuracy": value}
                for group, value in accuracy.items()
            ]
    tables.write(tables.RESULTS / "backbone.csv", runs)
    names = "".join(f" {file.name}" for file in files or ())
    about = (
        f"`python -m analysis.pretraining.evaluate_backbone{names}{' --teacher' * teacher}`; a "
        "logistic regression, its regularisation chosen inside the training part. The spread is "
        "the standard deviation over the held-out parts."
    )
    table = tables.markdown(["features", "data", "accuracy", "held-out parts"], lines)
    page = tables.page("Linear probes on frozen features", about, table)
    (tables.RESULTS / "backbone.md").write_text(page)


if __name__ == "__main__":
    typer.run(main)
