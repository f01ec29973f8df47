"""Words that many speakers say, with their labels: what stays the same from voice to voice.

The teachers say what is heard at a moment; that the same word of another speaker should give the
same features, no teacher asks. Half of what is drawn is recorded: 40 Arabic, 14 English and 12
Mandarin words, 28,000 recordings of more than a hundred speakers; the other half are the 508
English words of `analysis.voices`. All are drawn by word and changed in tempo and pitch, band, room
and noise on the way; the student names the word from the pooled features that the app uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from analysis import teacher, voices
from analysis.corpus import read
from analysis.scenes import augment
from analysis.student import Student
from softmoa.audio import SAMPLE_RATE, log_mels, pad_batch
from softmoa.collection import trim
from softmoa.probe import fit_linear
from softmoa.tasks import TaskError

WORD_OF: dict[str, Callable[[str], str]] = {  # by package, from the path of a recording
    "abdulkaderghandoura/arabic-speech-commands-dataset": lambda path: path.split("/")[1],
    "Picovoice/wake-word-benchmark": lambda path: path.split("/")[1],
    "zhongyuchen/DSPSpeech-20": lambda path: path.split("-")[-2],  # speaker-word-round.wav
    voices.PACKAGE: lambda path: path.split("/")[0],
}
FEWEST = 40  # recordings of a word
SYNTHETIC = 0.5  # of what is drawn
LONGEST = 2 * SAMPLE_RATE
WIDEST_MASK = 0.2  # of the frames, that SpecAugment hides
WORD_WEIGHT = 1.0


@dataclass(frozen=True)
class Spoken:
    """mel (b, frames, 128), true frames (b,) and the numbers of the words (b,)."""

    mel: Tensor
    frames: Tensor
    words: Tensor


class Words:
    """Batches of recordings, every recorded word as often as the others, and so the synthetic ones.

    rank: of this process; each draws recordings of its own.
    """

    def __init__(self, size: int = 32, seed: int = 0, rank: int = 0):
        self.corpus, rows = read()
        by_word: dict[tuple[str, str], list[dict[str, str]]] = {}  # by package and word
        for row in rows:
            if word_of := WORD_OF.get(row["package"]):
                by_word.setdefault((row["package"], word_of(row["path"])), []).append(row)
        self.rows = {word: of for word, of in sorted(by_word.items()) if len(of) >= FEWEST}
        synthetic = np.array([package == voices.PACKAGE for package, _ in self.rows])
        shares = np.where(synthetic, SYNTHETIC / max(synthetic.sum(), 1), 0)
        shares += np.where(synthetic, 0, (1 - SYNTHETIC) / max((~synthetic).sum(), 1))
        self.chances = shares / shares.sum()
        self.size, self.seed, self.rank = size, seed, rank
        self.restart(0)

    def __len__(self) -> int:
        return len(self.rows)

    def restart(self, step: int) -> None:
        """Draw from here on what a run that goes on at `step` draws."""
        self.rng = np.random.default_rng([2, self.seed, self.rank, step])

    def draw(self) -> Spoken:
        numbers = self.rng.choice(len(self), self.size, p=self.chances)
        mels = log_mels([self._recording(number) for number in numbers])
        mel, frames = pad_batch(mels)
        mel = augment(mel, self.rng, int(WIDEST_MASK * mel.shape[1]))
        return Spoken(mel, frames, torch.from_numpy(numbers))

    def _recording(self, number: int) -> Tensor:
        """(samples,) one recording of a word, in another voice, room and noise than it had."""
        rng = self.rng
        rows = list(self.rows.values())[number]
        waveform = teacher.clip_of(self.corpus, rows[rng.integers(len(rows))])
        if rng.random() < 0.7:
            try:
                waveform = trim(waveform)
            except TaskError:  # too quiet to find the word in it
                pass
        sound = waveform[:LONGEST].numpy()
        if rng.random() < 0.7:
            sound = soxr.resample(sound, SAMPLE_RATE * 2 ** rng.uniform(-0.25, 0.25), SAMPLE_RATE)
        sound = sound * 10 ** (rng.uniform(-30, -15) / 20) / (np.sqrt(np.mean(sound**2)) + 1e-6)
        if rng.random() < 0.2:
            sound = teacher.reverberate(rng, sound)
        if rng.random() < 0.4:
            sound = soxr.resample(soxr.resample(sound, 16_000, 8_000), 8_000, 16_000)
        if rng.random() < 0.4:
            sound = sound + teacher.noise(rng, len(sound)) * 10 ** (rng.uniform(-65, -35) / 20)
        return torch.from_numpy((sound / max(np.abs(sound).max(), 1)).astype(np.float32))


def word_loss(student: Student, spoken: Spoken) -> Tensor:
    """Cross-entropy of the words."""
    pooled = student.encoder.pool(*student.encoder.features(spoken.mel, spoken.frames))
    return WORD_WEIGHT * F.cross_entropy(student.to_words(pooled).float(), spoken.words)


@torch.no_grad()
def fit_words(student: Student, words: Words, batches: int = 60) -> None:
    """Solve the head on the frozen encoder, as those of the teachers are."""
    drawn = [words.draw() for _ in range(batches)]
    encoder = student.encoder
    features = torch.cat([encoder.pool(*encoder.features(s.mel, s.frames)) for s in drawn])
    labels = torch.cat([s.words for s in drawn])
    weight, bias = fit_linear(features, labels, len(words), l2=0.1)
    student.to_words.weight.copy_(weight)
    student.to_words.bias.copy_(bias)
