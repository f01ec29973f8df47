"""Our forward pass with all routing recorded, against runtimes on the file that `export` writes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from analysis.bench.load_test import megabytes
from analysis.bench.measure import Result, Setting, compared, equal, in_turns
from analysis.bench.peers import base_pair
from softmoa.data.audio import N_MELS, SAMPLE_RATE, encode, frames_in, load
from softmoa.lens import portable
from softmoa.lens.classifier import Classifier, open_classifier
from softmoa.lens.run import run
from softmoa.model.precision import Precision
from softmoa.model.weights import ASSETS

HOUR = 3600  # seconds
LIBGOMP_SPINS = 300_000


def engines(setting: Setting) -> list[Result]:
    """`ast-small` and a base-size model of random weights, as many threads for all."""
    if setting.device.type != "cpu":
        return []
    base = Classifier("", "ast-base", base_pair(setting.device)[0], ("",) * 527, False, None)
    rows = _against(setting, open_classifier(), "ast-small", 5)
    return [*rows, *(row for s in (1, 10) for row in _against(setting, base, "base size", s))]


def _against(setting: Setting, classifier: Classifier, name: str, seconds: int) -> list[Result]:
    import onnxruntime
    import openvino

    mel = torch.randn(frames_in(seconds * SAMPLE_RATE), N_MELS)
    threads, rows = torch.get_num_threads(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.onnx"
        portable.export(classifier, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        core = openvino.Core()
        compiled = {
            precision: core.compile_model(
                path,
                "CPU",
                {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads},
            )
            for precision, hint in (("fp32", "f32"), ("bf16", "bf16"))
        }
    inputs = mel[None].numpy()

    def ours(precision: Precision) -> Callable[[], torch.Tensor]:
        return lambda: classifier.probabilities(run(classifier, [mel], precision=precision).logits)

    cases: tuple[tuple[Precision, str, Callable[[], Any]], ...] = (
        ("fp32", "OpenVINO", lambda: compiled["fp32"](inputs)[0]),
        ("fp32", "ONNX Runtime", lambda: session.run(["probabilities"], {"mel": inputs})[0]),
        ("bf16", "OpenVINO", lambda: compiled["bf16"](inputs)[0]),
    )
    for precision, peer, answer in cases:
        found = torch.as_tensor(answer())
        checked = equal(ours(precision)(), found, 1e-3 if precision == "fp32" else 0.1)
        target = 1.05 if peer == "OpenVINO" else None
        what = f"{name}, {seconds} s, all routing recorded, {precision}"
        against = f"{peer}, {precision}"
        rows.append(in_turns(setting, what, against, ours(precision), answer, target, checked))
    return rows


def long(setting: Setting) -> list[Result]:
    """An hour of the example clips through `timeline`, in a process of its own."""
    clips = sorted(ASSETS.glob("examples/*.ogg"))
    sound = torch.cat([load(clip).waveform for clip in clips])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (HOUR // 10, HOUR):
            path = Path(folder) / f"{seconds}.flac"
            whole = sound.repeat(1 + seconds * SAMPLE_RATE // len(sound))[: seconds * SAMPLE_RATE]
            path.write_bytes(encode(whole, form="FLAC"))
            for precision in ("fp32", "bf16"):
                took, most = _timed(path, precision)
                what = f"{seconds / 60:g} min, {precision}"
                rows.append(Result(f"{what}: times real time", seconds / took, "x"))
                rows.append(Result(f"{what}: memory at most", most, "MB"))
    return rows


def busy(setting: Setting) -> list[Result]:
    """The same beside processes that keep all cores busy, as threads of torch spin for one another
    here, and as libgomp would have them."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minutes.flac"
        path.write_bytes(encode(0.1 * torch.randn(300 * SAMPLE_RATE), form="FLAC"))
        spawn = multiprocessing.get_context("spawn")
        others = [spawn.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
        for other in others:
            other.start()
        for _ in range(min(setting.rounds, 3)):
            ours.append(1000 * _timed(path, "fp32")[0])
            theirs.append(1000 * _timed(path, "fp32", GOMP_SPINCOUNT=str(LIBGOMP_SPINS))[0])
        for other in others:
            other.kill()
    what, against = "a timeline of five minutes, all cores busy", "libgomp's own count of spins"
    return [compared(what, against, ours, theirs)]


def _spin() -> None:
    while True:
        pass


def _timed(path: Path, precision: str, **environment: str) -> tuple[float, float]:
    """Seconds and megabytes of a command."""
    command = [sys.executable, "-m", "softmoa", "timeline", str(path), "--precision", precision]
    began, quiet, most = time.perf_counter(), subprocess.DEVNULL, 0.0
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | environment)
    while child.poll() is None:
        with suppress(OSError):  # it ends just now
            most = max(most, megabytes(child))
        time.sleep(0.1)
    assert child.returncode == 0, f"{' '.join(command)} failed"
    return time.perf_counter() - began, most
