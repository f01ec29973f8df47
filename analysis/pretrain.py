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
best mean rank is written to `--out` and beside the checkpoint.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn

from analysis.corpus import folder
from analysis.evaluate_backbone import esc10, fsdd, mels_of, pooled_features, probe
from analysis.initialise import from_dinov2
from analysis.scenes import Batches, Scenes, shards_of
from analysis.speech_teacher import speech_folder
from analysis.student import (
    TAG_WEIGHT,
    Student,
    explained,
    fit_heads,
    held_out_loss,
    interpolate,
    loss_of,
)
from analysis.teacher import scene_folder
from analysis.words import Words, fit_words, word_loss
from softmoa.ast import AST
from softmoa.weights import load_embedded, save_embedded

SHARES = (0.0, 0.5, 0.75, 1.0)  # of the way from the start to the trained weights


@dataclass(frozen=True)
class Options:
    """A run; the defaults are the fourth one's, but for its time."""

    name: str = "ast-small"
    minutes: float = 60  # of training, whatever the machine does in them
    scenes_per_step: int = 8  # of 5 s; shorter crops come in larger batches of the same cost
    rate: float = 8e-5  # of the last block; each block below learns `decay` times as fast
    decay: float = 0.85
    head_rate: float = 3e-4
    warmup: int = 400  # steps
    weight_decay: float = 0.02
    speech_share: float = 0.35  # of the steps that see scenes of speech
    word_share: float = 0.25  # of those that name words
    tag_weight: float = TAG_WEIGHT
    embedding_weight: float = 1.0
    average: float = 0.999
    held_out_shards: int = 1  # the last ones
    seed: int = 0


def parameter_groups(model: nn.Module, depth: int, options: Options) -> list[dict]:
    """Of a model with an `encoder` of `depth` blocks: rates fall by `decay` a block towards the
    input; no weight decay on vectors."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
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


@dataclass(frozen=True)
class Sources:
    """What the steps hear in turn."""

    sounds: Batches
    speech: Batches | None
    words: Words | None

    def restart(self, step: int) -> None:
        for source in filter(None, (self.sounds, self.speech, self.words)):
            source.restart(step)

    def loss(self, student: Student, draw: float, options: Options) -> tuple[Tensor, float]:
        """Of the step that a draw from 0 to 1 falls to, and the seconds of sound heard."""
        with torch.autocast("cpu", torch.bfloat16):
            if self.words is not None and draw < options.word_share:
                spoken = self.words.draw()
                return word_loss(student, spoken), spoken.frames.sum().item() / 100
            of_speech = draw < options.word_share + options.speech_share
            source = self.speech if self.speech is not None and of_speech else self.sounds
            batch = source.draw()
            loss = loss_of(student, batch, options.tag_weight, options.embedding_weight)
            return loss, len(batch.mel) * batch.mel.shape[1] / 100


def train(start: Student, options: Options, sources: Sources) -> Student:
    """Run to the end of the schedule, resuming if there is a checkpoint; the averaged student.

    Raises ValueError if the checkpoint is of a run with other options, but for its time, or start.
    """
    last = run_folder(options) / "last.pt"
    student, average = copy.deepcopy(start), copy.deepcopy(start)
    depth = start.encoder.config.depth
    optimiser = torch.optim.AdamW(parameter_groups(student, depth, options), betas=(0.9, 0.98))
    seconds, steps, audio = 0.0, 0, 0.0
    of_run = {"start": fingerprint(start.encoder)} | asdict(replace(options, minutes=0))
    if last.exists():
        saved = torch.load(last, weights_only=True)
        if saved["run"] != of_run:
            raise ValueError(f"{last} is of other options or another start; choose another --name")
        student.load_state_dict(saved["student"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        seconds, steps, audio = saved["seconds"], saved["steps"], saved["audio"]
        sources.restart(steps)
    budget = 60 * options.minutes
    turn = np.random.default_rng([options.seed, steps])  # alike in all processes
    recent: list[float] = []
    while seconds < budget:
        began = time.monotonic()
        scale = schedule(steps, seconds / budget, options.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * scale
        loss, heard = sources.loss(student, turn.random(), options)
        loss.backward()
        if dist.is_initialized():
            average_gradients(student)
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
        audio += processes() * heard
        # Early steps count for little, or the average would remember the start for long.
        keep = min(options.average, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        recent.append(loss.item())
        seconds = slowest(seconds + time.monotonic() - began)
        if sources.sounds.rank:
            continue
        if steps % 50 == 0:
            typer.echo(
                f"step {steps}: loss {np.mean(recent[-50:]):.3f}, {audio / 3600:.1f} h of sound, "
                f"{audio / seconds:.0f} s of sound a second, {(budget - seconds) / 60:.1f} min left"
            )
        if steps % 200 == 0 or seconds >= budget:
            saved = {
                "run": of_run,
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


def fingerprint(model: nn.Module) -> str:
    """What tells one set of weights from another."""
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().float().numpy().tobytes())
    return digest.hexdigest()


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
    word_share: Annotated[float, typer.Option(help="0: no labelled words")] = Options.word_share,
    seed: int = Options.seed,
) -> None:
    """Train or go on training, then choose and write."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    options = Options(
        name,
        minutes,
        scenes_per_step,
        rate,
        decay,
        speech_share=speech_share,
        word_share=word_share,
        seed=seed,
    )
    torch.manual_seed(options.seed + rank)
    run_folder(options).mkdir(parents=True, exist_ok=True)
    shards = shards_of(scene_folder())
    sounds = Batches(Scenes(shards[: -options.held_out_shards]), scenes_per_step, seed, rank)
    held_out = Scenes(shards[-options.held_out_shards :])
    speech = None
    if options.speech_share:
        speech = Batches(Scenes(shards_of(speech_folder())), scenes_per_step, seed, rank)
        speech.embedding_scale = sounds.embedding_scale  # one head answers both
    words = Words(4 * scenes_per_step, seed, rank) if options.word_share else None
    encoder = load_embedded(start).model if start else from_dinov2()
    first = Student(encoder, len(words) if words else 1)
    fit_heads(first, sounds)
    if speech is not None:
        fit_heads(first, speech)
    if words is not None:
        fit_words(first, words)
    if dist.is_initialized():  # each process fitted its heads to what it drew
        for weight in first.parameters():
            dist.broadcast(weight.data, 0)
    if rank == 0:
        typer.echo(f"{options}\n{len(sounds.scenes)} scenes to train on, {len(held_out)} held out")
        typer.echo(f"heads fitted; held-out loss {held_out_loss(first, held_out, sounds):.3f}")
    try:
        end = train(first, options, Sources(sounds, speech, words))
    except ValueError as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(2) from None
    if rank == 0:
        typer.echo(f"held-out loss {held_out_loss(end, held_out, sounds):.3f}")
        student = choose(first, end, held_out, sounds)
        write(student.encoder, run_folder(options) / "backbone.safetensors")
        if out is not None:
            write(student.encoder, out)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
