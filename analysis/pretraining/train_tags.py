"""Train the bundle `tags`: 521 sound tags by Soft-MoA on the frozen `ast-small`.

    python -m analysis.pretraining.train_tags --minutes 40
    python -m analysis.pretraining.train_tags --from assets/bundles/tags.safetensors --minutes 0
    python -m analysis.pretraining.train_tags --evaluate

The teacher is YAMNet on the scenes of `analysis.pretraining.teacher`, and in every second step on
single clips of the corpus at their own length; the loss is the binary cross-entropy with its
probabilities. All sounds are drawn alike: drawn by how rare their tags are, as AST draws AudioSet,
rare tags were too loud and fewer of all were right (results/tags.md). The head is solved with that
same loss on fixed features (LP-FT, Kumar et al. 2022), before the mixtures learn and once more
after them, when it can hear many more sounds.

Rare tags are then raised by the part that names most of the household sounds of noise-of-life,
which no training heard; by these the probabilities are calibrated, too.
Measured on the packages of `analysis.pretraining.packages` that are for testing, and by the names
that a listener would accept on the gallery of `assets/examples` and on ESC-10; written to
analysis/results/tags.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torchmetrics.functional.classification import multilabel_average_precision

from analysis import tables
from analysis.pretraining.accepted import ACCEPTED, ESC10, HOUSEHOLD
from analysis.pretraining.corpus import read
from analysis.pretraining.packages import TEST_PACKAGES
from analysis.pretraining.scenes import Batches, Clips, Scenes, shards_of
from analysis.pretraining.teacher import TAGS, clip_of, corpus_tags, scene_folder, tag_names
from analysis.pretraining.train_bundles import save_half
from analysis.pretraining.validation import HELD_OUT_SHARDS, household_rows
from softmoa.data import tasks
from softmoa.data.audio import load, log_mel
from softmoa.lens.headline import ancestors, headline
from softmoa.methods import attach, bundle, share, trained_state
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.model import weights
from softmoa.model.ast import AST
from softmoa.model.precision import autocast
from softmoa.training import fit as training

OUT = weights.ASSETS / "bundles" / "tags.safetensors"
RESULTS = tables.RESULTS / "tags.md"
METHOD = SoftMoAOptions(experts=7, slots=1, reduction=32)
PRESENT = 0.5  # probability of the teacher from which a tag counts as there
FEWEST = 5  # clips that a tag needs to count in the mean average precision
SHORTEST = 0.5  # seconds of a test clip
SHOWN = (0.6, 0.8)  # probabilities that a reader takes for 70 %
HEAD_BATCHES = 2000  # that the head is solved on
PULL = 3e-4  # towards the head that it began with
Sounds = tuple[Tensor, Tensor | None, Tensor]  # mel, true frames, tags
PARTS = (0.0, 0.1, 0.2, 0.3)  # of the logarithm of how rare a tag is, by which it is raised
RAREST = 3e-5  # mean of a tag that counts as no rarer


def started(base: weights.Loaded, begin: Path | None) -> AST:
    """Soft-MoA on the backbone that adds nothing yet, or as in a bundle that began the work."""
    model = share(base.model)
    attach(model, "soft-moa", METHOD, TAGS)
    if begin:
        state, _ = weights.read_safetensors(begin)
        for key, value in trained_state(model).items():
            value.data.copy_(state[key])
    return model


def solve_head(model: AST, drawn: Iterator[Sounds], anew: bool = False) -> Tensor:
    """Give the model the head of the lowest loss on its own features of HEAD_BATCHES batches, near
    the head that it has if not `anew`; the mean of each tag over the sounds, (tags,)."""
    features, tags = [], []
    with torch.inference_mode(), autocast(model.train(), "auto"):  # no layer behaves otherwise
        for mel, frames, said in islice(drawn, HEAD_BATCHES):
            features.append(model.pool(*model.features(mel, frames)).float())
            tags.append(said)
    model.eval()
    said, linear = torch.cat(tags), linear_of(model)
    near = None if anew else (linear.weight.detach(), linear.bias.detach())
    model.set_head(*solve(torch.cat(features), said, near))
    return said.mean(dim=0)


def solve(
    x: Tensor,
    tags: Tensor,
    near: tuple[Tensor, Tensor] | None = None,
    steps: int = 500,
    rate: float = 1e-2,
    batch: int = 1024,
) -> tuple[Tensor, Tensor]:
    """Weight (tags, d) and bias (tags,) of the lowest binary cross-entropy with `tags` (sounds,
    tags), probabilities, on features x (sounds, d): Adam and a cosine on standardised features.

    near: weight and bias to start from, PULL times the squared distance from which is part of the
    loss.
    """
    mean, std = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
    z = (x - mean) / std
    if near is None:
        weight, bias = torch.zeros(tags.shape[1], z.shape[1]), tags.mean(dim=0).logit(eps=1e-5)
    else:
        weight, bias = near[0] * std, near[1] + near[0] @ mean
    pull = PULL if near else 0.0
    change = torch.nn.Linear(z.shape[1], tags.shape[1])
    torch.nn.init.zeros_(change.weight)
    torch.nn.init.zeros_(change.bias)
    optimiser = torch.optim.Adam(change.parameters(), rate)
    for step in range(steps):
        part = torch.randint(len(z), (min(batch, len(z)),))
        logits = z[part] @ weight.T + bias + change(z[part])
        loss = F.binary_cross_entropy_with_logits(logits, tags[part], reduction="sum") / len(part)
        optimiser.param_groups[0]["lr"] = rate * training.rate(step / steps, 0.0)
        optimiser.zero_grad()
        (loss + pull * change.weight.square().sum()).backward()
        optimiser.step()
    found = (weight + change.weight.detach()) / std
    return found, bias + change.bias.detach() - found @ mean


def loss_of(model: AST, mel: Tensor, frames: Tensor | None, tags: Tensor) -> Tensor:
    """Binary cross-entropy summed over the tags; tags: (b, 521) probabilities of the teacher."""
    return TAGS * F.binary_cross_entropy_with_logits(model(mel, frames).float(), tags)


def sounds(batches: Batches, clips: Clips) -> Iterator[Sounds]:
    """In turn of scenes and of single clips."""
    alone = clips.batches(batches.rng)
    while True:
        scene = batches.draw()
        yield scene.mel, None, scene.targets.tags.mean(dim=1)
        yield next(alone)


@torch.inference_mode()
def held_out_loss(model: AST, scenes: Scenes, count: int = 300) -> float:
    model.eval()
    chosen = np.linspace(0, len(scenes) - 1, count).astype(int)
    parts = [scenes.take(part) for part in np.array_split(chosen, count // 20)]
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
    best, kept = held_out_loss(model, held_out), deepcopy(trained_state(model))
    typer.echo(f"held-out loss at the start {best:.3f}")
    progress = 0.0
    while progress < 1:
        progress = min((time.monotonic() - began) / 60 / minutes, 1.0)
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * training.rate(progress, 0.0)
        with autocast(model, "auto"):
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
                best, kept = now, deepcopy(trained_state(model))
    for key, value in trained_state(model).items():
        value.data.copy_(kept[key])


@torch.inference_mode()
def tag_probabilities(model: AST, waveforms: Iterable[Tensor]) -> Tensor:
    """(clips, 521), each clip at its own length."""
    return torch.stack([model(log_mel(waveform)[None])[0].sigmoid() for waveform in waveforms])


def household() -> dict[str, tuple[set[int], list[Tensor]]]:
    """Of each folder of household sounds the tags that a listener accepts, and its clips."""
    (corpus, _), names = read(), tag_names()
    found: dict[str, tuple[set[int], list[Tensor]]] = {}
    for folder, row in household_rows():
        accepted = {names.index(tag) for tag in HOUSEHOLD[folder]}
        found.setdefault(folder, (accepted, []))[1].append(clip_of(corpus, row))
    return found


def on_household(model: AST) -> float:
    """Share of the clips with a tag of their folder among the first three, mean over the folders;
    the model was trained on none of them."""
    shares = []
    for accepted, clips in household().values():
        first = tag_probabilities(model, clips).topk(3).indices.tolist()
        shares.append(np.mean([not accepted.isdisjoint(tags) for tags in first]))
    return float(np.mean(shares))


def calibrate(model: AST) -> tuple[float, float]:
    """Scale and shift the logits (Platt 1999) so that the first tag of a household sound is as
    often right as its probability says; all folders count alike. Returns slope and shift."""
    logits, right, weights = [], [], []
    for accepted, clips in household().values():
        highest, first = tag_probabilities(model, clips).logit(eps=1e-6).max(dim=1)
        logits.append(highest)
        right += [tag in accepted for tag in first.tolist()]
        weights += [1 / len(clips)] * len(clips)
    fitted = LogisticRegression(C=1e6).fit(torch.cat(logits)[:, None].numpy(), right, weights)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    linear = linear_of(model)
    model.set_head(slope * linear.weight.detach(), slope * linear.bias.detach() + shift)
    return slope, shift


def linear_of(model: AST) -> nn.Linear:
    return model.head.linear  # pyright: ignore[reportAttributeAccessIssue, reportReturnType]


def raise_rare(model: AST, mean: Tensor) -> float:
    """Raise the logit of every tag by the part of -log of its mean, (tags,), that names most
    household sounds (logit adjustment, Menon et al. 2021); the part."""
    linear = linear_of(model)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    rarity = -mean.clamp_min(RAREST).log()
    named = {}
    for part in PARTS:
        model.set_head(weight, bias + part * rarity)
        named[part] = on_household(model)
        typer.echo(f"part {part:.1f}: {named[part]:.1%} of household sounds named")
    best = max(PARTS, key=lambda part: named[part])
    model.set_head(weight, bias + best * rarity)
    return best


def evaluate(model: AST) -> dict[str, float]:
    """Agreement with the teacher on the test packages, names of the gallery and of household
    sounds, and what is left of the first and the last without the experts."""
    names = tag_names()
    precision, metrics = on_test_packages(model)
    by_itself = share(weights.load("ast-small").model)  # the same head, and no mixture
    by_itself.reset_head(TAGS)
    by_itself.set_head(linear_of(model).weight, linear_of(model).bias)
    by_itself.eval()
    found = []
    for stem, accepted in ACCEPTED.items():
        sound = load(next((weights.ASSETS / "examples").glob(f"{stem}.*"))).waveform
        said = tag_probabilities(model, [sound])[0]
        title = headline(names, said, sound, multilabel=True)
        first = [names[i] for i in said.topk(3).indices.tolist()]
        wider = frozenset().union(*map(ancestors, accepted))
        right = not set(accepted).isdisjoint(title.labels)
        true = right or not wider.isdisjoint(title.labels)
        named = not set(accepted).isdisjoint(first)
        found.append((named, right, title.sure and right, title.sure and not true))
        typer.echo(f"{stem}: {title} ({', '.join(first)})")
    in_first, heard, right, wrong = (sum(column) for column in zip(*found, strict=True))
    top3, loudest = on_esc10(model)
    return {
        "household_top3": on_household(model),
        **metrics,
        "mean_average_precision": precision,
        "mean_average_precision_without_experts": on_test_packages(by_itself)[0],
        "household_top3_without_experts": on_household(by_itself),
        "gallery_top3": in_first / len(ACCEPTED),
        "gallery_headline_right": right / len(ACCEPTED),
        "gallery_headline_right_or_guessed": heard / len(ACCEPTED),
        "gallery_headline_wrong": wrong / len(ACCEPTED),
        "esc10_top3": top3,
        "esc10_loudest": loudest,
    }


def on_test_packages(model: AST) -> tuple[float, dict[str, float]]:
    """Mean average precision; how it was counted, how often the model's first tag is among the
    teacher's first five, and how many of the tags shown at about 70 % the teacher hears."""
    corpus, rows = read()
    heard = corpus_tags(workers=1)
    chosen = [
        i
        for i, row in enumerate(rows)
        if row["package"] in TEST_PACKAGES and int(row["samples"]) >= SHORTEST * 16_000
    ]
    ours = tag_probabilities(model, (clip_of(corpus, rows[i]) for i in chosen))
    theirs = torch.from_numpy(heard[chosen].astype(np.float32))
    best = ours.argmax(dim=1, keepdim=True)
    present = (theirs >= PRESENT).long()
    counted = present.sum(dim=0) >= FEWEST
    precision = multilabel_average_precision(
        ours[:, counted], present[:, counted], int(counted.sum()), average="macro"
    )
    shown = (ours >= SHOWN[0]) & (ours < SHOWN[1])
    return float(precision), {
        "clips": len(chosen),
        "tags_counted": int(counted.sum()),
        "top1_in_teachers_top5": (theirs.topk(5).indices == best).any(dim=1).double().mean().item(),
        "heard_of_those_shown_at_70": present[shown].double().mean().item(),
    }


