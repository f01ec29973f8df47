"""Fine-tuning methods: what each plugs into the encoder's slots, and what it trains.

A method is a row in METHODS; one file holds one family. `attach` is the only way in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from softmoa.ast import AST
from softmoa.methods import adapters, base_weights, lora, mixtures, tokens
from softmoa.methods.beside import FINAL_NORM, norms_beside
from softmoa.seeding import seeded

Family = Literal["Base weights", "Low rank", "Tokens", "Adapters", "Mixtures"]
PETL_AST = "arXiv 2312.03694"  # the paper whose single methods these are, for the AST
SOFT_MOA = "arXiv 2402.00828"


def nothing(options: Any) -> tuple[str, ...]:
    """No weight of the encoder trains."""
    del options
    return ()


def final_norm(options: Any) -> tuple[str, ...]:
    """The final norm trains, as in the papers, with whatever is plugged in."""
    del options
    return (FINAL_NORM,)


@dataclass(frozen=True)
class Method:
    """One fine-tuning method.

    about: one plain sentence for those who choose. paper: where its options come from.
    options: the frozen dataclass of its options, with the paper's defaults.
    plug(model, options): fill the slots with freshly initialised modules.
    trains(options): substrings of the names of base weights that train too, as `.ln_attn.`.
    learning_rate: the paper's, for AdamW and runs of many epochs.
    short_rate: for AdamW and runs of a few epochs from a warm head, which the papers' rates tear
        apart; chosen by `python -m analysis.tune_rates` (analysis/results/rates.md) among the same
        factors for all.
    sizes: the options that decide how many weights it trains, the first before the second.
    identity_at_start: whether a freshly attached method leaves the encoder's output unchanged.
    """

    name: str
    title: str
    family: Family
    about: str
    paper: str
    options: type
    plug: Callable[[AST, Any], None]
    trains: Callable[[Any], tuple[str, ...]]
    learning_rate: float
    short_rate: float
    sizes: tuple[str, ...] = ()
    identity_at_start: bool = True


METHODS = {
    method.name: method
    for method in (
        Method(
            name="linear",
            title="Linear probe",
            family="Base weights",
            about="Trains only a linear layer on the frozen encoder's features.",
            paper=PETL_AST,
            options=base_weights.LinearOptions,
            plug=base_weights.plug_nothing,
            trains=nothing,
            learning_rate=1e-3,
            short_rate=1e-4,
        ),
        Method(
            name="full",
            title="Full fine-tuning",
            family="Base weights",
            about="Trains every weight of a copy of the encoder.",
            paper=PETL_AST,
            options=base_weights.FullOptions,
            plug=base_weights.plug_nothing,
            trains=lambda options: base_weights.EVERYTHING,
            learning_rate=5e-5,
            short_rate=1.5e-5,
        ),
        Method(
            name="bitfit",
            title="BitFit",
            family="Base weights",
            about="Trains only the biases of the encoder.",
            paper="arXiv 2106.10199",
            options=base_weights.BitFitOptions,
            plug=base_weights.plug_nothing,
            trains=lambda options: base_weights.BIASES,
            learning_rate=5e-3,
            short_rate=5e-4,
        ),
        Method(
            name="lora",
            title="LoRA",
            family="Low rank",
            about="Adds a small low-rank correction to projections of the attention.",
            paper="arXiv 2106.09685",
            options=lora.LoRAOptions,
            plug=lora.plug_lora,
            trains=final_norm,
            learning_rate=5e-3,
            short_rate=5e-3,
            sizes=("rank",),
        ),
        Method(
            name="shallow-prompt",
            title="Prompt tuning, shallow",
            family="Tokens",
            about="Adds trained tokens to the sequence before the first layer.",
            paper="arXiv 2203.12119",
            options=tokens.ShallowPromptOptions,
            plug=tokens.plug_shallow_prompts,
            trains=final_norm,
            learning_rate=1e-2,
            short_rate=1e-2,
            sizes=("length",),
            identity_at_start=False,
        ),
        Method(
            name="deep-prompt",
            title="Prompt tuning, deep",
            family="Tokens",
            about="Adds fresh trained tokens to the sequence before every layer.",
            paper="arXiv 2203.12119",
            options=tokens.DeepPromptOptions,
            plug=tokens.plug_deep_prompts,
            trains=final_norm,
            learning_rate=1e-2,
            short_rate=3e-3,
            sizes=("length",),
            identity_at_start=False,
        ),
        Method(
            name="prefix",
            title="Prefix tuning",
            family="Tokens",
            about="Adds trained keys and values to the attention of every layer.",
            paper="arXiv 2101.00190",
            options=tokens.PrefixOptions,
            plug=tokens.plug_prefix,
            trains=final_norm,
            learning_rate=1e-2,
            short_rate=3e-3,
            sizes=("length",),
            identity_at_start=False,
        ),
        Method(
            name="adapter",
            title="Bottleneck adapter",
            family="Adapters",
            about="Adds one small network beside a sublayer of every layer.",
            paper=PETL_AST,
            options=adapters.AdapterOptions,
            plug=adapters.plug_adapter,
            trains=norms_beside,
            learning_rate=5e-3,
            short_rate=5e-3,
            sizes=("reduction",),
        ),
        Method(
            name="conv-adapter",
            title="Convolutional adapter",
            family="Adapters",
            about="Adds one small network that also listens to neighbouring patches.",
            paper=PETL_AST,
            options=adapters.ConvAdapterOptions,
            plug=adapters.plug_conv_adapter,
            trains=norms_beside,
            learning_rate=5e-3,
            short_rate=5e-3,
            sizes=("reduction",),
        ),
        Method(
            name="dense-moa",
            title="Dense-MoA",
            family="Mixtures",
            about="Adds several adapters; every patch is answered by all of them, by its gates.",
            paper=SOFT_MOA,
            options=mixtures.DenseMoAOptions,
            plug=mixtures.plug_dense_moa,
            trains=norms_beside,
            learning_rate=5e-3,
            short_rate=1.5e-3,
            sizes=("reduction", "experts"),
        ),
        Method(
            name="topk-moa",
            title="Top-k MoA",
            family="Mixtures",
            about="Adds several adapters; every patch is answered by its best one or two only.",
            paper="arXiv 2101.03961",
            options=mixtures.TopKMoAOptions,
            plug=mixtures.plug_topk_moa,
            trains=norms_beside,
            learning_rate=5e-3,
            short_rate=5e-4,
            sizes=("reduction", "experts"),
        ),
        Method(
            name="soft-moa",
            title="Soft-MoA",
            family="Mixtures",
            about="Adds several adapters; each reads a blend of all patches, and answers to all.",
            paper=SOFT_MOA,
            options=mixtures.SoftMoAOptions,
            plug=mixtures.plug_soft_moa,
            trains=norms_beside,
            learning_rate=5e-3,
            short_rate=1.5e-3,
            sizes=("reduction", "experts"),
        ),
    )
}


def attach(model: AST, name: str, options: Any, classes: int, seed: int = 0) -> None:
    """Freeze `model`, plug the method in, give it a fresh zero head and mark what trains.

    Raises ValueError if there is no such method, if its options are of another type, or if the
    model already carries a method. The same seed plugs in the same weights.

    Frozen weights may be shared with other models (see `share`): a base weight that trains is
    copied first, so that no method can reach another's.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method '{name}'; there are {', '.join(METHODS)}.")
    method = METHODS[name]
    if not isinstance(options, method.options):
        raise ValueError(f"'{name}' takes {method.options.__name__}, not {type(options).__name__}")
    if model.method:
        raise ValueError(f"The model already carries the method '{model.method}'")
    model.method = name
    model.requires_grad_(False)
    with seeded(seed):
        method.plug(model, options)
        model.reset_head(classes)
    model.to(model.cls.device, model.cls.dtype)
    for part in method.trains(options):
        for key, weight in list(model.named_parameters()):
            if part in f".{key}":
                owner, _, name = key.rpartition(".")
                own = nn.Parameter(weight.detach().clone())
                setattr(model.get_submodule(owner), name, own)


def share(model: AST) -> AST:
    """A copy of a bare encoder to plug a method into; all weights are shared with the original."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def trained_state(model: AST) -> dict[str, Tensor]:
    """The tensors a method trains, by our own names: what a bundle keeps."""
    return {key: w.detach() for key, w in model.named_parameters() if w.requires_grad}


def trained_parameters(model: AST, head: bool = False) -> int:
    """Number of trained parameters as the papers count: without the head and the final norm.

    BitFit at the base size is 102,144 by this count, and 102,912 with the final norm's bias.
    """
    return sum(
        weight.numel()
        for key, weight in trained_state(model).items()
        if head or not key.startswith(("head.", "ln."))
    )
