"""The Audio Spectrogram Transformer (Gong et al. 2021, arXiv 2104.01778), with empty slots.

    mel (b, frames, 128) -> patches -> cls, dist, patch tokens -> blocks -> pool -> head -> logits

A fine-tuning method never changes or subclasses this encoder: it fills slots, which start out
as None, with modules of its own. The slots, by owner:

    Linear.delta          delta(x, y), added to the projection y of x    (LoRA, DoRA, SSF, (IA)3)
    Attention.prefix      prefix(b) -> extra keys and values                    (prefix tuning)
    Block.beside_attn     beside(h, mask), parallel to attention                (adapters, MoA)
    Block.beside_mlp      beside(h, mask), parallel to the MLP                  (adapters, MoA)
    AST.prompts           prompts(x, mask, layer) -> (x, mask), before a block  (prompt tuning)
                          may append tokens, which are dropped behind the last block

Axes: b clips, m tokens, d width, h heads. Patch tokens run frequency-major behind the two
special tokens: token 2 + f * columns + t is band f (lowest first) at time column t.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from softmoa.data.audio import AUDIOSET_MEAN, AUDIOSET_STD, FrontEnd

Frames = Tensor | Sequence[int] | None  # of each clip of a batch; None: all are of full length
SPECIAL_TOKENS = 2  # class and distillation token
SHORT = 256  # tokens


@dataclass(frozen=True)
class ASTConfig:
    """Size and conventions of an encoder; the defaults are the published base model."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    stride_frequency: int = 10
    stride_time: int = 10
    mels: int = 128
    max_frames: int = 1024  # of the position grid; other lengths cut or interpolate it
    classes: int = 527  # 0: no head, the model returns the pooled features
    pool: Literal["special", "mean"] = "special"  # (cls + dist) / 2, or mean of all real tokens
    head_norm: bool = True
    eps: float = 1e-12
    mean: float = AUDIOSET_MEAN  # of the log-mels it was trained on
    std: float = AUDIOSET_STD

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def bands(self) -> int:
        """Patches along frequency."""
        return (self.mels - self.patch) // self.stride_frequency + 1

    @property
    def front_end(self) -> FrontEnd:
        return FrontEnd(self.mels, self.mean, self.std)

    def columns(self, frames: int) -> int:
        """Patches along time of so many frames, none below one patch.

        The end of a clip that fills no patch gets one of its own, filled up with zeros: a spoken
        digit has 40 frames. From the checkpoint's longest clip on it is left out, as AST does.
        """
        if frames < self.patch:
            return 0
        whole, rest = divmod(frames - self.patch, self.stride_time)
        longest = (self.max_frames - self.patch) // self.stride_time
        return whole + 1 + (rest > 0 and whole < longest)


class Linear(nn.Linear):
    """nn.Linear with the slot `delta`."""

    SLOTS = ("delta",)
    delta: nn.Module | None

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.register_module("delta", None)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.delta is None else y + self.delta(x, y)