def on_esc10(model: AST) -> tuple[float, float]:
    """Share of the clips of ESC-10 with a tag of their class among the first three, and with the
    loudest of all classes' tags; the model was trained on none of them."""
    names, task = tag_names(), tasks.load("esc10")
    classes = [[names.index(tag) for tag in ESC10[label]] for label in task.labels]
    said = tag_probabilities(model, (load(file.path).waveform for file in task.files))
    labels = torch.tensor([file.label for file in task.files])
    first = said.topk(3).indices.tolist()
    named = [
        not set(classes[label]).isdisjoint(tags)
        for label, tags in zip(labels.tolist(), first, strict=True)
    ]
    loudest = torch.stack([said[:, tags].amax(dim=1) for tags in classes], dim=1).argmax(dim=1)
    return sum(named) / len(named), (loudest == labels).double().mean().item()


def write_results(m: dict[str, float]) -> None:
    """m: what `evaluate` found."""
    rows = {
        "top tag is among the teacher's five": f"{m['top1_in_teachers_top5']:.1%}",
        "mean average precision": f"{m['mean_average_precision']:.3f}; without the experts "
        f"{m['mean_average_precision_without_experts']:.3f}",
        "of tags shown at 60 to 80 %, the teacher hears": f"{m['heard_of_those_shown_at_70']:.1%}",
        "household, a right tag in the first three": f"{m['household_top3']:.1%}; without the "
        f"experts {m['household_top3_without_experts']:.1%}",
        "gallery, a right tag in the first three": f"{m['gallery_top3']:.1%}",
        "gallery, headline right; right or among its guesses; wrong": (
            f"{m['gallery_headline_right']:.1%}; {m['gallery_headline_right_or_guessed']:.1%}; "
            f"{m['gallery_headline_wrong']:.1%}"
        ),
        "ESC-10, a right tag in the first three": f"{m['esc10_top3']:.1%}",
        "ESC-10, among ten": f"{m['esc10_loudest']:.1%}",
    }
    about = (
        "Written by `python -m analysis.pretraining.train_tags`, on sounds that the bundle was "
        "never trained on; one seed. The first three rows: "
        f"{m['clips']:g} clips of {SHORTEST:g} s at least, of {len(TEST_PACKAGES)} packages; the "
        f"precision is the mean over the {m['tags_counted']:g} tags to which YAMNet gives "
        f"{PRESENT:g} or more on at least {FEWEST} clips. Household: 18 folders of noise-of-life, "
        "by which the raise of rare tags was chosen and the probabilities were calibrated. "
        f"Gallery: {len(ACCEPTED)} clips of `assets/examples`; a headline that is sure of a wider "
        "kind alone is neither right nor wrong. ESC-10: all 400 clips; among ten: of the tags of "
        "all ten classes the right one is the loudest. Without the experts: the same head on the "
        "backbone alone."
    )
    table = tables.markdown(["measure", "`tags`"], rows.items())
    RESULTS.write_text(tables.page("The bundle `tags`", about, table))


