"""Words that many speakers say, with their labels: what stays the same from voice to voice.

    python -m analysis.pretraining.words --recordings 20000

The other teachers say what is heard at a moment; that the same word of another speaker should give
the same features, they do not ask. A recording is drawn by its word, and changed in tempo, pitch,
band, room and noise; the student names the word from the pooled features that the app uses, and
says what EfficientWord-Net (`analysis.pretraining.word_teacher`) heard in the recording as it was.
Half of the labelled ones are recorded: Arabic, English and Mandarin words of more than a hundred
speakers; the other half are the English words of `analysis.pretraining.voices`. One in four is a
short recording of the corpus without a label. A shard of SHARD under $SOFTMOA_CORPUS/words/ holds

    mel         (SHARD, 240, 128) float16   the changed recording, zeros behind its end
    frames      (SHARD,)                    its true length
    word        (SHARD,)                    PACKAGE:WORD, or an empty text
    embedding   (SHARD, 2048)     float16   what the teacher heard
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from analysis.pretraining import speech_teacher, teacher, voices, word_teacher
from analysis.pretraining.corpus import folder, read, spoken
from analysis.pretraining.scenes import Scale, Shards, augment
from analysis.pretraining.student import WORDS, Student, ridge
from softmoa.data.audio import SAMPLE_RATE, log_mel
from softmoa.data.collection import trim
from softmoa.data.tasks import TaskError
from softmoa.model.device import sent
from softmoa.training.probe import fit_linear

WORD_OF: dict[str, Callable[[str], str]] = {  # by package, from the path of a recording
    "abdulkaderghandoura/arabic-speech-commands-dataset": lambda path: path.split("/")[1],
    "Picovoice/wake-word-benchmark": lambda path: path.split("/")[1],
    "zhongyuchen/DSPSpeech-20": lambda path: path.split("-")[-2],  # speaker-word-round.wav
    "ShawnHymel/custom-speech-commands-dataset": lambda path: path.split("/")[1],
    voices.PACKAGE: lambda path: path.split("/")[0],
}
FEWEST = 40  # recordings of a word
SYNTHETIC = 0.5  # of what is drawn with a label
UNLABELLED = 0.25  # of what is drawn
LONGEST = 2 * SAMPLE_RATE
FRAMES = 240  # of the longest at its slowest
WIDEST_MASK = 0.2  # of the frames, that SpecAugment hides
SOUND_WEIGHT = 1.0  # of EfficientWord-Net's mean squared error beside the cross-entropy


class Recordings:
    """Every recorded word as often as the others, and so the synthetic ones; others without label
    by the size of their package."""

    def __init__(self) -> None:
        self.corpus, rows = read()
        utterances = spoken(rows)
        by_word: dict[str, list[dict[str, str]]] = {}
        for row in utterances:
            if word_of := WORD_OF.get(row["package"]):
                by_word.setdefault(f"{row['package']}:{word_of(row['path'])}", []).append(row)
        self.rows = {word: of for word, of in sorted(by_word.items()) if len(of) >= FEWEST}
        synthetic = np.array([word.startswith(f"{voices.PACKAGE}:") for word in self.rows])
        shares = np.where(synthetic, SYNTHETIC / max(synthetic.sum(), 1), 0)
        shares += np.where(synthetic, 0, (1 - SYNTHETIC) / max((~synthetic).sum(), 1))
        self.chances = shares / shares.sum()
        self.others = [
            row
            for row in utterances
            if row["package"] not in WORD_OF and int(row["samples"]) <= word_teacher.WINDOW
        ]
        self.weights = speech_teacher.clip_weights(self.others) if self.others else np.zeros(0)

    def draw(self, rng: np.random.Generator) -> tuple[str, Tensor]:
        """A word, or an empty text, and one recording of it, (samples,)."""
        if self.others and rng.random() < UNLABELLED:
            word, row = "", self.others[rng.choice(len(self.others), p=self.weights)]
        else:
            word = list(self.rows)[rng.choice(len(self.rows), p=self.chances)]
            row = self.rows[word][rng.integers(len(self.rows[word]))]
        waveform = teacher.clip_of(self.corpus, row)
        with suppress(TaskError):  # too quiet to find the word in it
            waveform = trim(waveform)
        return word, waveform[:LONGEST]


def change(rng: np.random.Generator, waveform: Tensor) -> Tensor:
    """The same recording in another voice, room and noise."""
    sound = waveform.numpy()
    if rng.random() < 0.7:
        sound = soxr.resample(sound, SAMPLE_RATE * 2 ** rng.uniform(-0.25, 0.25), SAMPLE_RATE)
    if rng.random() < 0.3:  # as it comes from a recorder that was on before and after
        sound = np.pad(sound, rng.integers(0, SAMPLE_RATE // 4, 2))[: FRAMES * 160]
    sound = sound * 10 ** (rng.uniform(-30, -15) / 20) / (np.sqrt(np.mean(sound**2)) + 1e-6)
    return speech_teacher.recorded(rng, sound)


@cache
def _recordings() -> Recordings:
    return Recordings()


def word_folder() -> Path:
    return folder() / "words"


def _make_shard(number: int) -> int:
    """Make and store one shard; the seed is the shard's number."""
    rng = np.random.default_rng([2, number])
    drawn = [_recordings().draw(rng) for _ in range(teacher.SHARD)]
    mels = [log_mel(change(rng, waveform))[:FRAMES] for _, waveform in drawn]
    arrays = {
        "mel": np.stack([np.pad(mel, ((0, FRAMES - len(mel)), (0, 0))) for mel in mels]),
        "frames": np.array([len(mel) for mel in mels]),
        "word": np.array([word for word, _ in drawn]),
        "embedding": word_teacher.hear([waveform for _, waveform in drawn]),
    }
    teacher.store(word_folder() / f"{number:04d}", arrays)
    return number


