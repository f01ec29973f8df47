"""Short pretrainings from DINOv2 that differ in one thing, each of so many minutes on one core.

    python -m analysis.pretraining.pretrain_ablations  # those that are not in the table yet
    python -m analysis.pretraining.pretrain_ablations base depth-8    # these

Equal minutes, so that what costs more sees less. Measured at the end of the moving average, without
interpolation: analysis/results/pretrain-ablations.{csv,md}.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from analysis import tables
from analysis.pretraining.evaluate_backbone import clips_of, fsdd, mels_of, probe
from analysis.pretraining.initialise import AST_SMALL, from_dinov2
from analysis.pretraining.pretrain import Options, Run, Sources, parameter_groups, schedule
from analysis.pretraining.scenes import Batches, Scenes, shards_of
from analysis.pretraining.student import Student, explained
from analysis.pretraining.teacher import scene_folder
from analysis.pretraining.validation import HELD_OUT_SHARDS
from softmoa.model.ast import AST, SPECIAL_TOKENS, ASTConfig
from softmoa.model.precision import autocast
from softmoa.training.probe import pooled_features

TABLE = tables.RESULTS / "pretrain-ablations.csv"
MASKED = 0.5  # share of the patches hidden in the self-supervised stage
SHORT = Options(rate=1e-4, warmup=40, speech_share=0.0, word_share=0.0)


@dataclass(frozen=True)
class Variant:
    """masked, taught: shares of the minutes for masked patches and then for the teachers."""

    title: str
    options: Options = SHORT
    config: ASTConfig = AST_SMALL
    augmented: bool = True
    masked: float = 0.0
    taught: float = 1.0


VARIANTS = {
    "start": Variant("DINOv2, no audio", taught=0.0),
    "base": Variant("6 blocks, stride 16, YAMNet's tags and embedding, gain and SpecAugment"),
    "base-again": Variant("the same with another seed", replace(SHORT, seed=1)),
    "depth-4": Variant("4 blocks", config=replace(AST_SMALL, depth=4)),
    "depth-8": Variant("8 blocks", config=replace(AST_SMALL, depth=8)),
    "stride-10": Variant(
        "stride 10 in frequency (12 bands of patches, not 8)",
        config=replace(AST_SMALL, stride_frequency=10),
    ),
    "tags": Variant("tags alone", replace(SHORT, embedding_weight=0.0)),
    "embedding": Variant("embedding alone", replace(SHORT, tag_weight=0.0)),
    "plain": Variant("no gain, no SpecAugment", augmented=False),
    "masked-first": Variant("half of the time masked patches first", masked=0.5, taught=0.5),
    "speech": Variant("Whisper in 30 % of the steps", replace(SHORT, speech_share=0.3)),
    "words": Variant("named words in 30 % of the steps", replace(SHORT, word_share=0.3)),
}


@dataclass(frozen=True)
class Row:
    """One run; accuracies as shares, hours of sound of the teachers' steps."""

    variant: str
    minutes: float
    parameters: int
    steps: int
    hours: float
    explained: float
    esc10: float
    fsdd: float


