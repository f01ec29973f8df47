"""Training steps: Soft-MoA against its naive form and a single adapter, LoRA against peft."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.bench.measure import Result, Setting, equal, in_turns, of_a_product
from analysis.bench.naive import make_naive
from analysis.bench.peers import base_pair
from softmoa.data import audio
from softmoa.methods import METHODS, attach, share
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.methods.lora import LoRAOptions
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.model import ast, weights
from softmoa.model.ast import AST
from softmoa.model.moa import MoA
from softmoa.model.precision import Precision, autocast

SECONDS = 5
CLASSES = 10


def train(setting: Setting) -> list[Result]:
    return [
        _soft_moa(setting),
        _against_an_adapter(setting),
        *_lora(setting),
        *_products(setting, "ast-small"),
        *_products(setting, "base size"),
    ]


def _products(setting: Setting, size: str) -> list[Result]:
    """A Soft-MoA step against one product with as many operations as all of its products."""
    base = (
        weights.load("ast-small").model.to(setting.device)
        if size == "ast-small"
        else base_pair(setting.device)[0]
    )
    clips, labels = _clips(setting)
    mel = _log_mels(clips)
    rows = []
    kinds: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    for precision, kind in kinds.items():
        model = share(base)
        attach(model, "soft-moa", SoftMoAOptions(), CLASSES)
        step = _stepper(setting, model, lambda: mel, labels, precision)
        with FlopCounterMode(display=False) as counted:
            step()
        work = counted.get_total_flops()
        what = f"training step, {size}, {precision}, {work / 1e9:.0f} GFLOP"
        rows.append(of_a_product(setting, what, work, step, kind, 2048))
    return rows


def _clips(setting: Setting) -> tuple[list[Tensor], Tensor]:
    """Waveforms and their labels."""
    generator = torch.Generator().manual_seed(0)
    count = 16 if setting.device.type == "cuda" else 2
    clips = [
        0.1 * torch.randn(SECONDS * audio.SAMPLE_RATE, generator=generator) for _ in range(count)
    ]
    return clips, torch.arange(count, device=setting.device) % CLASSES


def _log_mels(clips: list[Tensor]) -> Tensor:
    return torch.stack([audio.log_mel(clip) for clip in clips])


def _stepper(
    setting: Setting,
    model: nn.Module,
    inputs: Callable[[], Tensor],
    labels: Tensor,
    precision: Precision,
) -> Callable[[], None]:
    """One step of AdamW on what trains in the model."""
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], 1e-3)
    model.train()

    def step() -> None:
        mel = inputs().to(setting.device)
        with autocast(model, precision):
            out = model(mel)
            logits = out if isinstance(out, Tensor) else out.logits
            loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _soft_moa(setting: Setting) -> Result:
    base, _ = base_pair(setting.device)
    clips, labels = _clips(setting)
    ours = share(base)
    attach(ours, "soft-moa", SoftMoAOptions(), CLASSES)
    for block in ours.blocks:
        assert isinstance(block.beside_attn, MoA)
        # So that the layers take part.
        nn.init.normal_(block.beside_attn.experts.get_parameter("up"), std=0.02)
    naive = share(base)
    attach(naive, "soft-moa", SoftMoAOptions(), CLASSES)
    naive.load_state_dict(ours.state_dict())
    make_naive(naive)
    cached = _log_mels(clips)
    with torch.no_grad():
        tokens = [
            model.to(setting.device).features(cached.to(setting.device))[0]
            for model in (ours, naive)
        ]
    return in_turns(
        setting,
        f"training step, base size, Soft-MoA, {len(clips)} clips of {SECONDS} s, auto",
        "the same in fp32, naive layers, features recomputed",
        _stepper(setting, ours, lambda: cached, labels, "auto"),
        _stepper(setting, naive, lambda: _log_mels(clips), labels, "fp32"),
        0.5 if setting.device.type == "cpu" else 0.15,
        f"fp32: {equal(tokens[0], tokens[1], 1e-4)}",
    )


def _against_an_adapter(setting: Setting) -> Result:
    """On the embedded backbone, with as many trained weights."""
    base = weights.load("ast-small").model.to(setting.device)
    clips, _ = _clips(setting)
    mel = _log_mels(clips * 8)
    labels = torch.arange(len(mel), device=setting.device) % CLASSES
    options = SoftMoAOptions()
    trained = parameters_of(base.config, "soft-moa", options)
    matched = matched_options(base.config, "adapter", trained)

    def stepper(method: str, options: Any) -> Callable[[], None]:
        model = share(base)
        attach(model, method, options, CLASSES)
        return _stepper(setting, model, lambda: mel, labels, "auto")

    return in_turns(
        setting,
        f"training step, ast-small, Soft-MoA, {len(mel)} clips of {SECONDS} s, auto",
        "single adapter of as many weights",
        stepper("soft-moa", options),
        stepper("adapter", matched),
        1.15,
    )


def attention(setting: Setting) -> list[Result]:
    """Steps in bfloat16 by `ast.attend` and by torch's attention alone."""
    base = weights.load("ast-small").model.to(setting.device)
    rows = []
    for seconds in (0.4, 1.5, 5):
        mel = torch.randn(16, int(100 * seconds), 128, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(len(mel), device=setting.device) % CLASSES
        for method in ("soft-moa", "adapter"):
            model = share(base)
            attach(model, method, METHODS[method].options(), CLASSES)
            step = _stepper(setting, model, lambda mel=mel: mel, labels, "bf16")

            def by_torch(step: Callable[[], None] = step) -> None:
                with patch.object(ast, "SHORT", 0):
                    step()

            what = f"training step, ast-small, {method}, {len(mel)} clips of {seconds:g} s, bf16"
            rows.append(in_turns(setting, what, "the same by torch's attention", step, by_torch))
    return rows


def _lora(setting: Setting) -> list[Result]:
    """Same rank, targets and head; peft's own start (B = 0) leaves both models at the base."""
    from peft import LoraConfig, get_peft_model
    from transformers import ASTFeatureExtractor

    base, hub = base_pair(setting.device)
    clips, labels = _clips(setting)
    theirs = get_peft_model(
        copy.deepcopy(hub),
        LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]),
    )
    ours = _lora_on(base).to(setting.device)
    extract = ASTFeatureExtractor()
    padded = extract([c.numpy() for c in clips], audio.SAMPLE_RATE, return_tensors="pt")
    padded = padded["input_values"]
    own_length = _log_mels(clips)
    with torch.no_grad():
        mel = padded.to(setting.device)
        checked = f"fp32, both padded: {equal(ours(mel), theirs(mel).logits, 1e-4)}"
    cases: tuple[tuple[str, Tensor, Precision, float | None], ...] = (
        ("auto", own_length, "auto", 0.7 if setting.device.type == "cpu" else 0.5),
        ("padded to 1024 frames as theirs, fp32", padded, "fp32", None),
    )
    peer = _stepper(setting, theirs, lambda: padded, labels, "fp32")
    return [
        in_turns(
            setting,
            f"LoRA training step, base size, {len(clips)} clips of {SECONDS} s, {how}",
            "transformers with peft",
            _stepper(setting, ours, lambda mel=mel: mel, labels, precision),
            peer,
            target,
            checked,
        )
        for how, mel, precision, target in cases
    ]


def _lora_on(base: AST) -> AST:
    """peft's defaults (rank 8, alpha 8) on query and value, and the head trains."""
    model = share(base)
    attach(model, "lora", LoRAOptions(rank=8, alpha=8), 527)
    model.head, model.pooling = copy.deepcopy(base.head).requires_grad_(True), base.pooling
    return model
