"""Distil three teachers into `ast-small`: a long run, whose averaged weights are good at any time.

    python -m analysis.pretraining.pretrain --from assets/ast-small.safetensors --minutes 1200
    torchrun --nproc-per-node 2 -m analysis.pretraining.pretrain ...

The student hears the scenes of `analysis.pretraining.teacher` and predicts, for each 0.96 s patch
of the teacher from the mean of the tokens under it, and for the whole clip from the pooled features
the app uses, YAMNet's embedding (standardised) and its 521 tags (soft labels). In the scenes of
`analysis.pretraining.speech_teacher` it also predicts, from the mean of each column of patches,
what Whisper's encoder hears there; the recordings of `analysis.pretraining.words` it names, and
says what EfficientWord-Net hears in them. Everything it hears and predicts lies on disk, so that a
step is hardly more than the network. The linear heads start from a regression on the frozen start
(LP-FT, Kumar et al. 2022), so that the first gradients do not destroy what it knows; small rates
that fall towards the input and a moving average of the weights guard the rest. Without `--from` the
run begins at DINOv2.

A run is cut into legs of LEG minutes. After each the state is in $SOFTMOA_CORPUS/pretrain/NAME/
last.pt, from where the same command goes on after whatever interrupted it, and shards of scenes and
words that have been made meanwhile are heard from then on. After every second leg the averaged
weights are measured by `analysis.pretraining.validation`: a line in curve.csv, the weights in
average.safetensors, and the best so far in best.safetensors.

Under torchrun every process draws scenes of its own and the gradients are averaged.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import os
import time
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn

from analysis.pretraining import validation
from analysis.pretraining.corpus import folder
from analysis.pretraining.initialise import from_dinov2
from analysis.pretraining.scenes import Batches, Scale, Scenes, shards_of
from analysis.pretraining.speech_teacher import speech_folder
from analysis.pretraining.student import TAG_WEIGHT, Student, fit_heads, loss_of
from analysis.pretraining.teacher import scene_folder
from analysis.pretraining.words import Words, fit_words, word_folder, word_loss
from softmoa.model import device
from softmoa.model.ast import AST
from softmoa.model.precision import autocast
from softmoa.model.weights import load_embedded, save_embedded
from softmoa.training import fit

LEG = 15  # minutes
PROBED = 2  # legs from one measurement to the next


@dataclass(frozen=True)
class Options:
    """A run; the defaults are the long one's."""

    name: str = "long"
    minutes: float = 1200  # of training, whatever the machine does in them
    scenes_per_step: int = 8  # of 5 s; shorter crops come in larger batches of the same cost
    rate: float = 5e-5  # of the last block; each block below learns `decay` times as fast
    decay: float = 0.85
    head_rate: float = 3e-4
    warmup: int = 400  # steps
    weight_decay: float = 0.02
    speech_share: float = 0.15  # of the steps that see scenes of speech
    word_share: float = 0.25  # of those that name words
    tag_weight: float = TAG_WEIGHT
    embedding_weight: float = 1.0
    average: float = 0.9995
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
    return min(1.0, (step + 1) / warmup) * fit.rate(min(progress, 1.0), 0.0)


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

    @classmethod
    def open(cls, options: Options, rank: int, scales: dict[str, Scale]) -> Sources:
        """All shards that there are, less those that validate. `scales` of the targets are filled
        in where they are not known: a head has to answer at one scale for good."""
        size, seed = options.scenes_per_step, options.seed
        shards = shards_of(scene_folder())[validation.HELD_OUT_SHARDS :]
        sounds = Batches(Scenes(shards), size, seed, rank)
        sounds.embedding_scale = scales.setdefault("embedding", sounds.embedding_scale)
        speech = words = None
        if options.speech_share:
            speech = Batches(Scenes(shards_of(speech_folder())), size, seed, rank)
            speech.embedding_scale = sounds.embedding_scale  # one head answers both
            assert speech.speech_scale is not None
            speech.speech_scale = scales.setdefault("speech", speech.speech_scale)
        if options.word_share:
            known = scales.get("word")
            words = Words(shards_of(word_folder()), 4 * size, seed, rank, known)
            scales["word"] = words.scale
        return cls(sounds, speech, words)

    def restart(self, step: int) -> None:
        for source in filter(None, (self.sounds, self.speech, self.words)):
            source.restart(step)

    def fit(self, student: Student) -> None:
        """Solve the heads on the frozen encoder."""
        for batches in filter(None, (self.sounds, self.speech)):
            fit_heads(student, batches)
        if self.words is not None:
            fit_words(student, self.words)

    def loss(self, student: Student, draw: float, options: Options) -> tuple[Tensor, float]:
        """Of the step that a draw from 0 to 1 falls to, and the seconds of sound heard."""
        where = student.encoder.device
        with autocast(student, "auto"):
            if self.words is not None and draw < options.word_share:
                spoken = self.words.draw().to(where)
                return word_loss(student, spoken), spoken.frames.sum().item() / 100
            of_speech = draw < options.word_share + options.speech_share
            source = self.speech if self.speech is not None and of_speech else self.sounds
            batch = source.draw().to(where)
            loss = loss_of(student, batch, options.tag_weight, options.embedding_weight)
            return loss, len(batch.mel) * batch.mel.shape[1] / 100


