"""Train a bundle on the frozen embedded backbone, beside the linear probe it starts from.

    python -m analysis.train_bundle --test-fold 5 --out assets/bundles/esc10-soft-moa.safetensors

The number of epochs is chosen on one held-out training fold; then the run is repeated on all
training folds for that many epochs and the test fold is looked at once. Every seed is reported;
the file written is the first seed's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import torch
import typer

from softmoa import bundle, tasks, training, weights
from softmoa.ast import AST
from softmoa.methods import attach, share, trained_parameters
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.probe import fit_linear, pooled_features
from softmoa.training import Example, TrainingOptions


def warm_start(model: AST, backbone: AST, train: Sequence[Example], classes: int) -> None:
    """Give the head of `model` the linear solution on the features of the bare backbone."""
    features = pooled_features(backbone, [mel for mel, _ in train])
    labels = torch.tensor([label for _, label in train])
    model.set_head(*fit_linear(features, labels, classes))


def run(
    backbone: AST,
    method: SoftMoAOptions,
    options: TrainingOptions,
    classes: int,
    train: Sequence[Example],
    valid: Sequence[Example] = (),
) -> tuple[AST, list[training.Event]]:
    """One Soft-MoA run from the warm head; the trained model and what happened."""
    model = share(backbone)
    attach(model, "soft-moa", method, classes, options.seed)
    warm_start(model, backbone, train, classes)
    events = []
    for event in training.fit(model, train, valid, options):
        events.append(event)
        if isinstance(event, training.Evaluated):
            print(f"  step {event.step:4d}  loss {event.loss:.3f}  accuracy {event.accuracy:.3f}")
    return model, events


def main(
    out: Annotated[Path, typer.Option(help="Bundle to write.")],
    task: str = "esc10",
    test_fold: str = "5",
    valid_fold: str = "4",
    experts: int = 7,
    slots: int = 1,
    reduction: int = 32,
    epochs: Annotated[int, typer.Option(help="At most; validation chooses.")] = 6,
    learning_rate: float = 3e-4,
    seeds: int = 3,
) -> None:
    base = weights.load("ast-small")
    data = tasks.load(task)
    classes = len(data.labels)
    method = SoftMoAOptions(experts=experts, slots=slots, reduction=reduction)
    options = TrainingOptions(epochs=epochs, learning_rate=learning_rate, precision="bf16")
    folds = [group for group in data.groups if group != test_fold]
    mels = {group: tasks.log_mels(data.split(group)) for group in data.groups}
    train = [example for group in folds for example in mels[group]]
    inner = [example for group in folds if group != valid_fold for example in mels[group]]

    print(f"choosing epochs on fold {valid_fold}")
    _, events = run(base.model, method, options, classes, inner, mels[valid_fold])
    curve = [event for event in events if isinstance(event, training.Evaluated)]
    best = max(range(1, len(curve)), key=lambda k: (curve[k].accuracy, -curve[k].loss))
    print(f"-> {best} epochs (validation accuracy {curve[best].accuracy:.3f})")

    probe = share(base.model)
    attach(probe, "linear", bundle.METHODS["linear"].options(), classes)
    warm_start(probe, base.model, train, classes)
    _, probe_accuracy = training.evaluate(probe, mels[test_fold])
    print(f"fold {test_fold}: linear probe {probe_accuracy:.3f}")

    accuracies = []
    for seed in range(seeds):
        model, _ = run(base.model, method, replace(options, epochs=best, seed=seed), classes, train)
        accuracies.append(training.evaluate(model, mels[test_fold])[1])
        print(f"fold {test_fold}: Soft-MoA, seed {seed}: {accuracies[-1]:.3f}")
        if seed == 0:
            out.parent.mkdir(parents=True, exist_ok=True)
            info = bundle.BundleInfo(
                name=out.stem,
                task=task,
                method="soft-moa",
                options=asdict(method),
                labels=data.labels,
                base=base.name,
                base_sha256=base.sha256,
                metrics={"test_accuracy": accuracies[0], "probe_accuracy": probe_accuracy},
                notes=f"test fold {test_fold}, {best} epochs, lr {learning_rate:g}",
            )
            bundle.save(out, model, info)
            print(f"wrote {out}: {trained_parameters(model)} trained parameters without the head")
    spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"fold {test_fold}: Soft-MoA {mean(accuracies):.3f} +- {spread:.3f} over {seeds} seeds")


if __name__ == "__main__":
    typer.run(main)
