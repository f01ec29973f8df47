"""File to labels: the base size against transformers, by stage, batched, and recording."""

from __future__ import annotations

import json
import time
from statistics import median

import torch

from analysis.bench.measure import (
    Result,
    Setting,
    alternate,
    equal,
    in_turns,
    of_a_product,
    sound_file,
)
from analysis.bench.peers import base_pair, pipeline_on
from softmoa.data.audio import AUDIOSET_MEAN, AUDIOSET_STD, N_MELS, load, log_mel
from softmoa.lens.classifier import Classifier, open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.run import run as run_model
from softmoa.model.precision import autocast, stored_in_bf16
from softmoa.model.recording import hooked
from softmoa.model.weights import ASSETS
from softmoa.ui.stage import stage


def inference(setting: Setting) -> list[Result]:
    """File to labels at the base size, against the pipeline at its defaults."""
    ours, theirs = base_pair(setting.device)
    pipe = pipeline_on(theirs, setting.device)
    labels = tuple(str(i) for i in range(527))
    classifier = Classifier("", "ast-base", ours, labels, False, None)
    rows = []
    for seconds, target in ((10, 0.5), (1, 0.08 if setting.device.type == "cpu" else 0.5)):
        with sound_file(seconds) as path:
            scores = {row["label"]: row["score"] for row in pipe(path)}
            expected = torch.tensor([scores[label] for label in labels])

            def run(precision, path=path):
                return classify(classifier, path, False, precision=precision)

            mel = padded_as_trained(log_mel(load(path).waveform), 1024)
            exact, lower = (
                classifier.probabilities(run_model(classifier, [mel], precision=p).logits[0])
                for p in ("fp32", "bf16")
            )
            same = f"fp32: {equal(exact, expected, 1e-4)}; bf16: {equal(lower, expected, 0.05)}"
            checked = f"both padded, {same}"
            for precision in ("auto", "fp32"):
                rows.append(
                    in_turns(
                        setting,
                        f"classify a {seconds} s file at its own length, base size, {precision}",
                        "transformers pipeline, padded to 10 s, fp32",
                        lambda run=run, precision=precision: run(precision),
                        lambda path=path: pipe(path),
                        target if precision == "auto" else None,
                        checked,
                    )
                )
    return [*rows, _batched(setting), _precision_on_real_clips()]


def _batched(setting: Setting) -> Result:
    """Batches of 10 s clips in bf16, as a share of the device's own matrix products."""
    ours, _ = base_pair(setting.device)
    twin, batch = stored_in_bf16(ours), 64 if setting.device.type == "cuda" else 2
    mel = torch.randn(batch, 998, N_MELS, device=setting.device)

    def forward() -> None:
        with torch.inference_mode(), autocast(twin, "bf16"):
            twin(mel)

    c = ours.config
    tokens = 2 + c.bands * c.columns(998)
    work = c.depth * (24 * tokens * c.width**2 + 4 * tokens**2 * c.width) * batch
    size = 8192 if setting.device.type == "cuda" else 2048
    what = f"batch of {batch} clips of 10 s, base size, bf16"
    return of_a_product(setting, what, work, forward, torch.bfloat16, size)


def _precision_on_real_clips() -> Result:
    """What bf16 does to the answers of the shipped bundle on the shipped clips."""
    classifier = open_classifier()
    worst, agree = 0.0, 0
    clips = sorted([*ASSETS.glob("examples/*.ogg"), *ASSETS.glob("examples/*.flac")])
    for path in clips:
        exact, lower = (classify(classifier, path, False, precision=p) for p in ("fp32", "bf16"))
        worst = max(worst, (exact.probabilities - lower.probabilities).abs().max().item())
        agree += exact.top(1)[0][0] == lower.top(1)[0][0]
    what = (
        f"bf16 against fp32, ast-small, {len(clips)} example clips: largest change of a "
        f"probability; {agree} of {len(clips)} first labels agree"
    )
    return Result(what, worst, "")


def recording(setting: Setting) -> list[Result]:
    """Cost of recording all routing on `ast-small`, one 5 s clip."""
    model = open_classifier().model.to(setting.device)
    mel = torch.randn(1, 498, N_MELS, device=setting.device)

    def plain() -> torch.Tensor:
        with torch.inference_mode():
            return model(mel)

    def recorded() -> torch.Tensor:
        with torch.inference_mode(), hooked(model):
            return model(mel)

    checked = equal(recorded(), plain(), 0)
    target = 1.1 if setting.device.type == "cpu" else 1.15
    setting = Setting(setting.device, 4 * setting.rounds)
    what = "recording all routing, ast-small, 5 s"
    return [in_turns(setting, what, "plain forward", recorded, plain, target, checked)]


def explore(setting: Setting) -> list[Result]:
    """First and later classification of a 5 s clip by stage, and drawing it, on `ast-small`.

    The page computes these on the processor wherever it runs.
    """
    if setting.device.type != "cpu":
        return []
    with sound_file(5) as path:
        began = time.perf_counter()
        classifier = open_classifier()
        rows = [Result("open the bundle", 1000 * (time.perf_counter() - began))]
        runs = [classify(classifier, path) for _ in range(setting.rounds + 1)]
    for step in ("decode", "features", "forward"):
        first, *later = (getattr(run.timing, step) for run in runs)
        rows += [Result(f"{step}, first", first), Result(f"{step}, later", median(later))]

    def pack() -> str:
        """What the page is sent of a clip."""
        return json.dumps(stage.clip_of(runs[0]))

    [packed] = alternate(setting, pack)
    rows += [Result("stage", median(packed)), Result("stage", len(pack()) / 1000, "kB")]
    assets = sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file())
    return [*rows, Result("everything in assets", assets / 1e6, "MB")]


def padded_as_trained(mel: torch.Tensor, frames: int) -> torch.Tensor:
    """Cut or pad (n, mels) to `frames` as the published checkpoints were trained.

    The padding is zero before normalisation, so it is louder than the average sound.
    """
    zero = -AUDIOSET_MEAN / (2 * AUDIOSET_STD)
    return torch.nn.functional.pad(mel[:frames], (0, 0, 0, max(frames - len(mel), 0)), value=zero)