class Run:
    """The state of a run, from one leg to the next.

    scales: of the teachers' features, by their target.
    """

    def __init__(self, start: Student, options: Options):
        self.options = options
        self.identity = {"start": fingerprint(start.encoder)}
        self.identity |= asdict(replace(options, minutes=0))
        self.student, self.average = start, copy.deepcopy(start)
        depth = start.encoder.config.depth
        self.optimiser = torch.optim.AdamW(
            parameter_groups(start, depth, options), betas=(0.9, 0.98)
        )
        self.scales: dict[str, Scale] = {}
        self.seconds, self.steps, self.audio = 0.0, 0, 0.0

    @property
    def home(self) -> Path:
        return folder() / "pretrain" / self.options.name

    @property
    def resumable(self) -> bool:
        return (self.home / "last.pt").exists()

    def begin(self, sources: Sources) -> None:
        """Solve the heads; every process begins with those of the first."""
        sources.fit(self.student)
        if dist.is_initialized():
            for weight in self.student.parameters():
                dist.broadcast(weight.data, 0)
        self.average.load_state_dict(self.student.state_dict())

    def resume(self) -> None:
        """Raises ValueError if the checkpoint is of other options, but for the time, or start."""
        saved = torch.load(self.home / "last.pt", "cpu", weights_only=True)
        if saved["run"] != self.identity:
            raise ValueError(
                f"{self.home} holds a run of other options or another start; choose another --name"
            )
        self.student.load_state_dict(saved["student"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scales = {name: Scale(*parts) for name, parts in saved["scales"].items()}
        self.seconds, self.steps, self.audio = saved["seconds"], saved["steps"], saved["audio"]

    def save(self) -> None:
        saved = {
            "run": self.identity,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scales": {name: astuple(scale) for name, scale in self.scales.items()},
            "seconds": self.seconds,
            "steps": self.steps,
            "audio": self.audio,
        }
        partial = self.home / "last.part"
        torch.save(saved, partial)
        os.replace(partial, self.home / "last.pt")

    def leg(self, sources: Sources, until: float) -> float:
        """Train until so many seconds of the run are over; the mean loss."""
        options, budget = self.options, 60 * self.options.minutes
        turn = np.random.default_rng([options.seed, self.steps])  # alike in all processes
        sources.restart(self.steps)
        losses: list[Tensor] = []
        while self.seconds < until:
            began = time.monotonic()
            scale = schedule(self.steps, self.seconds / budget, options.warmup)
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * scale
            loss, heard = sources.loss(self.student, turn.random(), options)
            loss.backward()
            if dist.is_initialized():
                average_gradients(self.student)
            nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.steps += 1
            self.audio += processes() * heard
            # Early steps count for little, or the average would remember the start for long.
            keep = min(options.average, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                pairs = zip(self.average.parameters(), self.student.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.lerp_(fast, 1 - keep)
            losses.append(loss.detach())  # a number of it would have a GPU waited for
            self.seconds = slowest(self.seconds + time.monotonic() - began)
        return torch.stack(losses).mean().item()

    def probe(self) -> None:
        """Measure the averaged weights and keep them; the best ones apart."""
        encoder = self.average.encoder
        found = validation.measure(encoder)
        write(encoder, self.home / "average.safetensors")
        curve = self.home / "curve.csv"
        known = list(csv.DictReader(curve.read_text().splitlines())) if curve.exists() else []
        if all(found.mean > float(row["mean"]) for row in known):
            write(encoder, self.home / "best.safetensors")
        with curve.open("a", newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            if not known:
                writer.writerow(
                    ["minutes", "steps", "hours_heard", "household", "scenes", "words", "mean"]
                )
            values = (*astuple(found), found.mean)
            writer.writerow(
                [round(self.seconds / 60), self.steps, round(self.audio / 3600, 1)]
                + [round(value, 4) for value in values]
            )
        typer.echo(str(found))


def fingerprint(model: nn.Module) -> str:
    """What tells one set of weights from another."""
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def main(
    start: Annotated[
        Path | None, typer.Option("--from", help="a backbone file; default: DINOv2")
    ] = None,
    name: str = Options.name,
    minutes: float = Options.minutes,
    rate: float = Options.rate,
    decay: float = Options.decay,
    scenes_per_step: int = Options.scenes_per_step,
    speech_share: Annotated[float, typer.Option(help="0: no scenes of speech")] = (
        Options.speech_share
    ),
    word_share: Annotated[float, typer.Option(help="0: no words")] = Options.word_share,
    seed: int = Options.seed,
    on: Annotated[
        str, typer.Option("--device", envvar="SOFTMOA_DEVICE", help="auto, cpu, cuda, cuda:N, mps")
    ] = "auto",
) -> None:
    """Begin a run, or go on with it."""
    try:
        where = device.use(on)
    except device.DeviceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if "RANK" in os.environ:
        dist.init_process_group()
        if where.type == "cuda":  # each process has a GPU of its own
            device.use(f"cuda:{os.environ['LOCAL_RANK']}")
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
    encoder = load_embedded(start).model if start else from_dinov2()
    encoder.pooling = "mean"
    student = device.place(Student(encoder.requires_grad_(True)), "the student")
    run = Run(student, options)
    run.home.mkdir(parents=True, exist_ok=True)
    if run.resumable:
        try:
            run.resume()
        except ValueError as error:
            typer.echo(f"{error}.", err=True)
            raise typer.Exit(2) from None
    else:
        run.begin(Sources.open(options, rank, run.scales))
        if rank == 0:
            run.save()
            run.probe()
    while run.seconds < 60 * minutes:
        sources = Sources.open(options, rank, run.scales)
        legs = int(run.seconds / 60 / LEG) + 1
        heard, steps, seconds = run.audio, run.steps, run.seconds
        loss = run.leg(sources, 60 * min(LEG * legs, minutes))
        if rank == 0:
            took = run.seconds - seconds
            typer.echo(
                f"{run.seconds / 60:.0f} min, {run.steps} steps: loss {loss:.3f}, "
                f"{run.audio / 3600:.1f} h of sound, {(run.audio - heard) / took:.1f} s of sound "
                f"and {(run.steps - steps) / took:.2f} steps a second; "
                f"{len(sources.sounds.scenes)} scenes, {len(sources.words or ())} words"
            )
            run.save()
            if legs % PROBED == 0 or run.seconds >= 60 * minutes:
                run.probe()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
