"""Train the bundle `tags`: 521 sound tags by Soft-MoA on the frozen `ast-small`.

    python -m analysis.train_tags --minutes 40
    python -m analysis.train_tags --evaluate

The teacher is YAMNet on the scenes of `analysis.teacher`, and in every second step on single clips
of the corpus at their own length; the loss is the binary cross-entropy with its probabilities. Both
are drawn by how rare their tags are, as AST draws AudioSet (Gong et al. 2021): else the few that
fill the corpus would be all that is learned. The head is first solved on the frozen features with
that same loss (LP-FT, Kumar et al. 2022).

Of the way from that start to the trained weights the part is taken that names most of the
household sounds of noise-of-life, which no training heard. Measured on the packages of
`analysis.packages` that are for testing, and by the names that a listener would accept on the
gallery of `assets/examples` and on ESC-10; written to analysis/results/tags.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torchmetrics.functional.classification import multilabel_average_precision

from analysis.accepted import ACCEPTED, ESC10, HOUSEHOLD
from analysis.corpus import read
from analysis.packages import HOUSEHOLD_PACKAGE, TEST_PACKAGES
from analysis.scenes import Batches, Clips, Scenes, shards_of
from analysis.teacher import TAGS, clip_of, corpus_tags, scene_folder, tag_names
from analysis.train_bundles import save_half
from softmoa import bundle, tasks, training, weights
from softmoa.ast import AST
from softmoa.audio import load, log_mel, log_mels
from softmoa.methods import attach, share, trained_state
from softmoa.methods.mixtures import SoftMoAOptions

OUT = weights.ASSETS / "bundles" / "tags.safetensors"
RESULTS = Path(__file__).parent / "results" / "tags.md"
METHOD = SoftMoAOptions(experts=7, slots=1, reduction=32)
PRESENT = 0.5  # probability of the teacher from which a tag counts as there
FEWEST = 5  # clips that a tag needs to count in the mean average precision
SHORTEST = 0.5  # seconds of a test clip
Sounds = tuple[Tensor, Tensor | None, Tensor]  # mel, true frames, tags
HEARD = 0.3  # probability, in a scene in any part, from which a tag counts for how it is drawn
RAREST = 20  # scenes or clips: a tag in fewer is drawn as if it were in so many
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the solved head to the trained weights


def rarity(present: np.ndarray) -> np.ndarray:
    """Weight of each sound of (sounds, 521): the sum over the tags that are present in it of one
    over the number of sounds with the tag; some weight for a sound without any."""
    count = present.sum(axis=0)
    return present @ (1 / np.maximum(count, RAREST)) + 1 / len(present)


def present_in(scenes: Scenes) -> np.ndarray:
    """Whether the teacher hears a tag anywhere in a scene, (scenes, 521)."""
    loudest = np.concatenate([tags.max(axis=1) for tags in scenes.arrays["tags"]])  # logits
    return loudest.astype(np.float32) >= np.log(HEARD / (1 - HEARD))


def fresh(base: weights.Loaded, drawn: Iterator[Sounds], batches: int = 1000) -> AST:
    """Soft-MoA that adds nothing yet, with a head solved on the features of so many batches."""
    model = share(base.model).eval()
    features, tags = [], []
    with torch.inference_mode():
        for mel, frames, said in islice(drawn, batches):
            features.append(model.pool(*model.features(mel, frames)))
            tags.append(said)
    attach(model, "soft-moa", METHOD, TAGS)
    model.set_head(*solve(torch.cat(features), torch.cat(tags)))
    return model


def solve(
    x: Tensor, tags: Tensor, steps: int = 1000, rate: float = 1e-2, batch: int = 4096
) -> tuple[Tensor, Tensor]:
    """Weight (tags, d) and bias (tags,) of the lowest binary cross-entropy with `tags` (sounds,
    tags), probabilities, on features x (sounds, d): Adam and a cosine on standardised features."""
    mean, std = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
    z = (x - mean) / std
    linear = torch.nn.Linear(z.shape[1], tags.shape[1])
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(tags.mean(dim=0).logit(eps=1e-5))
    optimiser = torch.optim.Adam(linear.parameters(), rate)
    for step in range(steps):
        part = torch.randint(len(z), (min(batch, len(z)),))
        loss = F.binary_cross_entropy_with_logits(linear(z[part]), tags[part], reduction="sum")
        optimiser.param_groups[0]["lr"] = rate * training.rate(step / steps, 0.0)
        optimiser.zero_grad()
        (loss / len(part)).backward()
        optimiser.step()
    weight = linear.weight.detach() / std
    return weight, linear.bias.detach() - weight @ mean


def loss_of(model: AST, mel: Tensor, frames: Tensor | None, tags: Tensor) -> Tensor:
    """Binary cross-entropy summed over the tags; tags: (b, 521) probabilities of the teacher."""
    return TAGS * F.binary_cross_entropy_with_logits(model(mel, frames).float(), tags)


def sounds(batches: Batches, clips: Clips) -> Iterator[Sounds]:
    """In turn of scenes and of single clips."""
    alone = clips.batches(batches.rng, rarity(clips.tags[clips.kept] >= HEARD))
    while True:
        scene = batches.draw()
        yield scene.mel, None, scene.targets.tags.mean(dim=1)
        yield next(alone)


@torch.inference_mode()
def held_out_loss(model: AST, scenes: Scenes, count: int = 300) -> float:
    """On scenes drawn once and for all, as in training by how rare their tags are."""
    model.eval()
    chances = rarity(present_in(scenes))
    drawn = np.random.default_rng(0).choice(len(scenes), count, p=chances / chances.sum())
    parts = [scenes.take(part) for part in np.array_split(drawn, count // 20)]
    losses = [loss_of(model, mel, None, t.tags.mean(dim=1)).item() for mel, t in parts]
    return float(np.mean(losses))


def train(
    model: AST,
    drawn: Iterator[Sounds],
    held_out: Scenes,
    minutes: float,
    rate: float,
) -> None:
    """AdamW with a cosine over so many minutes; keeps the weights of the lowest held-out loss."""
    optimiser = torch.optim.AdamW(training.parameter_groups(model, 0.1), rate, (0.9, 0.98))
    began, step, recent = time.monotonic(), 0, []
    best, kept = held_out_loss(model, held_out), trained_state(model)
    kept = {key: value.clone() for key, value in kept.items()}
    typer.echo(f"held-out loss at the start {best:.3f}")
    progress = 0.0
    while progress < 1:
        progress = min((time.monotonic() - began) / 60 / minutes, 1.0)
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * training.rate(progress, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, *next(drawn))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        recent.append(loss.item())
        if step % 100 == 0 or progress == 1:
            now = held_out_loss(model, held_out)
            left = minutes * (1 - progress)
            typer.echo(
                f"step {step}: loss {np.mean(recent[-100:]):.3f}, held out {now:.3f}, "
                f"{left:.1f} min left"
            )
            if now < best:
                best, kept = now, {k: v.clone() for k, v in trained_state(model).items()}
    for key, value in trained_state(model).items():
        value.data.copy_(kept[key])


@torch.inference_mode()
def tag_probabilities(model: AST, waveforms: list[Tensor]) -> Tensor:
    """(clips, 521), each clip at its own length."""
    return torch.stack([model(mel[None])[0].sigmoid() for mel in log_mels(waveforms)])


def on_household(model: AST) -> float:
    """Share of the clips with a tag of their folder among the first three, mean over the folders;
    the model was trained on none of them."""
    names = tag_names()
    corpus, rows = read()
    by_folder: dict[str, list[Tensor]] = {}
    for row in rows:
        folder = row["path"].split("/")[0]
        if row["package"] == HOUSEHOLD_PACKAGE and folder in HOUSEHOLD:
            by_folder.setdefault(folder, []).append(clip_of(corpus, row))
    shares = []
    for folder, clips in by_folder.items():
        accepted = {names.index(tag) for tag in HOUSEHOLD[folder]}
        first = tag_probabilities(model, clips).topk(3).indices.tolist()
        shares.append(np.mean([not accepted.isdisjoint(tags) for tags in first]))
    return float(np.mean(shares))


def choose(model: AST, start: dict[str, Tensor]) -> float:
    """Leave the model at the part of the way from `start` that names most household sounds."""
    end = {key: value.clone() for key, value in trained_state(model).items()}
    model.eval()

    def go(part: float) -> None:
        for key, value in trained_state(model).items():
            value.data.copy_(torch.lerp(start[key], end[key], part))

    named = {}
    for part in PARTS:
        go(part)
        named[part] = on_household(model)
        typer.echo(f"part {part:.2f}: {named[part]:.1%} of household sounds named")
    best = max(PARTS, key=lambda part: named[part])
    go(best)
    return best


def evaluate(model: AST) -> dict[str, float]:
    """Agreement with the teacher on the test packages, and names of the gallery."""
    corpus, rows = read()
    heard = corpus_tags(workers=1)
    chosen = [
        i
        for i, row in enumerate(rows)
        if row["package"] in TEST_PACKAGES and int(row["samples"]) >= SHORTEST * 16_000
    ]
    ours = torch.cat(
        [
            tag_probabilities(model, [clip_of(corpus, rows[i]) for i in part])
            for part in np.array_split(np.array(chosen), -(-len(chosen) // 50))
        ]
    )
    theirs = torch.from_numpy(heard[chosen].astype(np.float32))
    best = ours.argmax(dim=1, keepdim=True)
    agree = (theirs.topk(5).indices == best).any(dim=1).double().mean().item()
    present = (theirs >= PRESENT).long()
    counted = present.sum(dim=0) >= FEWEST
    precision = multilabel_average_precision(
        ours[:, counted], present[:, counted], int(counted.sum()), average="macro"
    )
    names = tag_names()
    right = 0
    for stem, accepted in ACCEPTED.items():
        path = next((weights.ASSETS / "examples").glob(f"{stem}.*"))
        found = model(log_mel(load(path).waveform)[None])[0].topk(3).indices.tolist()
        right += any(names[i] in accepted for i in found)
        typer.echo(f"{stem}: {', '.join(names[i] for i in found)}")
    top3, loudest = on_esc10(model)
    return {
        "household_top3": on_household(model),
        "clips": len(chosen),
        "top1_in_teachers_top5": agree,
        "mean_average_precision": float(precision),
        "tags_counted": int(counted.sum()),
        "gallery_top3": right / len(ACCEPTED),
        "esc10_top3": top3,
        "esc10_loudest": loudest,
    }


def on_esc10(model: AST) -> tuple[float, float]:
    """Share of the clips of ESC-10 with a tag of their class among the first three, and with the
    loudest of all classes' tags; the model was trained on none of them."""
    names, task = tag_names(), tasks.load("esc10")
    classes = [[names.index(tag) for tag in ESC10[label]] for label in task.labels]
    said = torch.cat(
        [
            tag_probabilities(model, [load(file.path).waveform for file in task.files[i : i + 20]])
            for i in range(0, len(task.files), 20)
        ]
    )
    labels = torch.tensor([file.label for file in task.files])
    first = said.topk(3).indices.tolist()
    named = [
        not set(classes[label]).isdisjoint(tags)
        for label, tags in zip(labels.tolist(), first, strict=True)
    ]
    loudest = torch.stack([said[:, tags].amax(dim=1) for tags in classes], dim=1).argmax(dim=1)
    return sum(named) / len(named), (loudest == labels).double().mean().item()


