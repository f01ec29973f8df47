"""How much a backbone's frozen features know: linear probes on data it was never trained on.

    python -m analysis.pretraining.evaluate_backbone
    python -m analysis.pretraining.evaluate_backbone start.safetensors
    assets/ast-small.safetensors --teacher

ESC-50 and ESC-10: the official 5 folds, 4 to train and 1 to test. FSDD (spoken digits): one speaker
held out, mean of 6. Nine words of Speech Commands: so many takes of each from the training list,
drawn SEEDS times, tested on the official list. The strength of regularisation is chosen inside the
training part, group by group, never on the test part. Instruments and initials: as
`analysis.pretraining.probe_tasks`, chosen on the validation clips. Of the embedded backbone also
how well its bundle `tags` names sounds, if there is a corpus, and the size of all assets. Nothing
is chosen by these rows: that is what `analysis.pretraining.validation` is for.

Writes analysis/results/backbone.{csv,md}. The data sets lie in the folder that SOFTMOA_DATA names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

from analysis.pretraining import probe_tasks
from analysis.pretraining.train_bundles import write_table
from softmoa.data import tasks
from softmoa.data.audio import load, log_mel
from softmoa.methods import bundle
from softmoa.model import weights
from softmoa.model.ast import AST
from softmoa.model.weights import ASSETS, load_embedded
from softmoa.training.probe import pooled_features

RESULTS = Path(__file__).parents[1] / "results"
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # C of the logistic regression; small is strong
SHOTS = (10, 50, 200)
SEEDS = 3
Features = Callable[[Sequence[Path]], np.ndarray]  # (clips, d) of files


@dataclass(frozen=True)
class Probe:
    """Accuracy on each held-out group and the predictions that gave it."""

    groups: tuple[str, ...]
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))


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


def probe(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Probe:
    """Leave one group out; the strength is chosen by leaving out groups of the rest in turn."""
    accuracy = []
    names = sorted(set(groups.tolist()))
    for name in names:
        test = groups == name
        fitted = classifier(LeaveOneGroupOut())
        with threadpool_limits(1):  # small matrices: several threads make this 100 times slower
            fitted.fit(features[~test], labels[~test], groups=groups[~test])
        accuracy.append(float(np.mean(fitted.predict(features[test]) == labels[test])))
    return Probe(tuple(names), tuple(accuracy))


def probe_words(features_of: Features) -> Iterator[tuple[int, Probe]]:
    """Nine words by so many takes of each; the strength is chosen over speakers in five parts."""
    task = tasks.load("speech-commands")
    tested = np.array([file.label for file in task.test])
    x_test = features_of([file.path for file in task.test])
    for shots in SHOTS:
        accuracy = []
        for seed in range(SEEDS):
            drawn = tasks.few_shot(task, shots, seed).train
            labels = np.array([file.label for file in drawn])
            speakers = np.array([file.group for file in drawn])
            fitted = classifier(StratifiedGroupKFold(5))
            with threadpool_limits(1):
                fitted.fit(features_of([file.path for file in drawn]), labels, groups=speakers)
            accuracy.append(float(np.mean(fitted.predict(x_test) == tested)))
        yield shots, Probe(tuple(f"seed {seed}" for seed in range(SEEDS)), tuple(accuracy))


@dataclass(frozen=True)
class Row:
    """One line of the table: what was probed on which data."""

    features: str
    data: str
    result: Probe


def measure(features_of: Features, title: str, takes: int) -> Iterator[Row]:
    """All probes on the features that a function gives."""
    for data, (files, labels, groups) in (
        ("ESC-50, official 5 folds", clips_of("esc50")),
        ("ESC-10, official 5 folds", clips_of("esc10")),
        (f"FSDD, one speaker held out, {takes} takes", fsdd(takes)),
    ):
        yield Row(title, data, probe(features_of(files), labels, groups))
    for shots, result in probe_words(features_of):
        yield Row(title, f"nine words of Speech Commands, {shots} takes of each", result)
    for name in ("instruments", "initials"):
        task = tasks.load(name)
        values = features_of([file.path for file in task.files])
        _, accuracy = probe_tasks.probe(task, dict(zip(task.files, values, strict=True)))
        yield Row(title, f"{name}, all training clips", Probe(("test",), (accuracy,)))


def features_of_teacher(files: Sequence[Path]) -> np.ndarray:
    """The mean embedding of YAMNet: what the student was taught from."""
    from analysis.pretraining.teacher import embeddings

    return embeddings(load(file).waveform for file in files)


def features_of_model(model: AST) -> Features:
    """The frozen, mean-pooled features of an encoder."""
    return lambda files: pooled_features(model, mels_of(files), batch=32).numpy()


def measure_tags() -> Iterator[Row]:
    """What the bundle `tags` names, where there is a corpus to test it on."""
    from analysis.pretraining import corpus, train_tags

    if not (corpus.folder() / "corpus.csv").exists():
        typer.echo("no corpus: the bundle `tags` is not measured", err=True)
        return
    model, _ = bundle.load(train_tags.OUT, weights.load("ast-small"))
    for name, value in train_tags.evaluate(model).items():
        if not name.startswith(("clips", "tags_counted")):
            yield Row("bundle tags", name.replace("_", " "), Probe(("all",), (value,)))


def write(rows: Sequence[Row], command: str) -> None:
    """results/backbone.csv and backbone.md."""
    table = [
        {"features": row.features, "data": row.data, "held_out": group, "accuracy": value}
        for row in rows
        for group, value in zip(row.result.groups, row.result.accuracy, strict=True)
    ]
    write_table(RESULTS / "backbone.csv", list(table[0]), table)
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
        several = len(row.result.accuracy) > 1
        spread = f" ± {100 * np.std(row.result.accuracy, ddof=1):.1f}" if several else ""
        lines.append(
            f"| {row.features} | {row.data} | {100 * row.result.mean:.2f} %{spread} | {parts} |"
        )
    (RESULTS / "backbone.md").write_text("\n".join(lines) + "\n")


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="default: the embedded one")] = None,
    takes: Annotated[int, typer.Option(help="takes of each digit and speaker, at most 50")] = 50,
    teacher: Annotated[bool, typer.Option(help="probe YAMNet's embedding, too")] = False,
) -> None:
    """Probe backbone files, show the table and write it to analysis/results/backbone."""
    rows = []
    for file in files or [ASSETS / "ast-small.safetensors"]:
        model = load_embedded(file).model
        model.pooling = "mean"
        rows += shown(measure(features_of_model(model), file.stem, takes))
    if teacher:
        rows += shown(measure(features_of_teacher, "YAMNet's embedding", takes))
    if not files:
        rows += shown(measure_tags())
        size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
        typer.echo(f"assets: {size / 1e6:.1f} MB")
    names = "".join(f" {file.name}" for file in files or ())
    command = f"python -m analysis.pretraining.evaluate_backbone{names}" + " --teacher" * teacher
    write(rows, command)


def shown(rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows, each printed when it is there."""
    for row in rows:
        parts = "  ".join(
            f"{name} {100 * value:.1f}"
            for name, value in zip(row.result.groups, row.result.accuracy, strict=True)
        )
        typer.echo(f"{row.features}, {row.data}: {100 * row.result.mean:.2f} %   ({parts})")
        yield row


if __name__ == "__main__":
    typer.run(main)