@dataclass(frozen=True)
class Spoken:
    """mel (b, frames, 128), true frames (b,), the numbers of the words (b,), -1 where there is no
    label, and what the teacher heard (b, 2048), standardised."""

    mel: Tensor
    frames: Tensor
    words: Tensor
    embedding: Tensor

    def to(self, where: torch.device) -> Spoken:
        """The batch on a device."""
        return Spoken(**{name: sent(value, where) for name, value in vars(self).items()})


class Words(Shards):
    """Batches of cached recordings, augmented on the log-mel; numbers of words in the order of
    their first appearance, so that more shards leave them as they are.

    rank: of this process; each draws recordings of its own. scale: of the teacher's embedding.
    """

    def __init__(
        self,
        shards: list[Path],
        size: int = 32,
        seed: int = 0,
        rank: int = 0,
        scale: Scale | None = None,
    ):
        super().__init__(shards, ("mel", "frames", "word", "embedding"))
        said = np.concatenate(self.arrays["word"]).tolist()
        self.names = [word for word in dict.fromkeys(said) if word][:WORDS]
        number = {word: i for i, word in enumerate(self.names)}
        self.numbers = np.array([number.get(word, -1) for word in said])
        self.size, self.seed, self.rank = size, seed, rank
        if scale is None:
            some = np.concatenate([part[:100] for part in self.arrays["embedding"]])
            scale = Scale.of(torch.from_numpy(some.astype(np.float32))[None])
        self.scale = scale
        self.restart(0)

    def restart(self, step: int) -> None:
        """Draw from here on what a run that goes on at `step` draws."""
        self.rng = np.random.default_rng([2, self.seed, self.rank, step])

    def draw(self) -> Spoken:
        drawn = self.rng.integers(0, len(self), self.size)
        frames = self.gather("frames", drawn).long()
        mel = self.gather("mel", drawn)[:, : int(frames.max())]
        mel = augment(mel, self.rng, int(WIDEST_MASK * mel.shape[1]))
        numbers = torch.from_numpy(self.numbers[drawn])
        return Spoken(mel, frames, numbers, self.scale(self.gather("embedding", drawn)))


def word_loss(student: Student, spoken: Spoken) -> Tensor:
    """Cross-entropy of the words that have a label, and how far off the teacher's embedding is."""
    pooled = student.encoder.pool(*student.encoder.features(spoken.mel, spoken.frames))
    error = F.mse_loss(student.to_word_sound(pooled).float(), spoken.embedding)
    labelled = spoken.words >= 0
    if not labelled.any():
        return SOUND_WEIGHT * error
    named = student.to_words(pooled[labelled]).float()
    return F.cross_entropy(named, spoken.words[labelled]) + SOUND_WEIGHT * error


@torch.no_grad()
def fit_words(student: Student, words: Words, batches: int = 60) -> None:
    """Solve the heads on the frozen encoder, as those of the other teachers are; a word that is not
    there yet is unlikely."""
    drawn = [words.draw() for _ in range(batches)]
    encoder = student.encoder
    moved = (s.to(encoder.device) for s in drawn)
    features = torch.cat([encoder.pool(*encoder.features(s.mel, s.frames)).cpu() for s in moved])
    weight, bias = ridge(features, torch.cat([s.embedding for s in drawn]), strength=1e-2)
    student.to_word_sound.weight.copy_(weight)
    student.to_word_sound.bias.copy_(bias)
    labels = torch.cat([s.words for s in drawn])
    labelled = labels >= 0
    there, numbers = labels[labelled].unique(return_inverse=True)
    weight, bias = fit_linear(features[labelled], numbers, len(there), l2=0.1)
    student.to_words.weight.zero_()
    student.to_words.bias.fill_(-10)
    student.to_words.weight[there] = weight
    student.to_words.bias[there] = bias


def main(
    recordings: Annotated[int, typer.Option(help="how many there shall be")] = 20_000,
    workers: int = 2,
) -> None:
    """Make shards of words until there are enough."""
    word_teacher.network_file()
    teacher.make_shards(_make_shard, word_folder(), recordings, workers)


if __name__ == "__main__":
    typer.run(main)