def write_results(
    metrics: dict[str, float], start: dict[str, float] | None, part: float | None = None
) -> None:
    chosen = "" if part is None else f", {part:.0%} of the way from the head alone"

    def row(title: str, m: dict[str, float]) -> str:
        return (
            f"| {title} | {m['top1_in_teachers_top5']:.1%} | {m['mean_average_precision']:.3f} "
            f"| {m['household_top3']:.1%} | {m['gallery_top3']:.1%} | {m['esc10_top3']:.1%} "
            f"| {m['esc10_loudest']:.1%} |"
        )

    lines = [
        "# The bundle `tags`",
        "",
        f"{metrics['clips']:g} clips of {SHORTEST:g} s at least, of {len(TEST_PACKAGES)} packages "
        "that neither the backbone nor the bundle was trained on; the average precision is the "
        "mean over the "
        f"{metrics['tags_counted']:g} tags to which YAMNet gives {PRESENT:g} or more on at least "
        f"{FEWEST} clips. Gallery: {len(ACCEPTED)} clips of `assets/examples`. ESC-10: all 400 "
        "clips, none of them ever trained on; among ten: the tag of the right class is the loudest "
        "of the tags of all ten. Household: 18 folders of noise-of-life, never trained on; by them "
        f"the weights were chosen{chosen}. One seed. Written by `python -m analysis.train_tags`.",
        "",
        "| | top tag is among the teacher's five | mean average precision | household, top 3 "
        "| gallery, top 3 | ESC-10, top 3 | ESC-10, among ten |",
        "|---|---|---|---|---|---|---|",
        *([row("head alone, on frozen features", start)] if start else []),
        row("Soft-MoA", metrics),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


def main(
    minutes: Annotated[float, typer.Option(help="of training")] = 40,
    rate: Annotated[float, typer.Option(help="highest learning rate")] = 3e-4,
    seed: int = 0,
    only: Annotated[bool, typer.Option("--evaluate", help="measure the bundle there is")] = False,
) -> None:
    """Train, write the bundle, measure."""
    base = weights.load("ast-small")
    if only:
        return write_results(evaluate(bundle.load(OUT, base)[0]), None)
    torch.manual_seed(seed)
    shards = shards_of(scene_folder())
    scenes = Scenes(shards[:-1])
    batches = Batches(scenes, seed=seed, weights=rarity(present_in(scenes)))
    clips = Clips(corpus_tags(workers=1))
    held_out = Scenes(shards[-1:])
    drawn = sounds(batches, clips)
    model = fresh(base, drawn)
    start = {key: value.clone() for key, value in trained_state(model).items()}
    before = evaluate(model.eval())
    typer.echo(f"head alone: {before}")
    train(model, drawn, held_out, minutes, rate)
    part = choose(model, start)
    metrics = evaluate(model.eval())
    typer.echo(f"Soft-MoA: {metrics}")
    info = bundle.BundleInfo(
        name=OUT.stem,
        task="sound tags",
        method="soft-moa",
        options=asdict(METHOD),
        labels=tuple(tag_names()),
        base=base.name,
        base_sha256=base.sha256,
        multilabel=True,
        seed=seed,
        metrics=metrics,
        notes=f"YAMNet's tags, rare ones drawn more often, {minutes:g} minutes, lr {rate:g}, "
        f"{part:.0%} of the way from the solved head",
    )
    save_half(trained_state(model), info)
    write_results(metrics, before, part)


if __name__ == "__main__":
    typer.run(main)
