"""What the embedded tasks ask for: linear probes on features from crude to learned.

    python -m analysis.pretraining.probe_tasks --teacher

A logistic regression is fitted on the training clips, its strength of regularisation chosen on the
validation clips, and the test clips are looked at once. Features: the course of loudness (mean of
each log-mel frame), the mean and standard deviation of each log-mel band, and the mean final token
of the frozen embedded backbone; the last also with a few training clips of each class, five seeds.
With `--teacher` the mean embedding of YAMNet, too, which the backbone was taught from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis.pretraining.teacher import embeddings
from softmoa.data import tasks
from softmoa.data.audio import load
from softmoa.data.tasks import LabelledFile, Task
from softmoa.model import weights
from softmoa.training.probe import pooled_features

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)  # C of the logistic regression; small is strong
SHOTS = (5, 10, 20)  # training clips per class
SEEDS = 5


def probe(task: Task, features: dict[LabelledFile, np.ndarray]) -> tuple[float, float]:
    """Validation and test accuracy at the strength that is best in validation."""

    def part(files: Sequence[LabelledFile]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([features[f] for f in files]), np.array([f.label for f in files])

    (x, y), valid, test = part(task.train), part(task.valid), part(task.test)
    best, accuracy = -1.0, 0.0
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        with threadpool_limits(1):  # small matrices: several threads make this 100 times slower
            model.fit(x, y)
        if (score := float(np.mean(model.predict(valid[0]) == valid[1]))) > best:
            best, accuracy = score, float(np.mean(model.predict(test[0]) == test[1]))
    return best, accuracy


def main(
    backbone: str = "ast-small",
    teacher: Annotated[bool, typer.Option(help="probe YAMNet's embedding, too")] = False,
) -> None:
    model = weights.load(backbone).model
    model.pooling = "mean"
    for name in ("instruments", "tones", "initials"):
        task = tasks.load(name)
        mels = [mel for mel, _ in tasks.log_mels(task.files)]
        learned = pooled_features(model, mels).numpy()
        kinds = {
            "loudness": [mel.mean(dim=1).numpy() for mel in mels],
            "log-mel mean and deviation": [
                np.concatenate([mel.mean(dim=0), mel.std(dim=0)]) for mel in mels
            ],
            f"frozen {backbone}": list(learned),
        }
        if teacher:
            kinds["YAMNet's embedding"] = list(
                embeddings(load(file.path).waveform for file in task.files)
            )
        typer.echo(f"{name}: {task.summary} Majority {task.majority:.3f}.")
        for kind, values in kinds.items():
            valid, test = probe(task, dict(zip(task.files, values, strict=True)))
            typer.echo(f"  {kind}: validation {valid:.3f}, test {test:.3f}")
        features = dict(zip(task.files, learned, strict=True))
        fewest = min(task.counts["train"])
        for count in SHOTS:
            if count > fewest:
                typer.echo(f"  {count} shots: a class has {fewest} training clips")
                continue
            scores = [probe(tasks.few_shot(task, count, s), features) for s in range(SEEDS)]
            valid, test = np.mean(scores, axis=0)
            spread = np.std([test for _, test in scores], ddof=1)
            typer.echo(
                f"  frozen {backbone}, {count} shots: validation {valid:.3f}, "
                f"test {test:.3f} +- {spread:.3f} over {SEEDS} seeds"
            )


if __name__ == "__main__":
    typer.run(main)