def main(
    begin: Annotated[
        Path | None, typer.Option("--from", help="a bundle to go on with; default: a fresh one")
    ] = None,
    minutes: Annotated[float, typer.Option(help="of training; 0: the head alone")] = 40,
    rate: Annotated[float, typer.Option(help="highest learning rate")] = 3e-4,
    seed: int = 0,
    only: Annotated[bool, typer.Option("--evaluate", help="measure the bundle there is")] = False,
) -> None:
    """Train, write the bundle, measure."""
    base = weights.load("ast-small")
    if only:
        return write_results(evaluate(bundle.load(OUT, base)[0]))
    torch.manual_seed(seed)
    shards = shards_of(scene_folder())
    batches = Batches(Scenes(shards[HELD_OUT_SHARDS:]), seed=seed)
    drawn = sounds(batches, Clips(corpus_tags(workers=1)))
    model = started(base, begin)
    if begin is None:
        solve_head(model, drawn, anew=True)
    if minutes:
        train(model, drawn, Scenes(shards[:HELD_OUT_SHARDS]), minutes, rate)
    part = raise_rare(model, solve_head(model, drawn))
    slope, shift = calibrate(model)
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
        notes=f"YAMNet's tags, {minutes:g} minutes, lr {rate:g}; rare tags raised by {part:g} of "
        f"-log of their mean, then logits times {slope:.2f} plus {shift:.2f}",
    )
    save_half(trained_state(model), info)
    write_results(metrics)


if __name__ == "__main__":
    typer.run(main)
