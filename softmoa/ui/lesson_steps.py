"""What each step of the lesson shows for its controls: numbers computed here, drawn as figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest

import gradio as gr
import torch

from softmoa import audio, by_hand, collapse, plots
from softmoa.ablation import causal_contribution
from softmoa.ast import SPECIAL_TOKENS, ASTConfig, Block
from softmoa.balance import METRICS, MOST, Balance, dead_experts, effective_experts
from softmoa.bundle import read_info
from softmoa.classify import Classification, bundles, classify, load_backbone, open_classifier
from softmoa.contribution import expert_norms
from softmoa.moa import Experts, SoftRouter
from softmoa.plots import lesson as drawn
from softmoa.quiz import OTHER_LABEL, Question
from softmoa.ui.examples import example_clips
from softmoa.ui.texts import lesson as texts

BACKBONE = "ast-small"  # whose sizes the counts are of
EVERY = 5  # steps of training between two pictures


def soft_bundles() -> dict[str, str]:
    """Title -> name of the bundles with a soft mixture on an embedded backbone, those first that
    know most of the example clips by name."""
    infos = {name: read_info(path) for name, path in bundles().items()}
    clips = {clip.replace("_", " ") for clip in example_clips()}
    return {
        f"{info.task}: {info.method}, {len(info.labels)} labels": name
        for name, info in sorted(
            infos.items(), key=lambda item: len(clips & set(item[1].labels)), reverse=True
        )
        if info.method == "soft-moa" and info.base == BACKBONE
    }


def known_clip(clips: list[str], names: Iterable[str]) -> str:
    """The first clip that is named after a label of one of these bundles, or the first."""
    labels = {label for name in names for label in read_info(bundles()[name]).labels}
    return next((clip for clip in clips if clip.replace("_", " ") in labels), clips[0])


def depth() -> int:
    """Layers of the backbone the lesson is about."""
    return load_backbone(BACKBONE).model.config.depth


def widths() -> list[int]:
    """Token widths of that backbone and of the published one."""
    return [load_backbone(BACKBONE).model.config.width, ASTConfig().width]


def expert(width: int, narrow: int) -> str:
    """An adapter of this shape, and what it has beside a frozen block of the same width."""
    config = load_backbone(BACKBONE).model.config
    with torch.device("meta"):
        adapter = _parameters(Experts(width, 1, narrow))
        block = _parameters(Block(config)) if width == config.width else None
    rows = [("One adapter", f"{adapter:,} trained numbers")]
    if block:
        rows += [
            ("One frozen block of the backbone", f"{block:,}"),
            ("Adapter over block", f"{100 * adapter / block:.2f} %"),
        ]
    rows.append(("Reduction rate, width over middle", f"{width / narrow:g}"))
    return drawn.bottleneck(width, narrow) + drawn.facts("", ("what", "how many"), rows)


def kinds(seed: int, sharpness: float) -> str:
    """The same routing logits under three routers."""
    logits = by_hand.drawn_logits(int(seed), sharpness)
    experts = [f"E{j + 1}" for j in range(logits.shape[1])]
    tables = [
        drawn.table(
            logits, title="Routing logits", rows=by_hand.TOKENS, columns=experts, tinted=False
        )
    ]
    for kind in ("dense", "top-1", "soft"):
        routing = by_hand.route(logits, kind)
        dispatch, combine = (w[0].flatten(1) for w in routing.per_slot())
        works = by_hand.readings(kind)
        if kind == "soft":
            title = f"Soft, what a slot is mixed from: {works} slots are read"
            tables.append(
                drawn.table(
                    dispatch, title=title, rows=by_hand.TOKENS, columns=experts, total="columns"
                )
            )
        title = {
            "dense": f"Dense, weight of each answer: {works} readings",
            "top-1": f"Top-1, weight of the one answer: {works} readings",
            "soft": "Soft, weight of each answer",
        }[kind]
        tables.append(
            drawn.table(combine, title=title, rows=by_hand.TOKENS, columns=experts, total="rows")
        )
    return drawn.sheets(*tables)


def hand(logits: list[list[float]]) -> str:
    """Every number of one soft pass over the four tokens."""
    result = by_hand.soft_by_hand(torch.tensor(logits))
    n = result.logits.shape[1]
    slots, tokens = [f"slot {j + 1}" for j in range(n)], by_hand.TOKENS
    values = ("loudness", "height")
    weights = {"rows": tokens, "columns": slots}
    factors = [f"expert {j + 1}: × {factor:g}" for j, factor in enumerate(by_hand.FACTORS[:n])]
    plain = {"columns": values, "tinted": False}
    return drawn.sheets(
        drawn.table(torch.tensor(by_hand.VALUES), title="Tokens x", rows=tokens, **plain),
        drawn.table(result.dispatch, title="Dispatch D", total="columns", **weights),
        drawn.table(result.mixed, title="Slots x̃ = Dᵀx", rows=slots, **plain),
        drawn.table(result.answers, title="Answers ỹ", rows=factors, **plain),
        drawn.table(result.combine, title="Combine C", total="rows", **weights),
        drawn.table(result.outputs, title="What the tokens receive, y = Cỹ", rows=tokens, **plain),
    )


def checked_logits(event: gr.EventData, n: int) -> list[list[float]] | None:
    """The sliders' values as the page sends them, or None if they are not a matrix of such."""
    rows = (event._data or {}).get("logits")
    if not isinstance(rows, list) or len(rows) != len(by_hand.TOKENS):
        return None
    for row in rows:
        if not isinstance(row, list) or len(row) != n:
            return None
        if not all(isinstance(v, int | float) and -4 <= v <= 4 for v in row):
            return None
    return [[float(v) for v in row] for row in rows]