class Attention(nn.Module):
    """Multi-head self-attention (MHSA) with the slot `prefix`."""

    SLOTS = ("prefix",)
    prefix: nn.Module | None

    def __init__(self, config: ASTConfig):
        super().__init__()
        self.heads = config.heads
        self.q = Linear(config.width, config.width)
        self.k = Linear(config.width, config.width)
        self.v = Linear(config.width, config.width)
        self.out = Linear(config.width, config.width)
        self.register_module("prefix", None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, m, d); mask: (b, m), True for real tokens, or None if all are."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, h, m, d / h)
            for project in (self.q, self.k, self.v)
        )
        if self.prefix is not None:
            prefix_k, prefix_v = self.prefix(len(x))  # each (b, h, length, d / h)
            k, v = torch.cat([prefix_k, k], dim=2), torch.cat([prefix_v, v], dim=2)
            if mask is not None:
                mask = F.pad(mask, (prefix_k.shape[2], 0), value=True)
        mask = None if mask is None else mask[:, None, None, :]
        return self.out(attend(q, k, v, mask).transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of (b, h, m, d / h) each; mask: (b, 1, 1, m), True for real tokens.

    By torch's own function, but where its backward pass is slow: in bfloat16 on a processor, for a
    short clip (`python -m analysis.bench attention`).
    """
    short = q.requires_grad and q.dtype == torch.bfloat16 and k.shape[2] <= SHORT
    if not short or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q * q.shape[-1] ** -0.5 @ k.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1, dtype=q.dtype) @ v


class MLP(nn.Module):
    def __init__(self, config: ASTConfig):
        super().__init__()
        self.up = Linear(config.width, config.mlp)
        self.down = Linear(config.mlp, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Pre-norm transformer block; a branch beside a sublayer reads the same normed input."""

    SLOTS = ("beside_attn", "beside_mlp")
    beside_attn: nn.Module | None
    beside_mlp: nn.Module | None

    def __init__(self, config: ASTConfig):
        super().__init__()
        self.ln_attn = nn.LayerNorm(config.width, config.eps)
        self.attn = Attention(config)
        self.ln_mlp = nn.LayerNorm(config.width, config.eps)
        self.mlp = MLP(config)
        self.register_module("beside_attn", None)
        self.register_module("beside_mlp", None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        h = self.ln_attn(x)
        x = x + self.attn(h, mask) + branch(self.beside_attn, h, mask)
        h = self.ln_mlp(x)
        return x + self.mlp(h) + branch(self.beside_mlp, h, mask)


def branch(slot: nn.Module | None, h: Tensor, mask: Tensor | None) -> Tensor | int:
    return 0 if slot is None else slot(h, mask)


class Head(nn.Module):
    """Classifier on the pooled features: an optional norm, then one linear layer."""

    def __init__(self, width: int, classes: int, norm: bool = False, eps: float = 1e-12):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps) if norm else nn.Identity()
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class AST(nn.Module):
    """mel -> logits; `features` and `pool` are the two steps before the head."""

    SLOTS = ("prompts",)
    prompts: nn.Module | None

    def __init__(self, config: ASTConfig):
        super().__init__()
        self.config = config
        self.patches = nn.Conv2d(
            1, config.width, config.patch, (config.stride_frequency, config.stride_time)
        )
        self.cls = nn.Parameter(torch.zeros(config.width))
        self.dist = nn.Parameter(torch.zeros(config.width))
        self.pos_special = nn.Parameter(torch.zeros(SPECIAL_TOKENS, config.width))
        self.pos_grid = nn.Parameter(
            torch.zeros(config.bands, config.columns(config.max_frames), config.width)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.ln = nn.LayerNorm(config.width, config.eps)
        self.pooling = config.pool
        self.head: Head | nn.Identity = nn.Identity()
        if config.classes:
            self.head = Head(config.width, config.classes, config.head_norm, config.eps)
        self.register_module("prompts", None)
        self.method: str | None = None  # name of the one that was attached
        self.checkpointed = False  # compute the blocks again in the backward pass

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where inputs must be."""
        return self.cls.device

    def forward(self, mel: Tensor, frames: Frames = None) -> Tensor:
        """mel: (b, frames, mels), padded at the end where `frames` (b,) says so.

        Returns logits (b, classes), or the pooled features (b, d) of a model without a head.
        A clip's result does not depend on the clips or the padding beside it.
        """
        return self.head(self.pool(*self.features(mel, frames)))

    def features(self, mel: Tensor, frames: Frames = None) -> tuple[Tensor, Tensor | None]:
        """Final tokens (b, m, d) and the mask (b, m) of real tokens (None: all are real)."""
        return self.encode(*self.embed(mel, frames))

    def encode(self, x: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What `embed` gives through all blocks. Shapes as `features`."""
        tokens, mask = x.shape[1], real
        for layer, block in enumerate(self.blocks):
            if self.prompts is not None:
                x, mask = self.prompts(x, mask, layer)
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return self.ln(x[:, :tokens]), real

    def embed(self, mel: Tensor, frames: Frames = None) -> tuple[Tensor, Tensor | None]:
        """Patch, prepend the special tokens, add positions. Shapes as `features`.

        Raises ValueError if the clip is shorter than one patch or the mel axis does not fit.
        """
        if mel.ndim != 3 or mel.shape[2] != self.config.mels:
            raise ValueError(f"expected mel (b, frames, {self.config.mels}), got {(*mel.shape,)}")
        width = self.config.columns(mel.shape[1])
        if not width:
            raise ValueError(f"{mel.shape[1]} frames are fewer than one patch")
        lengths = [width] * len(mel)
        if frames is not None:
            frames = frames.tolist() if isinstance(frames, Tensor) else frames
            lengths = [min(self.config.columns(n), width) for n in frames]
            beyond = torch.arange(mel.shape[1]) >= torch.tensor(frames)[:, None]
            mel = mel.masked_fill(beyond[..., None].to(mel.device), 0)
        covered = (width - 1) * self.config.stride_time + self.config.patch
        mel = F.pad(mel, (0, 0, 0, max(covered - mel.shape[1], 0)))
        positions = torch.stack([self._positions(columns, width) for columns in lengths])
        x = self.tokens(self.patches(mel.transpose(1, 2)[:, None]), positions)
        if min(lengths) == width:
            return x, None
        real = torch.arange(width) < torch.tensor(lengths)[:, None]  # (b, columns)
        mask = F.pad(real.repeat(1, self.config.bands), (SPECIAL_TOKENS, 0), value=True)
        return x, mask.to(x.device)

    def tokens(self, patches: Tensor, positions: Tensor) -> Tensor:
        """The special tokens, then patches (b, d, bands, columns) with their positions, (b or 1,
        bands * columns, d)."""
        x = patches.flatten(2).transpose(1, 2) + positions
        special = torch.stack([self.cls, self.dist]) + self.pos_special
        return torch.cat([special.expand(x.shape[0], -1, -1), x], dim=1)

    def _positions(self, columns: int, padded: int) -> Tensor:
        """Position embeddings (bands * padded, d) of a clip of so many columns, zero beyond.

        As the authors of AST do: a shorter clip takes the middle of the grid along time, a
        longer one an interpolated grid; positions are never dropped.
        """
        grid = self.pos_grid  # (bands, columns of the checkpoint, d)
        known = grid.shape[1]
        if columns <= known:
            start = known // 2 - columns // 2
            grid = grid[:, start : start + columns]
        else:
            grid = F.interpolate(
                grid.permute(2, 0, 1)[None], (grid.shape[0], columns), mode="bilinear"
            )[0].permute(1, 2, 0)
        return F.pad(grid, (0, 0, 0, padded - columns)).flatten(0, 1)

    def pool(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, d)."""
        if self.pooling == "special":
            return x[:, :SPECIAL_TOKENS].mean(dim=1)
        if mask is None:
            return x.mean(dim=1)
        weights = mask.to(x.dtype) / mask.sum(dim=1, keepdim=True)
        return (weights[:, None] @ x)[:, 0]

    def reset_head(self, classes: int) -> None:
        """A fresh linear head, zero, for so many classes, on the mean of all tokens, as in PETL
        whatever the old head read."""
        self.head = Head(self.config.width, classes)
        self.set_head(torch.zeros(classes, self.config.width), torch.zeros(classes))
        self.pooling = "mean"

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Give the linear layer of the head these values, (classes, d) and (classes,)."""
        assert isinstance(self.head, Head)
        with torch.no_grad():
            self.head.linear.weight.copy_(weight)
            self.head.linear.bias.copy_(bias)


def plugins(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of every filled slot."""
    for path, owner in model.named_modules():
        for slot in getattr(owner, "SLOTS", ()):
            module = getattr(owner, slot)
            if module is not None:
                yield f"{path}.{slot}".lstrip("."), module
