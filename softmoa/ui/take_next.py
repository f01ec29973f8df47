"""What a visitor does best to record next: sounds like those that the model is least sure of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from softmoa.data.tasks import Task
from softmoa.lens.classifier import open_classifier
from softmoa.lens.evaluation import Prediction, evaluate
from softmoa.ui.checks import plain

SHOWN = 3  # clips


def take_next(bundle: Path, task: Task, names: Mapping[Path, str]) -> str:
    """Markdown: the class whose clips a bundle names right least often, or least surely, and the
    clips it is least sure of. Of those alone that it did not learn from; names: of their files."""
    clips = [(file.path, task.labels[file.label]) for file in (*task.valid, *task.test)]
    heard = evaluate(open_classifier(str(bundle)), clips)
    table = pd.DataFrame([vars(of) for of in heard if isinstance(of, Prediction)])
    if table.empty:
        return ""
    table["right"] = table.said == table.label
    table["sure"] = table.probability * table.right
    label = str(table.groupby("label").sure.mean().idxmin())
    right = table[table.label == label].right
    least = table.sort_values("probability", kind="stable")[:SHOWN]
    unsure = [
        plain(f"{names[path]} ({said}, {probability:.0%})")
        for path, said, probability in zip(least.path, least.said, least.probability, strict=True)
    ]
    return (
        f"### Which take next?\nRecord more of **{plain(label)}**: of its {len(right)} clips that "
        f"were not trained on, {right.sum()} are named right. Least sure of all: "
        f"{', '.join(unsure)}. Takes like these teach most."
    )