def train(seed: int, balanced: bool) -> Iterator[str]:
    """Two routers learn the toy task side by side; a picture every few steps."""
    runs: tuple[collapse.Kind, ...] = ("top-1, balanced" if balanced else "top-1", "soft")
    shares: dict[str, list[torch.Tensor]] = {run: [] for run in runs}
    nothing = torch.zeros(0, collapse.EXPERTS)
    yield drawn.share_curves(dict.fromkeys(runs, nothing), steps=collapse.STEPS)
    for points in zip_longest(*(collapse.train(run, int(seed)) for run in runs)):
        for run, point in zip(runs, points, strict=True):
            shares[run].append(point.share)
        if points[0].step % EVERY and points[0].step < collapse.STEPS:
            continue
        readings = {
            run: texts.LINE.format(
                step=point.step,
                dead=int(dead_experts(point.share)),
                effective=effective_experts(point.share).item(),
                loss=point.loss,
            )
            for run, point in zip(runs, points, strict=True)
        }
        stacked = {run: torch.stack(values) for run, values in shares.items()}
        yield drawn.share_curves(stacked, steps=collapse.STEPS, readings=readings)


def even(bundle: str, clip: str, layer: int) -> str:
    """How even one layer is on one clip: bars, and every metric with its reading."""
    result = classified(bundle, clip)
    record = result.records[min(layer, len(result.records)) - 1]
    phi = _phi(result, record.layer, record.site)
    balance = Balance.of(record, phi)
    sums = record.routing.per_slot()[0][0].sum(dim=0).flatten()
    bars = plots.expert_bars(
        {"share (combine)": balance.share, "choices": balance.load},
        title=f"{clip.replace('_', ' ')}, layer {record.layer + 1}, beside {record.site.upper()}",
    )
    rows = [
        (
            "Dispatch weight of each slot, summed",
            f"{sums.min():.4f} to {sums.max():.4f}",
            "1 by construction.",
        )
    ]
    rows += [
        (metric.name, f"{value:.3g}", metric.reading.replace("N", str(len(balance.share))))
        for metric in METRICS
        if (value := metric.value(balance)) is not None and math.isfinite(value)
    ]
    return bars + drawn.facts("Measured on this clip", ("measure", "value", "how to read it"), rows)