class MaskedPatches(nn.Module):
    """Predict the log-mel of hidden patches from their tokens (SSAST's generative task, Gong et al.
    2022, with patches hidden as zeros, the mean, in the input)."""

    def __init__(self, encoder: AST):
        super().__init__()
        self.encoder = encoder
        self.to_patch = nn.Linear(encoder.config.width, encoder.config.patch**2)

    def forward(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """mel (b, frames, 128) -> mean squared error over hidden patches, each standardised."""
        size = self.encoder.config.patch
        mel = mel[:, : mel.shape[1] // size * size]
        patches = mel.unfold(1, size, size).unfold(2, size, size)  # (b, columns, bands, 16, 16)
        hidden = torch.rand(patches.shape[:3], generator=generator) < MASKED
        cover = hidden.repeat_interleave(size, dim=1).repeat_interleave(size, dim=2)
        tokens, _ = self.encoder.features(mel.masked_fill(cover, 0))
        grid = tokens[:, SPECIAL_TOKENS:].unflatten(1, (self.encoder.config.bands, -1))
        said = self.to_patch(grid.transpose(1, 2)[hidden]).float()
        truth = patches[hidden].flatten(1)
        truth = (truth - truth.mean(dim=1, keepdim=True)) / (truth.std(dim=1, keepdim=True) + 1e-2)
        return F.mse_loss(said, truth)


def learn_masked(encoder: AST, sounds: Batches, minutes: float, options: Options) -> None:
    """Train the encoder in place for so many minutes on masked patches of the scenes."""
    model = MaskedPatches(encoder)
    optimiser = torch.optim.AdamW(
        parameter_groups(model, encoder.config.depth, options), betas=(0.9, 0.98)
    )
    generator = torch.Generator().manual_seed(options.seed)
    began, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * schedule(step, progress, options.warmup)
        with autocast(model, "auto"):
            loss = model(sounds.draw().mel, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        progress = (time.monotonic() - began) / 60 / minutes
        if step % 50 == 0:
            typer.echo(f"masked, step {step}: loss {loss.item():.3f}")


def run(name: str, minutes: float) -> Row:
    """Train and measure one variant, from its beginning to its end."""
    variant = VARIANTS[name]
    options = replace(variant.options, name=f"ablation-{name}", minutes=minutes * variant.taught)
    torch.manual_seed(options.seed)
    encoder = from_dinov2(variant.config)
    started = Run(Student(encoder), options)
    sources = Sources.open(options, 0, started.scales)
    sources.sounds.augmented = variant.augmented
    if variant.masked:
        learn_masked(encoder, sources.sounds, minutes * variant.masked, options)
    started.begin(sources)
    if variant.taught:
        started.leg(sources, 60 * options.minutes)
    model = started.average.encoder.eval()
    held_out = Scenes(shards_of(scene_folder())[:HELD_OUT_SHARDS])
    files, classes, folds = clips_of("esc10")
    takes, digits, speakers = fsdd(takes=15)
    return Row(
        name,
        minutes * (variant.masked + variant.taught),
        sum(weight.numel() for weight in model.parameters()),
        started.steps,
        started.audio / 3600,
        explained(model, held_out, sources.sounds),
        mean(probe(pooled_features(model, mels_of(files)).numpy(), classes, folds).values()),
        mean(probe(pooled_features(model, mels_of(takes), 64).numpy(), digits, speakers).values()),
    )


def keep(row: Row) -> None:
    """Put the row into the table, read again since another process may have written."""
    rows: list[dict[str, Any]] = [of for of in tables.read(TABLE) if of["variant"] != row.variant]
    rows.append(asdict(row))
    rows.sort(key=lambda of: list(VARIANTS).index(of["variant"]))
    tables.write(TABLE, rows)
    TABLE.with_suffix(".md").write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    about = (
        "Written by `python -m analysis.pretraining.pretrain_ablations`: from DINOv2, one core, "
        "the same minutes for each, the moving average of the weights. Linear probes as in "
        "[pretraining.md](pretraining.md), FSDD with 15 takes; one standard error of ESC-10 is "
        "about 1.5 points."
    )
    heads = ["variant", "parameters", "minutes", "steps", "sound", "teacher's embedding explained"]
    body = [
        [
            VARIANTS[row["variant"]].title,
            f"{int(row['parameters']) / 1e6:.1f} M",
            f"{float(row['minutes']):g}",
            str(row["steps"]),
            f"{float(row['hours']):.1f} h",
            *(f"{100 * float(row[key]):.1f} %" for key in ("explained", "esc10", "fsdd")),
        ]
        for row in rows
    ]
    table = tables.markdown([*heads, "ESC-10", "FSDD"], body)
    return tables.page("Short pretrainings that differ in one thing", about, table)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="variants; default: missing ones")
    ] = None,
    minutes: Annotated[float, typer.Option(help="of training, each")] = 4,
) -> None:
    """Train and measure the variants one after the other."""
    if unknown := set(names or ()) - set(VARIANTS):
        typer.echo(f"No variant {', '.join(unknown)}; choose from {', '.join(VARIANTS)}.", err=True)
        raise typer.Exit(2)
    torch.set_num_threads(1)
    done = {row["variant"] for row in tables.read(TABLE)}
    for name in names or [name for name in VARIANTS if name not in done]:
        row = run(name, minutes)
        keep(row)
        typer.echo(f"{row}")


if __name__ == "__main__":
    typer.run(main)
