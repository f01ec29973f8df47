"""Distil YAMNet into `ast-small`, starting from DINOv2, and write the embedded backbone.

    python -m analysis.pretrain --minutes 60 --out assets/ast-small.safetensors

The student hears the scenes of `analysis.teacher` and predicts, for each 0.96 s patch of the
teacher from the mean of the tokens under it, and for the whole clip from the pooled features the
app uses, the teacher's embedding (standardised) and its 521 tags (soft labels). The two linear
heads start from a ridge regression on the frozen start (LP-FT, Kumar et al. 2022), so that the
first gradients do not destroy what the image transformer knows; small rates that fall towards the
input, a moving average of the weights and an interpolation with the start (WiSE-FT, Wortsman et
al. 2022) guard the rest.

Interrupted runs go on from $SOFTMOA_CORPUS/pretrain/NAME/last.pt. At the end every interpolation is
measured on held-out scenes and by the probes of `analysis.evaluate_backbone`; the one with the
best mean rank is written to `--out`, and the heads beside the checkpoint.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torchaudio.transforms import FrequencyMasking, TimeMasking

from analysis.corpus import folder
from analysis.evaluate_backbone import esc10, fsdd, mels_of, pooled_features, probe
from analysis.initialise import from_dinov2
from analysis.teacher import (
    EMBEDDING,
    HOP_FRAMES,
    PATCH_FRAMES,
    SCENE_PATCHES,
    TAGS,
    scene_folder,
)
from softmoa.ast import AST, SPECIAL_TOKENS
from softmoa.weights import save_embedded

SHARES = (0.5, 0.75, 1.0)  # of the way from the start to the trained weights
EMBEDDING_LIMIT = 5.0  # standardised features beyond are clipped: the teacher's tails are long


@dataclass(frozen=True)
class Options:
    """A run; the defaults are the shipped one."""

    name: str = "ast-small"
    minutes: float = 60  # of training, whatever the machine does in them
    scenes_per_step: int = 8  # of 5 s; shorter crops come in larger batches of the same cost
    rate: float = 6e-5  # of the last block; each block below learns `decay` times as fast
    decay: float = 0.8
    head_rate: float = 1e-3
    warmup: float = 0.05  # share of the run
    weight_decay: float = 0.02
    tag_weight: float = 0.1  # of the summed binary cross-entropy beside the mean squared error
    average: float = 0.995
    held_out_shards: int = 1  # the last ones
    ridge_scenes: int = 600
    seed: int = 0


class Scenes:
    """The cached scenes, mapped from disk: log-mels and what the teacher said."""

    def __init__(self, shards: list[Path]):
        self.mel, self.tags, self.embedding = (
            [np.load(shard / f"{name}.npy", mmap_mode="r") for shard in shards]
            for name in ("mel", "tags", "embedding")
        )
        self.shard = len(self.mel[0])

    def __len__(self) -> int:
        return len(self.mel) * self.shard

    def take(self, indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """mel (b, 480, 128), tags (b, 9, 521) as probabilities, embedding (b, 9, 1024)."""

        def gather(arrays: list[np.ndarray]) -> Tensor:
            rows = [arrays[i // self.shard][i % self.shard] for i in indices]
            return torch.from_numpy(np.stack(rows).astype(np.float32))

        return gather(self.mel), gather(self.tags).sigmoid(), gather(self.embedding)


class Student(nn.Module):
    """The encoder and two linear heads that read mean tokens: teacher's embedding and tags."""

    def __init__(self, encoder: AST):
        super().__init__()
        self.encoder = encoder
        self.to_embedding = nn.Linear(encoder.config.width, EMBEDDING)
        self.to_tags = nn.Linear(encoder.config.width, TAGS)

    def forward(self, mel: Tensor, parts: int = 1) -> tuple[Tensor, Tensor]:
        """mel (b, frames, 128), `parts` scenes end to end -> (b, patches, d) and pooled (b, d)."""
        tokens, _ = self.encoder.features(mel)
        config = self.encoder.config
        columns = tokens[:, SPECIAL_TOKENS:].unflatten(1, (config.bands, -1)).mean(dim=1)
        each = columns.unflatten(1, (parts, -1))  # (b, parts, columns of one, d)
        span, hop = PATCH_FRAMES // config.patch, HOP_FRAMES // config.patch
        local = each.unfold(2, span, hop).mean(dim=-1)  # (b, parts, patches of one, d)
        return local.flatten(1, 2), self.encoder.pool(tokens)