def counts(experts: int, slots: int, seconds: float) -> str:
    """What n experts of p slots cost, counted on modules of the backbone's width."""
    config = load_backbone(BACKBONE).model.config
    narrow = config.width // 32
    with torch.device("meta"):
        adapters = _parameters(Experts(config.width, experts, narrow))
        phi = _parameters(SoftRouter(config.width, experts, slots))
    frames = audio.frames_in(int(seconds * audio.SAMPLE_RATE))
    tokens = SPECIAL_TOKENS + config.bands * config.columns(frames)
    rows = [
        ("Slots in all, n p", f"{experts * slots}"),
        ("Equal share of a slot, 1 / (n p)", f"{1 / (experts * slots):.3f}"),
        (f"Trained numbers of the experts, {narrow} wide in the middle", f"{adapters:,}"),
        ("Trained numbers of φ", f"{phi:,}"),
        ("Tokens of the sound", f"{tokens:,}"),
        ("Readings of all experts, soft", f"{experts * slots:,}"),
        ("Readings of all experts, dense (tokens × n)", f"{tokens * experts:,}"),
    ]
    return drawn.slot_squares(experts, slots) + drawn.facts("", ("what", "how many"), rows)


def reveal(question: Question, bundle: str, clip: str, layer: int, guess: int | None) -> list[str]:
    """The sentence and the figure that answer a guess; empty without one."""
    if guess is None:
        return [texts.REVEAL_FIRST, ""]
    result = classified(bundle, clip)
    record = result.records[min(layer, len(result.records)) - 1]
    answer = question.answer(result, record)
    right = question.right(answer.value)
    verdict = texts.RIGHT if guess == right else texts.WRONG.format(choice=question.choices[right])
    reading = question.reading.format(value=answer.value)
    if answer.value == OTHER_LABEL:
        labels = result.classifier.labels
        before, after = (labels[int(p.argmax())] for p in answer.shown)
        reading = texts.OTHER_LABEL.format(before=before, after=after)
    return [f"{verdict} {reading}", _picture(question, result, answer.shown, layer)]


def _picture(question: Question, result: Classification, shown: torch.Tensor, layer: int) -> str:
    if question.name == "loud":
        return plots.overlay(
            result.mel,
            shown,
            result.grid,
            title=f"What the slots of layer {layer} read, on average",
            unit="times an even spread",
            uniform=1.0,
        )
    if question.name == "tokens":
        title = f"Dispatch weight carried by the strongest tokens; dashed: {100 * MOST:.0f} %"
        return drawn.carried(shown, part=MOST, title=title)
    best = result.probabilities.argsort(descending=True)[:4].tolist()
    best = list(dict.fromkeys([*best, int(shown[1].argmax())]))
    pairs = [(result.classifier.labels[i], shown[0, i].item(), shown[1, i].item()) for i in best]
    names = ("as it is", "expert off" if question.name == "off" else "20 dB quieter")
    return drawn.before_after(pairs, title="Probabilities", names=names)


def measure(bundle: str, clip: str) -> list[str]:
    """Length of what every expert adds against what its removal does to the first label's logit."""
    result = classified(bundle, clip)
    target = int(result.probabilities.argmax())
    effect = causal_contribution(result.classifier.model, result.mel).delta[..., target].abs()
    loud = torch.cat([expert_norms(record) for record in result.records])
    sentence = texts.RANKS.format(
        value=rank_correlation(loud.flatten(), effect.flatten()),
        clip=clip.replace("_", " "),
        label=result.classifier.labels[target],
    )
    figure = drawn.scatter(
        loud,
        effect,
        title="Is a loud expert one that matters?",
        across=texts.ACROSS,
        up=texts.UP,
    )
    return [sentence, figure]


def rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's: the correlation of the ranks of (k,) and (k,), which hold no ties."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


@lru_cache(maxsize=64)
def classified(bundle: str, clip: str) -> Classification:
    """An example clip under a bundle; the names come from the page and are checked."""
    if bundle not in bundles() or clip not in example_clips():
        raise gr.Error(texts.NO_SUCH, print_exception=False)
    return classify(open_classifier(bundle), example_clips()[clip])


def _phi(result: Classification, layer: int, site: str) -> torch.Tensor:
    block = result.classifier.model.blocks[layer]
    moa = block.beside_attn if site == "mhsa" else block.beside_mlp
    return moa.router.phi  # type: ignore[union-attr]


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
