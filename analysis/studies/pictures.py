"""`python -m analysis.studies.pictures`: are the pictures of the experts true, over a test set?

Writes results/pictures.csv, one row for each clip and question, and pictures.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer
from scipy import stats

from analysis import tables
from analysis.studies import pages
from analysis.studies.engine import commit
from softmoa.data import audio, tasks
from softmoa.lens.ablation import signed_contribution
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import Classification, classify
from softmoa.lens.contribution import expert_norms, specialisation
from softmoa.lens.export import weights_of
from softmoa.lens.faithfulness import Faithfulness, faithfulness
from softmoa.lens.planted import plant, pointing
from softmoa.lens.run import run
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"
BUNDLES = {
    "instruments-soft-moa": "instruments",
    "instruments-top1-moa": "instruments",
    "tones-soft-moa": "tones",
    "tags": "",  # without a test set of its own: the gallery
}
PLANTED = ("bell", "dog_bark", "snare", "speech")
LEVELS = (-10, 0, 10)  # dB over the clip
Row = dict[str, Any]


def clips(task: str, count: int) -> list[Path]:
    """At equal distances, so that every class has some."""
    found = [file.path for file in tasks.load(task).test] if task else sorted(EXAMPLES.glob("*.*g"))
    return found[:: math.ceil(len(found) / count)]


def maps(result: Classification, target: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Maps by name, values of the tokens; of a layer: the one whose experts differ most."""
    signed = signed_contribution(result.classifier.model, result.mel, target)
    row = max(range(len(signed)), key=lambda k: specialisation(result.records[k]))
    record = result.records[row]
    most, best = int(expert_norms(record)[0].argmax()), int(signed[row].sum(dim=0).argmax())
    yield "contribution, all layers", signed.sum(dim=(0, 2))
    yield "contribution, a layer", signed[row].sum(dim=1)
    yield "contribution, its best expert", signed[row][:, best]
    yield "dispatch, its loudest expert", weights_of(record)[0][most].sum(dim=0)
    yield "combine, its loudest expert", weights_of(record)[1][most].sum(dim=0)


def faithful(bundle: str, path: Path) -> Iterator[Row]:
    """How faithful the maps of one clip are."""
    result = classify(open_classifier(bundle), path)
    target = int(result.logits.argmax())

    def probability(mels):
        logits = run(result.classifier, mels, record=False).logits
        return result.classifier.probabilities(logits)[:, target]

    for name, values in maps(result, target):
        both = faithfulness(probability, result.mel, result.grid.unfold(values), result.grid)
        row: Row = {"bundle": bundle, "clip": path.name, "question": name}
        for key, one in zip(("", "random "), both, strict=True):
            row |= {key + measure: 100 * value(one) for measure, value in MEASURES.items()}
        yield row


MEASURES: dict[str, Callable[[Faithfulness], float]] = {
    "AI": lambda f: f.increase,
    "AD": lambda f: f.drop,
    "AG": lambda f: f.gain,
    "FF": lambda f: f.faithfulness,
}


def points(bundle: str, path: Path, event: str, level: int) -> Row:
    """Whether an expert points at a sound that is planted in the second third of a clip."""
    classifier, host = open_classifier(bundle), audio.load(path).waveform
    sound = audio.load(next(EXAMPLES.glob(f"{event}.*"))).waveform[: len(host) // 3]
    grid = classify(classifier, path, record=False).grid
    at = len(host) / audio.SAMPLE_RATE / 3
    found = pointing(classifier, plant(host, sound, at, level, grid), grid)
    row = {"bundle": bundle, "clip": path.name, "question": f"planted at {level:+d} dB"}
    return row | {"planted": event, "AUC": found.score, "AUC before": found.before}


def main(
    count: Annotated[int, typer.Option("--clips", help="of each bundle")] = 12,
    out: Path = tables.RESULTS,
) -> None:
    torch.set_num_threads(1)
    rows: list[Row] = []
    for bundle, task in BUNDLES.items():
        for k, path in enumerate(clips(task, count)):
            rows += faithful(bundle, path)
            rows += [points(bundle, path, PLANTED[k % len(PLANTED)], level) for level in LEVELS]
            print(bundle, k + 1, path.name, flush=True)
    tables.write(out / "pictures.csv", rows)
    (out / "pictures.md").write_text(page(rows, count))


PAGE = """# Are the pictures true?

Written by `python -m analysis.studies.pictures`. {clips} clips of each test set, at equal
distances (`tags`: the gallery); the label is the model's own answer. Differences with their 95
% interval over clips.

{origin}

## Faithfulness

A map marks the quarter of the patches where it is highest; beside it random quarters. AI: clips
whose label gains from the marked part alone; AD: what it loses; AG: what it gains; FF: what it
loses without that part (formulas and sources: `softmoa/lens/faithfulness.py`). A map is true
where it loses less than random quarters alone, and takes more away with it. A layer is the one
whose experts differ most.

{true}

## A planted sound

A sound is mixed into the middle third. AUC: how often a patch of the planted sound has more of
the expert's dispatch weight than another patch; that of the best expert, beside the best before
the sound was there (`softmoa/lens/planted.py`).

{pointed}
"""


def page(rows: list[Row], count: int) -> str:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if not math.isnan(row.get("AUC", 0)):
            groups.setdefault((row["bundle"], row["question"]), []).append(row)
    true, pointed = [], []
    for names, own in groups.items():
        if "FF" in own[0]:
            cells = [means(own, m, f"random {m}") for m in MEASURES]
            cells += [gap(own, "random AD", "AD"), gap(own, "FF", "random FF")]
            true.append([*names, *cells, str(len(own))])
        else:
            cells = [means(own, "AUC", "AUC before", 3)]
            pointed.append([*names, *cells, gap(own, "AUC", "AUC before", 3), str(len(own))])
    measures = [f"{m}, % : random" for m in MEASURES]
    heads = ["bundle", "map", *measures, "AD, random - map", "FF, map - random", "clips"]
    return PAGE.format(
        clips=count,
        origin=pages.origin([{"commit": commit()}]),
        true="\n".join(tables.markdown(heads, true)),
        pointed="\n".join(
            tables.markdown(["bundle", "question", "AUC : before", "difference", "clips"], pointed)
        ),
    )


def means(rows: list[Row], first: str, second: str, digits: int = 1) -> str:
    """Of two columns."""
    values = (mean(row[key] for row in rows) for key in (first, second))
    return " : ".join(f"{value:.{digits}f}" for value in values)


def gap(rows: list[Row], more: str, less: str, digits: int = 1) -> str:
    """Mean difference of two columns with its 95 % interval."""
    found = [row[more] - row[less] for row in rows]
    half = stats.sem(found) * stats.t.ppf(0.975, len(found) - 1)
    return f"{mean(found):+.{digits}f} ± {half:.{digits}f}"


if __name__ == "__main__":
    typer.run(main)
