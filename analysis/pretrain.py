"""Distil YAMNet and Whisper into `ast-small` and write the embedded backbone.

    python -m analysis.pretrain --minutes 60 --out assets/ast-small.safetensors
    python -m analysis.pretrain --from assets/ast-small.safetensors --name second ...
    torchrun --nproc-per-node 2 -m analysis.pretrain ...

The student hears the scenes of `analysis.teacher` and predicts, for each 0.96 s patch of the
teacher from the mean of the tokens under it, and for the whole clip from the pooled features the
app uses, the teacher's embedding (standardised) and its 521 tags (soft labels). In the scenes of
`analysis.speech_teacher` it also predicts, from the mean of each column of patches, what Whisper's
encoder hears there. The linear heads start from a ridge regression on the frozen start (LP-FT,
Kumar et al. 2022), so that the first gradients do not destroy what it knows; small rates that fall
towards the input, a moving average of the weights and an interpolation with the start (WiSE-FT,
Wortsman et al. 2022) guard the rest. Without `--from` the run begins at DINOv2.

Under torchrun every process draws scenes of its own and the gradients are averaged.

Interrupted runs go on from $SOFTMOA_CORPUS/pretrain/NAME/last.pt. At the end every interpolation is
measured on held-out scenes and by the probes of `analysis.evaluate_backbone`; the one with the
best mean rank is written to `--out`, and the heads beside the checkpoint.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torchaudio.transforms import FrequencyMasking, TimeMasking

from analysis.corpus import folder
from analysis.evaluate_backbone import esc10, fsdd, mels_of, pooled_features, probe
from analysis.initialise import from_dinov2
from analysis.speech_teacher import SPEECH, speech_folder
from analysis.teacher import (
    EMBEDDING,
    HOP_FRAMES,
    PATCH_FRAMES,
    SCENE_PATCHES,
    TAGS,
    scene_folder,
)
from softmoa.ast import AST, SPECIAL_TOKENS
from softmoa.weights import load_embedded, save_embedded

SHARES = (0.5, 0.75, 1.0)  # of the way from the start to the trained weights
COLUMN_FRAMES = 16  # of a column of patches
EMBEDDING_LIMIT = 5.0  # standardised features beyond are clipped: the teacher's tails are long


@dataclass(frozen=True)
class Options:
    """A run; the defaults are the shipped one."""

    name: str = "ast-small"
    minutes: float = 60  # of training, whatever the machine does in them
    scenes_per_step: int = 8  # of 5 s; shorter crops come in larger batches of the same cost
    rate: float = 6e-5  # of the last block; each block below learns `decay` times as fast
    decay: float = 0.8
    head_rate: float = 3e-4
    warmup: int = 100  # steps
    weight_decay: float = 0.02
    tag_weight: float = 0.1  # of the summed binary cross-entropy beside the mean squared error
    speech_weight: float = 1.0  # of Whisper's mean squared error beside YAMNet's two
    speech_share: float = 0.3  # of the steps that see scenes of speech
    average: float = 0.995
    held_out_shards: int = 1  # the last ones
    ridge_scenes: int = 600
    seed: int = 0


@dataclass(frozen=True)
class Targets:
    """What the teachers said of a batch: tags (b, patches, 521) as probabilities, embedding
    (b, patches, 1024), and speech (b, columns, 384) where Whisper listened, else None."""

    tags: Tensor
    embedding: Tensor
    speech: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        speech = None if self.speech is None else change(self.speech)
        return Targets(change(self.tags), change(self.embedding), speech)


class Scenes:
    """Cached scenes, mapped from disk: log-mels and what the teachers said."""

    def __init__(self, shards: list[Path]):
        self.speech = (shards[0] / "speech.npy").exists()
        names = ("mel", "tags", "embedding", *(("speech",) if self.speech else ()))
        self.arrays = {
            name: [np.load(shard / f"{name}.npy", mmap_mode="r") for shard in shards]
            for name in names
        }
        self.shard = len(self.arrays["mel"][0])

    def __len__(self) -> int:
        return len(self.arrays["mel"]) * self.shard

    def take(self, indices: np.ndarray) -> tuple[Tensor, Targets]:
        """mel (b, 480, 128) and the raw targets."""

        def gather(name: str) -> Tensor:
            rows = [self.arrays[name][i // self.shard][i % self.shard] for i in indices]
            return torch.from_numpy(np.stack(rows).astype(np.float32))

        speech = gather("speech") if self.speech else None
        return gather("mel"), Targets(gather("tags").sigmoid(), gather("embedding"), speech)


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


class Student(nn.Module):
    """The encoder and linear heads that read mean tokens: embedding and tags, and speech."""

    def __init__(self, encoder: AST):
        super().__init__()
        self.encoder = encoder
        self.to_embedding = nn.Linear(encoder.config.width, EMBEDDING)
        self.to_tags = nn.Linear(encoder.config.width, TAGS)
        self.to_speech = nn.Linear(encoder.config.width, SPEECH)

    def forward(self, mel: Tensor, parts: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """mel (b, frames, 128), `parts` scenes end to end -> means of the tokens under each patch
        of the teacher (b, patches, d), of all (b, d) and of each column (b, columns, d)."""
        tokens, _ = self.encoder.features(mel)
        config = self.encoder.config
        columns = tokens[:, SPECIAL_TOKENS:].unflatten(1, (config.bands, -1)).mean(dim=1)
        each = columns.unflatten(1, (parts, -1))  # (b, parts, columns of one, d)
        span, hop = PATCH_FRAMES // config.patch, HOP_FRAMES // config.patch
        local = each.unfold(2, span, hop).mean(dim=-1)  # (b, parts, patches of one, d)
        return local.flatten(1, 2), self.encoder.pool(tokens), columns


@dataclass(frozen=True)
class Batch:
    mel: Tensor  # (b, frames, 128)
    targets: Targets  # standardised
    parts: int


class Batches:
    """Random crops of random scenes, 1 to 10 s, augmented on the log-mel.

    weights: how often each scene is drawn, (scenes,); default: all of them once an epoch.
    """

    def __init__(
        self, scenes: Scenes, options: Options, rank: int = 0, weights: np.ndarray | None = None
    ):
        self.scenes, self.options, self.rank, self.weights = scenes, options, rank, weights
        self.restart(0)
        self.order = np.zeros(0, np.int64)
        self.mask_bands = FrequencyMasking(20, iid_masks=True)
        self.mask_times = TimeMasking(40, iid_masks=True)
        _, sample = scenes.take(np.arange(0, len(scenes), max(len(scenes) // 2000, 1)))
        self.embedding_scale = Scale.of(sample.embedding)
        self.speech_scale = None if sample.speech is None else Scale.of(sample.speech)

    def restart(self, step: int) -> None:
        """Draw from here on what a run that goes on at `step` draws."""
        self.rng = np.random.default_rng([self.options.seed, self.rank, step])

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

        return Batch(self._augment(join(mel)), self.standardise(targets.map(join)), parts)

    def standardise(self, targets: Targets) -> Targets:
        speech = targets.speech
        if speech is not None and self.speech_scale is not None:
            speech = self.speech_scale(speech)
        return Targets(targets.tags, self.embedding_scale(targets.embedding), speech)

    def _next(self, count: int) -> np.ndarray:
        """Indices without repetition within an epoch, or by their weights."""
        if self.weights is not None:
            return self.rng.choice(len(self.weights), count, p=self.weights / self.weights.sum())
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


def loss_of(student: Student, batch: Batch, options: Options) -> Tensor:
    """Patch by patch, with the same weight for the clip as a whole, and column by column."""
    local, pooled, columns = student(batch.mel, batch.parts)
    targets = batch.targets
    total = torch.zeros(())
    for tokens, tags, embedding in (
        (local, targets.tags, targets.embedding),
        (pooled, targets.tags.mean(dim=1), targets.embedding.mean(dim=1)),
    ):
        error = F.mse_loss(student.to_embedding(tokens).float(), embedding)
        entropy = F.binary_cross_entropy_with_logits(student.to_tags(tokens).float(), tags)
        total = total + error + options.tag_weight * TAGS * entropy
    if targets.speech is not None:
        error = F.mse_loss(student.to_speech(columns).float(), targets.speech)
        total = total + options.speech_weight * error
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
def fit_heads(student: Student, batches: Batches) -> None:
    """Solve the heads on the frozen encoder; tags by their logits, clipped to what matters."""
    scenes, count = batches.scenes, batches.options.ridge_scenes
    indices = np.random.default_rng(batches.options.seed).permutation(len(scenes))[:count]
    rows: dict[nn.Linear, tuple[list[Tensor], list[Tensor]]] = {}

    def add(head: nn.Linear, tokens: Tensor, target: Tensor) -> None:
        inputs, targets = rows.setdefault(head, ([], []))
        inputs.append(tokens.flatten(0, 1))
        targets.append(target.flatten(0, 1))

    for part in np.array_split(indices, -(-count // 20)):
        mel, raw = scenes.take(part)
        local, _, columns = student(mel)
        targets = batches.standardise(raw)
        if targets.speech is not None:
            add(student.to_speech, columns, targets.speech)
        else:
            add(student.to_embedding, local, targets.embedding)
            add(student.to_tags, local, targets.tags.logit(eps=1e-4))
    for head, (inputs, outputs) in rows.items():
        weight, bias = ridge(torch.cat(inputs), torch.cat(outputs))
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


def schedule(step: int, progress: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps under a cosine to zero; progress runs from 0 to 1."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.inference_mode()
def held_out_loss(student: Student, held_out: Scenes, batches: Batches, count: int = 200) -> float:
    losses = []
    for part in np.array_split(np.arange(count), count // 20):
        mel, targets = held_out.take(part)
        batch = Batch(mel, batches.standardise(targets), 1)
        losses.append(loss_of(student, batch, batches.options).item())
    return float(np.mean(losses))


@torch.inference_mode()
def explained(encoder: AST, held_out: Scenes, batches: Batches) -> float:
    """Share of the variance of the teacher's clip embedding that a ridge regression on the frozen
    pooled features explains: fitted on the first three quarters of the scenes, told on the rest."""
    features, targets = [], []
    for part in np.array_split(np.arange(len(held_out)), len(held_out) // 20):
        mel, raw = held_out.take(part)
        features.append(encoder.pool(*encoder.features(mel)))
        targets.append(batches.standardise(raw).embedding.mean(dim=1))
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


def average_gradients(model: nn.Module) -> None:
    """Replace every gradient by its mean over the processes; none counts as zero."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def slowest(seconds: float) -> float:
    """The longest of all processes' times, so that all of them see the same schedule."""
    longest = torch.tensor(seconds)
    if dist.is_initialized():
        dist.all_reduce(longest, dist.ReduceOp.MAX)
    return longest.item()


