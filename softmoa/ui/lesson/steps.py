"""What each step of the lesson shows for its controls, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

import pandas as pd
import plotly.graph_objects as go
import torch

from softmoa.data import audio
from softmoa.lens.ablation import causal_contribution
from softmoa.lens.balance import METRICS, MixtureBalance, dead_experts, effective_experts
from softmoa.lens.classifier import bundles, open_classifier
from softmoa.lens.classify import Classification, classify
from softmoa.lens.contribution import expert_contribution, expert_norms
from softmoa.methods.bundle import read_info
from softmoa.model.ast import SPECIAL_TOKENS, ASTConfig, Block
from softmoa.model.moa import Experts, SoftRouter
from softmoa.model.recording import LayerRecord, mixtures
from softmoa.model.weights import load_backbone
from softmoa.plots import lesson as plots
from softmoa.plots.style import EXPERTS
from softmoa.ui.backbones import bundle_title
from softmoa.ui.checks import refuse
from softmoa.ui.drawing import meter
from softmoa.ui.examples import gallery
from softmoa.ui.lesson import by_hand, collapse
from softmoa.ui.lesson.quiz import Question

BACKBONE = "ast-small"  # whose sizes the counts are of
DEPTH, WIDTHS = 6, (384, ASTConfig().width)  # of that backbone; its width and the published one's
SLOTS = ("slot 1", "slot 2", "slot 3")
Series = dict[str, list[collapse.Point]]  # of each kind of router, the points so far


def soft_bundles() -> dict[str, str]:
    """Title -> name of the bundles with a soft mixture on the embedded backbone."""
    infos = {name: read_info(path) for name, path in bundles().items()}
    soft = [n for n, i in infos.items() if i.method == "soft-moa" and i.base == BACKBONE]
    return {bundle_title(infos[name]): name for name in soft}


def expert(width: int, narrow: int) -> tuple[go.Figure, str]:
    """An adapter of this shape, and what it has beside a frozen block of the same width."""
    with torch.device("meta"):
        adapter = _parameters(Experts(width, 1, narrow))
        block = _parameters(Block(ASTConfig(width=width, heads=width // 64, mlp=4 * width)))
    words = (
        f"One adapter trains **{adapter:,}** numbers, {adapter / block:.2%} of the "
        f"{block:,} of the frozen block beside it. Its reduction rate, width over middle, is "
        f"{width / narrow:g}."
    )
    return plots.bottleneck(width, narrow), words


def kinds(seed: int, sharpness: float) -> list[go.Figure]:
    """Routing logits, and what three routers make of them: the weights of the answers for dense and
    top-1, the mixture in each slot and the weights of the answers for soft."""
    logits = by_hand.drawn_logits(int(seed), sharpness)
    shown = [logits]
    for kind in ("dense", "top-1", "soft"):
        dispatch, combine = (w[0].flatten(1) for w in by_hand.route(logits, kind).per_slot())
        shown += [dispatch, combine] if kind == "soft" else [combine]
    columns = [f"E{j + 1}" for j in range(logits.shape[1])]
    return [plots.matrix(x, by_hand.TOKENS, columns, tint=x is not logits) for x in shown]


def hand(logits: list[list[float]]) -> list[go.Figure]:
    """Every number of one soft pass over the four tokens, in the order of computing."""
    set_by_hand = torch.tensor(logits)
    result = by_hand.soft_by_hand(set_by_hand)
    factors = [f"E{j + 1} × {factor:g}" for j, factor in enumerate(by_hand.FACTORS)]
    values = ("loudness", "height")
    return [
        plots.matrix(set_by_hand, by_hand.TOKENS, SLOTS, tint=False),
        plots.matrix(by_hand.VALUES, by_hand.TOKENS, values, tint=False),
        plots.matrix(result.dispatch, by_hand.TOKENS, SLOTS),
        plots.matrix(result.mixed, SLOTS, values, tint=False),
        plots.matrix(result.answers, factors, values, tint=False),
        plots.matrix(result.combine, by_hand.TOKENS, SLOTS),
        plots.matrix(result.outputs, by_hand.TOKENS, values, tint=False),
    ]


def numbers(logits: list[list[float]]) -> dict[str, str]:
    """What each part of the diagram holds in that pass, as tables in HTML."""
    _, tokens, dispatch, _, answers, combine, outputs = hand(logits)
    parts = dict(patches=tokens, dispatch=dispatch, experts=answers, combine=combine, add=outputs)
    tables = {}
    for name, figure in parts.items():
        (of,) = figure.select_traces()
        table = pd.DataFrame(of.z, of.y, of.x)  # pyright: ignore
        tables[name] = table.to_html(border=0, float_format="{:.2f}".format)
    return tables


def train(seed: int, balanced: bool, every: int = 8) -> Iterator[Series]:
    """Two routers learn the toy task side by side; all points so far, every few steps."""
    runs: tuple[collapse.Kind, ...] = ("top-1, balanced" if balanced else "top-1", "soft")
    series: Series = {run: [] for run in runs}
    for points in zip(*(collapse.train(run, int(seed)) for run in runs), strict=True):
        for run, point in zip(runs, points, strict=True):
            series[run].append(point)
        if points[0].step % every == 0:
            yield series


def at_step(series: Series, step: int) -> list[str | go.Figure]:
    """Of each kind of router, what is to say after so many steps, and the shares up to there."""
    shown: list[str | go.Figure] = []
    for name, points in series.items():
        now = points[step - 1]
        line = (
            f"**{name}**, step {now.step}: {dead_experts(now.share)} dead, "
            f"{effective_experts(now.share):.1f} effective experts, loss {now.loss:.2f}"
        )
        shares = torch.stack([point.share for point in points[:step]])
        shown += [line, plots.shares(shares, collapse.STEPS)]
    return shown


def even(bundle: str, clip: str, layer: int) -> tuple[str, go.Figure, list[list[str]]]:
    """How even one layer is on one clip: a sentence, bars, and every metric with its reading."""
    result, record = heard(bundle, clip, layer)
    router = mixtures(result.classifier.model)[record.place].router
    balance = MixtureBalance.of(record, router.phi)
    n = len(balance.share)
    sums = record.routing.per_slot()[0][0].sum(dim=0)
    words = (
        f"{clip}, layer {record.layer + 1}, beside {record.site.upper()}: "
        f"**{meter([balance.share])}**. The dispatch weights of each slot sum to "
        f"{sums.min():.4f} to {sums.max():.4f}."
    )
    series = {"share (combine)": balance.share, "choices": balance.load}
    figure = plots.bars([f"E{j + 1}" for j in range(n)], series, EXPERTS[:n], even=1 / n)
    values = ((metric, metric.value(balance)) for metric in METRICS)
    table = [
        [metric.name, f"{value:.3g}", metric.reading.replace("N", str(n))]
        for metric, value in values
        if value is not None
    ]
    return words, figure, table


def counts(experts: int, slots: int, seconds: float) -> tuple[str]:
    """What n experts of p slots cost, counted on modules of the backbone's width."""
    config = load_backbone(BACKBONE).model.config
    with torch.device("meta"):
        adapters = _parameters(Experts(config.width, experts, config.width // 32))
        phi = _parameters(SoftRouter(config.width, experts, slots))
    frames = audio.frames_in(int(seconds * audio.SAMPLE_RATE))
    tokens = SPECIAL_TOKENS + config.bands * config.columns(frames)
    return (
        f"""One mixture of the embedded backbone's width:
- **{experts * slots:,}** slots in all, n p: what the experts read, *soft*; an equal share is \
{1 / (experts * slots):.3f}
- **{tokens:,}** tokens of the sound: what they read under *top-1*
- **{tokens * experts:,}** tokens × n: what they read, *dense*
- **{adapters:,}** trained numbers of the experts and **{phi:,}** of φ""",
    )


def next_that_matters(bundle: str, clip: str) -> tuple[str, int]:
    """The next clip of a bundle's gallery at which switching off the loudest expert of some layer
    moves the probability of the first label by a point or more, and that layer, from 1."""
    clips = list(gallery(bundle))
    at = clips.index(clip) if clip in clips else 0
    for other in (*clips[at + 1 :], *clips[: at + 1]):
        layer, points = _what_matters(bundle, other)
        if points >= 1:
            break
    return other, layer


@cache
def _what_matters(bundle: str, clip: str) -> tuple[int, float]:
    """The layer, from 1, whose loudest expert matters most, and its points of probability."""
    result, _ = heard(bundle, clip, 1)
    effect = causal_contribution(result.classifier.model, result.mel)
    loudest = torch.cat([expert_contribution(record) for record in result.records]).argmax(dim=1)
    logits = (effect.logits + effect.delta)[range(len(loudest)), loudest]
    first = int(result.logits.argmax())
    change = result.classifier.probabilities(logits)[:, first] - result.probabilities[first]
    most = int(change.abs().argmax())
    return result.records[most].layer + 1, 100 * change[most].abs().item()


def reveal(question: Question, bundle: str, clip: str, layer: int, guess: int):
    """Whether a guess is right, and the figure of the answer."""
    answer = question.answer(*heard(bundle, clip, layer))
    wrong = f"**Not this time.** Right is: {question.choices[answer.right]}."
    judged = "**Right.**" if guess == answer.right else wrong
    return f"{judged} {answer.sentence}", answer.figure


def measure(bundle: str, clip: str) -> tuple[str, go.Figure]:
    """Length of what every expert adds against what its removal does to the first label's logit."""
    from scipy.stats import spearmanr  # half a second to import

    result, _ = heard(bundle, clip, 1)
    target = int(result.logits.argmax())
    effect = causal_contribution(result.classifier.model, result.mel).delta[..., target].abs()
    loud = torch.cat([expert_norms(record) for record in result.records])
    rank = int((effect > effect.flatten()[loud.argmax()]).sum()) + 1
    words = (
        f"The loudest expert is number {rank} of {effect.numel()} by what its removal changes. "
        "Rank correlation, over all experts of all layers, between the mean length of what an "
        "expert adds and the size of the change of the class logit: "
        f"**{spearmanr(loud.flatten(), effect.flatten())[0]:.2f}** (1: the louder voice always "
        "matters more; 0: loudness tells nothing). "
        f"Clip: {clip}; class: {result.classifier.labels[target]}."
    )
    across, up = "mean length of what it adds", "size of the change of the class logit"
    return words, plots.points(loud, effect, across, up)


def heard(bundle: str, clip: str, layer: int) -> tuple[Classification, LayerRecord]:
    """A clip of a bundle's gallery, the first for one that was chosen for another bundle, and the
    record of a layer, from 1."""
    if bundle not in bundles():
        raise refuse("Choose a bundle from the list.")
    result = _classified(bundle, clip)
    return result, result.records[min(layer, len(result.records)) - 1]


@lru_cache(maxsize=64)
def _classified(bundle: str, clip: str) -> Classification:
    clips = gallery(bundle)
    return classify(open_classifier(bundle), clips.get(clip, next(iter(clips.values()))))


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
