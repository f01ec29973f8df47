"""What the student hears: the teachers' cached scenes, cropped and augmented, and single clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import FrequencyMasking, TimeMasking

from analysis.pretraining.corpus import read
from analysis.pretraining.packages import HELD_OUT_PACKAGES
from analysis.pretraining.teacher import HOP_FRAMES, PATCH_FRAMES, SCENE_PATCHES, clip_of
from softmoa.data.audio import SAMPLE_RATE, log_mel, pad_batch
from softmoa.model.device import sent

COLUMN_FRAMES = 16  # of a column of patches
WIDEST_MASK = 40  # frames that SpecAugment hides of a scene
WORDS = 0.4  # of the batches of speech: crops as short as a word
WORD_FRAMES = (24, 129)
EMBEDDING_LIMIT = 5.0  # standardised features beyond are clipped: the teacher's tails are long


@dataclass(frozen=True)
class Targets:
    """What the teachers said of a batch: tags (b, patches, 521) as probabilities and embedding
    (b, patches, 1024), of no patch where crops are shorter than one, and speech (b, columns, 384)
    where Whisper listened, else None."""

    tags: Tensor
    embedding: Tensor
    speech: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        speech = None if self.speech is None else change(self.speech)
        return Targets(change(self.tags), change(self.embedding), speech)


class Shards:
    """Arrays cached in shards of equal length, mapped from disk, of these names."""

    def __init__(self, shards: list[Path], names: Sequence[str]):
        self.arrays = {
            name: [np.load(shard / f"{name}.npy", mmap_mode="r") for shard in shards]
            for name in names
        }
        self.shard = len(self.arrays["mel"][0])

    def __len__(self) -> int:
        return len(self.arrays["mel"]) * self.shard

    def gather(self, name: str, indices: np.ndarray) -> Tensor:
        rows = [self.arrays[name][i // self.shard][i % self.shard] for i in indices]
        return torch.from_numpy(np.stack(rows).astype(np.float32))


class Scenes(Shards):
    """Cached scenes: log-mels and what the teachers said."""

    def __init__(self, shards: list[Path]):
        self.speech = (shards[0] / "speech.npy").exists()
        super().__init__(shards, ["mel", "tags", "embedding", *["speech"] * self.speech])

    def take(self, indices: np.ndarray) -> tuple[Tensor, Targets]:
        """mel (b, 480, 128) and the raw targets."""
        speech = self.gather("speech", indices) if self.speech else None
        tags, embedding = (self.gather(name, indices) for name in ("tags", "embedding"))
        return self.gather("mel", indices), Targets(tags.sigmoid(), embedding, speech)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a target's features over the training scenes."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scale:
        return cls(x.mean(dim=(0, 1)), x.std(dim=(0, 1)).clamp(min=1e-3))

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).clamp(-EMBEDDING_LIMIT, EMBEDDING_LIMIT)


@dataclass(frozen=True)
class Batch:
    mel: Tensor  # (b, frames, 128)
    targets: Targets  # standardised
    parts: int

    def to(self, where: torch.device) -> Batch:
        """The batch on a device."""
        move = partial(sent, to=where)
        return Batch(move(self.mel), self.targets.map(move), self.parts)


class Batches:
    """Random crops of random scenes, 1 to 10 s, augmented on the log-mel; of speech also crops as
    short as a word.

    scenes_per_step: of 5 s; shorter crops come in larger batches of the same cost.
    rank: of this process; each draws scenes of its own.
    augmented: with gain and SpecAugment; without, crops are all that changes.
    """

    def __init__(
        self,
        scenes: Scenes,
        scenes_per_step: int = 8,
        seed: int = 0,
        rank: int = 0,
        augmented: bool = True,
    ):
        self.augmented = augmented
        self.scenes, self.scenes_per_step = scenes, scenes_per_step
        self.seed, self.rank = seed, rank
        self.restart(0)
        self.order = np.zeros(0, np.int64)
        _, sample = scenes.take(np.arange(0, len(scenes), max(len(scenes) // 2000, 1)))
        self.embedding_scale = Scale.of(sample.embedding)
        self.speech_scale = None if sample.speech is None else Scale.of(sample.speech)

    def restart(self, step: int) -> None:
        """Draw from here on what a run that goes on at `step` draws."""
        self.rng = np.random.default_rng([self.seed, self.rank, step])

    def draw(self) -> Batch:
        rng, size = self.rng, self.scenes_per_step
        if self.scenes.speech and rng.random() < WORDS:
            return self._words()
        kind = rng.random()
        if kind < 0.5:
            patches, parts, clips = SCENE_PATCHES, 1, size
        elif kind < 0.9:
            patches, parts = int(rng.integers(1, SCENE_PATCHES)), 1
            clips = round(size * (SCENE_PATCHES + 1) / (patches + 1))
        else:  # two scenes end to end, about 10 s
            patches, parts, clips = SCENE_PATCHES, 2, size // 2
        mel, targets = self.scenes.take(self._next(clips * parts))
        if patches < SCENE_PATCHES:
            first = int(rng.integers(0, SCENE_PATCHES - patches + 1))
            start = first * HOP_FRAMES
            # Up to 0.15 s off the teacher's grid: a sound is seen at every place of a patch.
            frames = HOP_FRAMES * (patches - 1) + PATCH_FRAMES
            start = min(start + int(rng.integers(0, 16)), mel.shape[1] - frames)
            mel = mel[:, start : start + frames]
            column = round(start / COLUMN_FRAMES)
            speech = targets.speech
            if speech is not None:
                speech = speech[:, column : column + frames // COLUMN_FRAMES]
            last = first + patches
            targets = Targets(targets.tags[:, first:last], targets.embedding[:, first:last], speech)

        def join(x: Tensor) -> Tensor:
            return x.unflatten(0, (clips, parts)).flatten(1, 2)

        mel = join(mel)
        if self.augmented:
            mel = augment(mel, self.rng, WIDEST_MASK)
        return Batch(mel, self.standardise(targets.map(join)), parts)

    def _words(self) -> Batch:
        """Crops of 0.24 to 1.28 s, each scene cut at a place of its own; Whisper alone is told."""
        frames = int(self.rng.integers(*WORD_FRAMES))
        columns = -(-frames // COLUMN_FRAMES)
        mel, targets = self.scenes.take(self._next(self.scenes_per_step * 30 // columns))
        first = self.rng.integers(0, mel.shape[1] // COLUMN_FRAMES - columns + 1, len(mel))
        assert targets.speech is not None
        crops = torch.stack(
            [x[c * COLUMN_FRAMES :][:frames] for x, c in zip(mel, first, strict=True)]
        )
        heard = torch.stack(
            [x[c : c + columns] for x, c in zip(targets.speech, first, strict=True)]
        )
        if self.augmented:
            crops = augment(crops, self.rng, min(WIDEST_MASK, frames // 5))
        unheard = targets.tags[:, :0], targets.embedding[:, :0]
        return Batch(crops, self.standardise(Targets(*unheard, heard)), 1)

    def standardise(self, targets: Targets) -> Targets:
        embedding, speech = self.embedding_scale(targets.embedding), targets.speech
        if speech is not None and self.speech_scale is not None:
            speech = self.speech_scale(speech)
        return Targets(targets.tags, embedding, speech)

    def _next(self, count: int) -> np.ndarray:
        """Indices without repetition within an epoch."""
        while len(self.order) < count:
            self.order = np.concatenate([self.order, self.rng.permutation(len(self.scenes))])
        taken, self.order = self.order[:count], self.order[count:]
        return taken


class Clips:
    """Whole clips of the corpus of at most 5 s, which no other sound hides.

    tags: (clips, 521) probabilities of the teacher for every row of the manifest. Clips of
    HELD_OUT_PACKAGES are left out.
    """

    LONGEST = 5 * SAMPLE_RATE

    def __init__(self, tags: np.ndarray):
        self.corpus, self.rows = read()
        self.kept = np.array(
            [
                i
                for i, row in enumerate(self.rows)
                if row["package"] not in HELD_OUT_PACKAGES and int(row["samples"]) <= self.LONGEST
            ]
        )
        self.tags = tags

    def batches(
        self, rng: np.random.Generator, size: int = 16, pool: int = 8
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """mel (size, frames, 128), true frames (size,), tags (size, 521), without end.

        `pool` batches are drawn together and shared out by length, so that little is padded.
        """
        while True:
            drawn = rng.choice(self.kept, size * pool)
            lengths = np.array([int(self.rows[i]["samples"]) for i in drawn])
            by_length = drawn[np.argsort(lengths)].reshape(pool, size)
            for part in by_length[rng.permutation(pool)]:
                mels = [log_mel(clip_of(self.corpus, self.rows[i])) for i in part]
                mel, frames = pad_batch(mels)
                tags = torch.from_numpy(self.tags[part].astype(np.float32))
                yield augment(mel, rng, min(WIDEST_MASK, mel.shape[1] // 5)), frames, tags


def augment(mel: Tensor, rng: np.random.Generator, widest: int) -> Tensor:
    """Gain of -6 to 6 dB on every clip of (b, frames, 128), SpecAugment on half of them, which
    hides at most `widest` frames."""
    draws = torch.from_numpy(rng.random((2, len(mel), 1, 1), dtype=np.float32))
    decibel = 0.0252  # in units of the normalised log-mel: ln(10) / 10 / (2 std)
    gained = mel + (draws[0] * 12 - 6) * decibel
    bands = FrequencyMasking(20, iid_masks=True)(gained[:, None].transpose(2, 3))
    masked = TimeMasking(widest, iid_masks=True)(bands)
    return torch.where(draws[1] < 0.5, masked.transpose(2, 3)[:, 0], gained)


def shards_of(home: Path) -> list[Path]:
    return sorted(shard for shard in home.iterdir() if shard.suffix != ".part")
