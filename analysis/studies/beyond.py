"""What the shipped bundles are worth beyond their accuracy: `python -m analysis.studies.beyond`.

Writes analysis/results/beyond.md and beyond.csv: test accuracy of every bundle whose task is at
hand, as it is, with no expert answering, and on changed sounds; how many of the tags stay that the
head of `tags` gives to sounds of other tasks (retention); what was trained and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import librosa
import numpy as np
import torch
import typer
from torch import Tensor

from analysis import tables
from softmoa.data import audio, tasks
from softmoa.data.audio import SAMPLE_RATE
from softmoa.data.mels import CLIP_SECONDS
from softmoa.lens.ablation import Intervention
from softmoa.lens.classifier import bundles
from softmoa.methods import bundle, share
from softmoa.model import weights
from softmoa.model.ast import AST
from softmoa.model.recording import hooked, mixtures
from softmoa.training.fit import predict, scores

PAGE = tables.RESULTS / "beyond.md"
NOISE = 10  # dB that white noise lies below the sound
OTHERS = 100  # clips of each other task that retention is measured on
AS_IT_IS = "test"
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    AS_IT_IS: lambda sound: sound,
    "noise": lambda sound: sound + noise(sound),
    "quiet": lambda sound: sound / 10,
    "high": lambda sound: librosa.effects.pitch_shift(sound, sr=SAMPLE_RATE, n_steps=2),
    "fast": lambda sound: librosa.effects.time_stretch(sound, rate=1.2),
}
Examples = Sequence[tuple[Tensor, int]]


def noise(sound: np.ndarray) -> np.ndarray:
    """White noise NOISE dB below a sound, of one seed for sounds of one length."""
    white = np.random.default_rng(len(sound)).standard_normal(len(sound))
    return white * np.sqrt(np.mean(sound**2)) / 10 ** (NOISE / 20)


@cache
def heard(task: str, change: str) -> Examples:
    """The log-mels of the task's test clips, changed; of long clips the loudest CLIP_SECONDS."""
    found = []
    for file in tasks.load(task).test:
        sound = audio.loudest_part(audio.load(file.path).waveform, CLIP_SECONDS).numpy()
        changed = torch.from_numpy(CHANGES[change](sound).astype(np.float32))
        found.append((audio.log_mel(changed), file.label))
    return found


def accuracy(model: AST, examples: Examples) -> float:
    return scores(*predict(model, examples))[1]


def without_experts(model: AST, examples: Examples) -> float:
    """Accuracy with no expert answering; NaN where there is no mixture."""
    places = mixtures(model)
    if not places:
        return float("nan")
    every = {place: tuple(range(moa.router.phi.shape[1])) for place, moa in places.items()}
    off = {place: Intervention(off=experts) for place, experts in every.items()}
    with hooked(model, record=False, change=off):
        return accuracy(model, examples)


def first_tags(model: AST, tags: dict[str, Tensor], examples: Examples) -> Tensor:
    """(clips,) the most probable tag by the final norm and the head of the bundle `tags`."""
    model.reset_head(len(tags["head.linear.bias"]))
    model.load_state_dict(
        {k: v.float() for k, v in tags.items() if "blocks" not in k}, strict=False
    )
    return predict(model.eval(), examples)[0].argmax(dim=1)


def row_of(
    name: str, path: Path, base: weights.Loaded, tags: dict[str, Tensor], at_hand: Iterable[str]
) -> dict[str, object]:
    model, info = bundle.load(path, base)
    whole = {change: accuracy(model, heard(info.task, change)) for change in CHANGES}
    off = without_experts(model, heard(info.task, AS_IT_IS))
    others: list[tuple[Tensor, int]] = []
    for task in at_hand:
        if task != info.task:
            clips = heard(task, AS_IT_IS)
            others += clips[:: max(1, len(clips) // OTHERS)][:OTHERS]
    said, before = (first_tags(of, tags, others) for of in (model, share(base.model)))
    kept = {"retention": (said == before).double().mean().item()}
    state, _ = weights.read_safetensors(path)
    trained = sum(w.numel() for k, w in state.items() if "blocks" in k)
    size = {"trained": trained, "kB": path.stat().st_size // 1000}
    return {"bundle": name, "clips": len(heard(info.task, AS_IT_IS)), **whole, "all off": off,
            **kept, **size}  # fmt: skip


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f}" if value == value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="bundles; default: all")] = None,
    out: Path = PAGE,
) -> None:
    base, rows = weights.load("ast-small"), []
    shipped, at_hand = bundles(), tasks.available()
    tags, _ = weights.read_safetensors(shipped["tags"])
    for name, path in shipped.items():
        if bundle.read_info(path).task in at_hand and name in (names or shipped):
            rows.append(row_of(name, path, base, tags, at_hand))
            typer.echo(rows[-1])
    tables.write(out.with_suffix(".csv"), rows)
    about = (
        "Written by `python -m analysis.studies.beyond`: accuracy (%) of the shipped bundles on "
        f"their test clips; the same with white noise {NOISE} dB below, 20 dB quieter, two "
        "semitones higher and a fifth faster; with no expert answering (heads and norms as "
        "trained). Retention: of how many sounds of other tasks (%) the first tag stays, by the "
        "head and the final norm of `tags`, once what was trained sits in the blocks. Trained: "
        "parameters in the blocks."
    )
    found = tables.markdown(list(rows[0]), [list(map(cell, row.values())) for row in rows])
    out.write_text(tables.page("Beyond accuracy", about, found))


if __name__ == "__main__":
    typer.run(main)