@dataclass(frozen=True)
class Batch:
    mel: Tensor  # (b, frames, 128)
    tags: Tensor  # (b, patches, 521)
    embedding: Tensor  # (b, patches, 1024), standardised
    parts: int


class Batches:
    """Random crops of random scenes, 1 to 10 s, augmented on the log-mel."""

    def __init__(self, scenes: Scenes, options: Options, mean: Tensor, std: Tensor):
        self.scenes, self.options, self.mean, self.std = scenes, options, mean, std
        self.rng = np.random.default_rng(options.seed)
        self.order = np.zeros(0, np.int64)
        self.mask_bands = FrequencyMasking(20, iid_masks=True)
        self.mask_times = TimeMasking(40, iid_masks=True)

    def draw(self) -> Batch:
        rng, size = self.rng, self.options.scenes_per_step
        kind = rng.random()
        if kind < 0.5:
            patches, parts, clips = SCENE_PATCHES, 1, size
        elif kind < 0.9:
            patches, parts = int(rng.integers(1, SCENE_PATCHES)), 1
            clips = round(size * (SCENE_PATCHES + 1) / (patches + 1))
        else:  # two scenes end to end, about 10 s
            patches, parts, clips = SCENE_PATCHES, 2, size // 2
        mel, tags, embedding = self.scenes.take(self._next(clips * parts))
        if patches < SCENE_PATCHES:
            first = int(rng.integers(0, SCENE_PATCHES - patches + 1))
            start = first * HOP_FRAMES
            # Up to 0.15 s off the teacher's grid: a sound is seen at every place of a patch.
            frames = HOP_FRAMES * (patches - 1) + PATCH_FRAMES
            start = min(start + int(rng.integers(0, 16)), mel.shape[1] - frames)
            mel = mel[:, start : start + frames]
            tags, embedding = (x[:, first : first + patches] for x in (tags, embedding))
        mel, tags, embedding = (
            x.unflatten(0, (clips, parts)).flatten(1, 2) for x in (mel, tags, embedding)
        )
        return Batch(self._augment(mel), tags, self.standardise(embedding), parts)

    def standardise(self, embedding: Tensor) -> Tensor:
        return ((embedding - self.mean) / self.std).clamp(-EMBEDDING_LIMIT, EMBEDDING_LIMIT)

    def _next(self, count: int) -> np.ndarray:
        """Indices without repetition within an epoch."""
        while len(self.order) < count:
            self.order = np.concatenate([self.order, self.rng.permutation(len(self.scenes))])
        taken, self.order = self.order[:count], self.order[count:]
        return taken

    def _augment(self, mel: Tensor) -> Tensor:
        """Gain of -6 to 6 dB on every clip, SpecAugment on half of them."""
        draws = torch.from_numpy(self.rng.random((2, len(mel), 1, 1), dtype=np.float32))
        decibel = 0.0252  # in units of the normalised log-mel: ln(10) / 10 / (2 std)
        gained = mel + (draws[0] * 12 - 6) * decibel
        masked = self.mask_times(self.mask_bands(gained[:, None].transpose(2, 3)))
        masked = masked.transpose(2, 3)[:, 0]
        return torch.where(draws[1] < 0.5, masked, gained)


def loss_of(student: Student, batch: Batch, tag_weight: float) -> Tensor:
    """Patch by patch and, with the same weight, for the clip as a whole."""
    local, pooled = student(batch.mel, batch.parts)
    total = torch.zeros(())
    for tokens, tags, embedding in (
        (local, batch.tags, batch.embedding),
        (pooled, batch.tags.mean(dim=1), batch.embedding.mean(dim=1)),
    ):
        error = F.mse_loss(student.to_embedding(tokens).float(), embedding)
        entropy = F.binary_cross_entropy_with_logits(student.to_tags(tokens).float(), tags)
        total = total + error + tag_weight * TAGS * entropy
    return total


