"""Speed, ours against what people use today: `python -m analysis.bench [STUDY ...]`.

Everything compared runs in this one process, alternating, with the same weights; the medians of
several rounds and their ratio are printed and written to analysis/results/bench-cpu.json.
Outputs are compared before anything is timed.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer

from softmoa import audio, classify, plots
from softmoa.ast import AST
from softmoa.methods import attach, share
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.weights import ASSETS, hub_config, hub_state

RESULTS = Path(__file__).parent / "results"


def alternate(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Median milliseconds of each action, the actions taking turns, after one warm-up each."""
    for action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, kept in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            kept.append(1000 * (time.perf_counter() - began))
    return [median(kept) for kept in times]


def sound_file(folder: str, seconds: float) -> Path:
    """A WAV file of noise under a slow swell, 16 kHz."""
    time_axis = np.arange(round(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.1, len(time_axis))
    path = Path(folder) / f"{seconds:g}s.wav"
    soundfile.write(path, noise * np.sin(0.5 * time_axis), audio.SAMPLE_RATE)
    return path


def base_pair() -> tuple[AST, Callable[[Path], list]]:
    """Our base-size model and a transformers pipeline with the same random weights."""
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        pipeline,
    )

    torch.manual_seed(0)
    hub = ASTForAudioClassification(
        ASTConfig(id2label={i: f"LABEL_{i}" for i in range(527)})
    ).eval()
    ours = AST(hub_config(hub.config.to_dict())).eval()
    ours.load_state_dict(hub_state(hub.state_dict(), ours.config.bands))
    pipe = pipeline("audio-classification", model=hub, feature_extractor=ASTFeatureExtractor())

    def theirs(path: Path) -> list:
        samples, rate = soundfile.read(path, dtype="float32")
        return pipe({"raw": samples, "sampling_rate": rate}, top_k=527)

    return ours, theirs


def inference(rounds: int) -> dict:
    """File to labels at the base size, 10 s and 1 s, against the transformers pipeline."""
    ours, theirs = base_pair()
    labels = tuple(f"LABEL_{i}" for i in range(527))
    classifier = classify.Classifier("", "ast-base", ours, labels, False, None)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (10, 1):
            path = sound_file(folder, seconds)
            padded = classify.classify(classifier, path, record=False, pad_frames=1024)
            expected = {row["label"]: row["score"] for row in theirs(path)}
            worst = max(abs(expected[name] - p) for name, p in padded.top(527))
            assert worst < 1e-5, f"outputs differ by {worst}"
            own, peer = alternate(
                rounds,
                lambda path=path: classify.classify(classifier, path, record=False),
                lambda path=path: theirs(path),
            )
            found[f"base, {seconds} s, file to labels"] = {
                "ours_ms": own,
                "transformers_ms": peer,
                "ratio": own / peer,
                "same_padding_difference": worst,
            }
    return found


def recording(rounds: int) -> dict:
    """Cost of recording all routing on `ast-small`, one 5 s clip."""
    classifier = classify.open_classifier()
    mel = torch.randn(1, 498, audio.N_MELS)

    def plain() -> None:
        with torch.inference_mode():
            classifier.model(mel)

    def recorded() -> None:
        with torch.inference_mode(), classify.record_routing(classifier.model):
            classifier.model(mel)

    without, with_records = alternate(4 * rounds, plain, recorded)
    return {
        "recording, ast-small, 5 s": {
            "plain_ms": without,
            "recorded_ms": with_records,
            "ratio": with_records / without,
        }
    }


def explore(rounds: int) -> dict:
    """First and later classification of a 5 s clip by stage, and a change of layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = sound_file(folder, 5)
        began = time.perf_counter()
        classifier = classify.open_classifier()
        loaded = 1000 * (time.perf_counter() - began)
        runs = [classify.classify(classifier, path).timing for _ in range(rounds + 1)]
        result = classify.classify(classifier, path)
    stages = ("decode", "features", "forward")
    dispatch, _ = result.records[0].routing.per_slot()
    maps = result.grid.unfold(dispatch[0].movedim(0, -1).flatten(0, 1))

    def draw() -> str:
        return plots.experts(
            result.mel, maps, result.grid, titles=[""] * len(maps), title="", unit=""
        ) + plots.overlay(result.mel, maps[0], result.grid, title="", unit="")

    [drawn] = alternate(rounds, draw)
    return {
        "explore, ast-small, 5 s": {
            "load_ms": loaded,
            "first_ms": {stage: getattr(runs[0], stage) for stage in stages},
            "later_ms": {stage: median(getattr(t, stage) for t in runs[1:]) for stage in stages},
            "heatmaps_ms": drawn,
            "heatmaps_kb": len(draw()) / 1000,
        }
    }


def methods(rounds: int) -> dict:
    """Forward of the base size with and without Soft-MoA at the paper's defaults, 5 s."""
    with torch.device("cpu"):
        base, _ = base_pair()
    moa = share(base)
    attach(moa, "soft-moa", SoftMoAOptions(), 10)
    moa.eval()
    mel = torch.randn(1, 498, audio.N_MELS)

    def run(model: AST) -> None:
        with torch.inference_mode():
            model(mel)

    plain, with_moa = alternate(rounds, lambda: run(base), lambda: run(moa))
    return {
        "base, 5 s, forward": {
            "plain_ms": plain,
            "soft_moa_ms": with_moa,
            "ratio": with_moa / plain,
        }
    }


STUDIES = {f.__name__: f for f in (explore, recording, inference, methods)}


def main(
    studies: Annotated[list[str] | None, typer.Argument(help=", ".join(STUDIES))] = None,
    rounds: int = 5,
    out: Path = RESULTS / "bench-cpu.json",
) -> None:
    chosen = studies or list(STUDIES)
    if unknown := [name for name in chosen if name not in STUDIES]:
        raise typer.BadParameter(f"no study {unknown[0]}; there are {', '.join(STUDIES)}")
    assets = sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file())
    found: dict = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "assets_mb": assets / 1e6,
    }
    for name in chosen:
        found |= STUDIES[name](rounds)
    print(json.dumps(found, indent=2))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