def train(start: Student, options: Options, sounds: Batches, speech: Batches | None) -> Student:
    """Run to the end of the schedule, resuming if there is a checkpoint; the averaged student."""
    last = run_folder(options) / "last.pt"
    student, average = copy.deepcopy(start), copy.deepcopy(start)
    optimiser = torch.optim.AdamW(parameter_groups(student, options), betas=(0.9, 0.98))
    seconds, steps, audio = 0.0, 0, 0.0
    if last.exists():
        saved = torch.load(last, weights_only=True)
        student.load_state_dict(saved["student"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        seconds, steps, audio = saved["seconds"], saved["steps"], saved["audio"]
        for batches in filter(None, (sounds, speech)):
            batches.restart(steps)
    budget = 60 * options.minutes
    turn = np.random.default_rng([options.seed, steps])  # alike in all processes
    recent: list[float] = []
    while seconds < budget:
        began = time.monotonic()
        scale = schedule(steps, seconds / budget, options.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * scale
        spoken = turn.random() < options.speech_share
        batch = (speech if speech is not None and spoken else sounds).draw()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(student, batch, options)
        loss.backward()
        if dist.is_initialized():
            average_gradients(student)
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
        audio += processes() * batch.mel.shape[0] * batch.mel.shape[1] / 100
        # Early steps count for little, or the average would remember the start for long.
        keep = min(options.average, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        recent.append(loss.item())
        seconds = slowest(seconds + time.monotonic() - began)
        if sounds.rank:
            continue
        if steps % 50 == 0:
            typer.echo(
                f"step {steps}: loss {np.mean(recent[-50:]):.3f}, {audio / 3600:.1f} h of sound, "
                f"{audio / seconds:.0f} s of sound a second, {(budget - seconds) / 60:.1f} min left"
            )
        if steps % 200 == 0 or seconds >= budget:
            saved = {
                "student": student.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "seconds": seconds,
                "steps": steps,
                "audio": audio,
            }
            torch.save(saved, last.with_suffix(".part"))
            os.replace(last.with_suffix(".part"), last)
    return average


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


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


def shards_of(home: Path) -> list[Path]:
    return sorted(shard for shard in home.iterdir() if shard.suffix != ".part")


def main(
    out: Annotated[Path | None, typer.Option(help="where the backbone is written")] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="a backbone file; default: DINOv2")
    ] = None,
    name: str = Options.name,
    minutes: float = Options.minutes,
    rate: float = Options.rate,
    decay: float = Options.decay,
    scenes_per_step: int = Options.scenes_per_step,
    speech_share: Annotated[float, typer.Option(help="0: no second teacher")] = (
        Options.speech_share
    ),
    seed: int = Options.seed,
) -> None:
    """Train or go on training, then choose and write."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    options = Options(
        name, minutes, scenes_per_step, rate, decay, speech_share=speech_share, seed=seed
    )
    torch.manual_seed(options.seed + rank)
    run_folder(options).mkdir(parents=True, exist_ok=True)
    shards = shards_of(scene_folder())
    sounds = Batches(Scenes(shards[: -options.held_out_shards]), options, rank)
    held_out = Scenes(shards[-options.held_out_shards :])
    speech = None
    if options.speech_share:
        speech = Batches(Scenes(shards_of(speech_folder())), options, rank)
    first = Student(load_embedded(start).model if start else from_dinov2())
    fit_heads(first, sounds)
    if speech is not None:
        fit_heads(first, speech)
    if rank == 0:
        typer.echo(f"{options}\n{len(sounds.scenes)} scenes to train on, {len(held_out)} held out")
        typer.echo(f"heads fitted; held-out loss {held_out_loss(first, held_out, sounds):.3f}")
    end = train(first, options, sounds, speech)
    if rank == 0:
        typer.echo(f"held-out loss {held_out_loss(end, held_out, sounds):.3f}")
        student = choose(first, end, held_out, sounds)
        scale = sounds.embedding_scale
        heads = {
            "tags.weight": student.to_tags.weight,
            "tags.bias": student.to_tags.bias,
            "embedding.weight": student.to_embedding.weight,
            "embedding.bias": student.to_embedding.bias,
            "embedding.mean": scale.mean,
            "embedding.std": scale.std,
        }
        heads = {key: value.detach().contiguous() for key, value in heads.items()}
        save_file(heads, run_folder(options) / "heads.safetensors")
        write(student.encoder, run_folder(options) / "backbone.safetensors")
        if out is not None:
            write(student.encoder, out)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