def ridge(features: Tensor, targets: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight (outputs, d) and bias of a ridge regression; the bias is not penalised."""
    centre, mean = features.mean(dim=0), targets.mean(dim=0)
    x, y = (features - centre).double(), (targets - mean).double()
    gram = x.T @ x
    gram.diagonal().add_(strength * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, x.T @ y).T.float()
    return weight, mean - weight @ centre


@torch.inference_mode()
def fit_heads(student: Student, scenes: Scenes, batches: Batches, count: int) -> None:
    """Solve both heads on the frozen encoder; tags by their logits, clipped to what matters."""
    indices = batches.rng.permutation(len(scenes))[:count]
    tokens, logits, embeddings = [], [], []
    for part in np.array_split(indices, -(-count // 20)):
        mel, tags, embedding = scenes.take(part)
        tokens.append(student(mel)[0].flatten(0, 1))
        logits.append(tags.logit(eps=1e-4).flatten(0, 1))
        embeddings.append(batches.standardise(embedding).flatten(0, 1))
    for head, targets in ((student.to_embedding, embeddings), (student.to_tags, logits)):
        weight, bias = ridge(torch.cat(tokens), torch.cat(targets))
        head.weight.copy_(weight)
        head.bias.copy_(bias)


def parameter_groups(student: Student, options: Options) -> list[dict]:
    """Rates fall by `decay` a block towards the input; no weight decay on vectors."""
    depth = student.encoder.config.depth
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if not name.startswith("encoder."):
            rate = options.head_rate
        elif name.startswith("encoder.blocks."):
            rate = options.rate * options.decay ** (depth - 1 - int(name.split(".")[2]))
        elif name.startswith("encoder.ln."):
            rate = options.rate
        else:
            rate = options.rate * options.decay**depth
        shrink = options.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((rate, shrink), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": shrink}
        for (rate, shrink), parameters in groups.items()
    ]


def schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero; progress runs from 0 to 1."""
    if progress < warmup:
        return (progress + 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


@torch.inference_mode()
def held_out_loss(student: Student, scenes: Scenes, batches: Batches, count: int = 200) -> float:
    losses = []
    for part in np.array_split(np.arange(count), count // 20):
        mel, tags, embedding = scenes.take(part)
        batch = Batch(mel, tags, batches.standardise(embedding), 1)
        losses.append(loss_of(student, batch, batches.options.tag_weight).item())
    return float(np.mean(losses))


@torch.inference_mode()
def explained(encoder: AST, scenes: Scenes, batches: Batches) -> float:
    """Share of the variance of the teacher's clip embedding that a ridge regression on the frozen
    pooled features explains: fitted on the first three quarters of the scenes, told on the rest."""
    features, targets = [], []
    for part in np.array_split(np.arange(len(scenes)), len(scenes) // 20):
        mel, _, embedding = scenes.take(part)
        features.append(encoder.pool(*encoder.features(mel)))
        targets.append(batches.standardise(embedding).mean(dim=1))
    x, y = torch.cat(features), torch.cat(targets)
    cut = len(x) * 3 // 4
    weight, bias = ridge(x[:cut], y[:cut])
    error = (y[cut:] - x[cut:] @ weight.T - bias).square().mean()
    return 1 - float(error / (y[cut:] - y[:cut].mean(dim=0)).square().mean())


def interpolate(start: Student, end: Student, share: float) -> Student:
    """`share` of the way from one set of weights to another (WiSE-FT)."""
    model = copy.deepcopy(end)
    with torch.no_grad():
        for parameter, first in zip(model.parameters(), start.parameters(), strict=True):
            parameter.copy_(torch.lerp(first, parameter, share))
    return model


def write(model: AST, out: Path) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    partial = out.with_suffix(".part")
    save_embedded(model, partial)
    os.replace(partial, out)


def train(start: Student, options: Options, batches: Batches, held_out: Scenes) -> Student:
    """Run to the end of the schedule, resuming if there is a checkpoint; the averaged student."""
    home = run_folder(options)
    student = copy.deepcopy(start)
    optimiser = torch.optim.AdamW(parameter_groups(student, options), betas=(0.9, 0.98))
    average = copy.deepcopy(student)
    seconds, steps, audio = 0.0, 0, 0.0
    if (home / "last.pt").exists():
        saved = torch.load(home / "last.pt", weights_only=True)
        student.load_state_dict(saved["student"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        seconds, steps, audio = saved["seconds"], saved["steps"], saved["audio"]
        batches.rng = np.random.default_rng([options.seed, steps])
    budget = 60 * options.minutes
    recent: list[float] = []
    while seconds < budget:
        began = time.monotonic()
        scale = schedule(seconds / budget, options.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * scale
        batch = batches.draw()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(student, batch, options.tag_weight)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
        audio += batch.mel.shape[0] * batch.mel.shape[1] / 100
        # Early steps count for little, or the average would remember the start for long.
        keep = min(options.average, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        recent.append(loss.item())
        seconds += time.monotonic() - began
        if steps % 50 == 0:
            typer.echo(
                f"step {steps}: loss {np.mean(recent[-50:]):.3f}, {audio / 3600:.1f} h of sound, "
                f"{audio / seconds:.0f} s of sound a second, {(budget - seconds) / 60:.1f} min left"
            )
        if steps % 500 == 0 or seconds >= budget:
            typer.echo(f"held-out loss {held_out_loss(average, held_out, batches):.3f} (average)")
            saved = {
                "student": student.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "seconds": seconds,
                "steps": steps,
                "audio": audio,
            }
            torch.save(saved, home / "last.part")
            os.replace(home / "last.part", home / "last.pt")
    return average


def run_folder(options: Options) -> Path:
    return folder() / "pretrain" / options.name


def choose(start: Student, end: Student, held_out: Scenes, batches: Batches) -> Student:
    """Measure the start and every interpolation; the best mean rank of the three measures wins."""
    files, classes, folds = esc10()
    words, digits, speakers = fsdd(takes=15)
    sounds, speech = mels_of(files), mels_of(words)
    models, scores = [], []
    for share in SHARES:
        student = interpolate(start, end, share).eval()
        row = (
            explained(student.encoder, held_out, batches),
            probe(pooled_features(student.encoder, sounds), classes, folds).mean,
            probe(pooled_features(student.encoder, speech, 64), digits, speakers).mean,
        )
        models.append(student)
        scores.append(row)
        typer.echo(
            f"share {share:.2f}: teacher's embedding explained {100 * row[0]:.1f} %, "
            f"ESC-10 probe {100 * row[1]:.2f} %, FSDD probe (15 takes) {100 * row[2]:.2f} %"
        )
    ranks = np.argsort(np.argsort(np.array(scores), axis=0), axis=0).mean(axis=1)
    best = int(ranks.argmax())
    typer.echo(f"chosen: share {SHARES[best]:.2f}")
    return models[best]


def main(
    out: Annotated[Path | None, typer.Option(help="where the backbone is written")] = None,
    name: str = Options.name,
    minutes: float = Options.minutes,
    rate: float = Options.rate,
    decay: float = Options.decay,
    scenes_per_step: int = Options.scenes_per_step,
    seed: int = Options.seed,
) -> None:
    """Train or go on training, then choose and write."""
    options = Options(name, minutes, scenes_per_step, rate, decay, seed=seed)
    torch.manual_seed(options.seed)
    run_folder(options).mkdir(parents=True, exist_ok=True)
    shards = sorted(shard for shard in scene_folder().iterdir() if shard.suffix != ".part")
    training = Scenes(shards[: -options.held_out_shards])
    held_out = Scenes(shards[-options.held_out_shards :])
    typer.echo(f"{options}\n{len(training)} scenes to train on, {len(held_out)} held out")
    sample = training.take(np.arange(0, len(training), max(len(training) // 2000, 1)))[2]
    mean, std = sample.mean(dim=(0, 1)), sample.std(dim=(0, 1)).clamp(min=1e-3)
    batches = Batches(training, options, mean, std)
    start = Student(from_dinov2())
    fit_heads(start, training, batches, options.ridge_scenes)
    typer.echo(f"heads fitted; held-out loss {held_out_loss(start, held_out, batches):.3f}")
    end = train(start, options, batches, held_out)
    student = choose(start, end, held_out, batches)
    heads = {
        "tags.weight": student.to_tags.weight,
        "tags.bias": student.to_tags.bias,
        "embedding.weight": student.to_embedding.weight,
        "embedding.bias": student.to_embedding.bias,
        "embedding.mean": mean,
        "embedding.std": std,
    }
    heads = {key: value.detach().contiguous() for key, value in heads.items()}
    save_file(heads, run_folder(options) / "heads.safetensors")
    write(student.encoder, run_folder(options) / "backbone.safetensors")
    if out is not None:
        write(student.encoder, out)


if __name__ == "__main__":
    typer.run(main)
