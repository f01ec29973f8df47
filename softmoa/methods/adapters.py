"""One adapter beside a sublayer, for the places see `beside` (arXiv 2312.03694).

    bottleneck      x --> down (r) --> gelu --> up --> y
    convolutional   x --> norm --> down (2 r) --> glu --> depthwise convolution --> norm --> silu
                      --> up --> y                  (the convolution module of the Conformer)
    AdaptFormer     x --> down (r) --> relu --> up --> scale * y          (arXiv 2205.13535)
    look-aside      x --> convolution over time (r) --> gelu --> convolution over frequency --> y
                                                                          (LoAA, arXiv 2412.05951)

The last projection starts at zero, and with it the branch. Adapters are parallel to their sublayer;
the sequential form, which the paper finds slightly worse, has no slot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from softmoa.methods.beside import Placement, beside, norms_beside
from softmoa.methods.registry import PETL_AST, Count, Method, Number, Options, register
from softmoa.model.ast import SPECIAL_TOKENS, ASTConfig


@dataclass(frozen=True)
class AdapterOptions(Options):
    """reduction: width of the model over that of the bottleneck."""

    reduction: Number = 64
    placement: Placement = "mhsa"


@dataclass(frozen=True)
class ConvAdapterOptions(Options):
    """reduction: width of the model over that of the bottleneck.

    kernel: taps of the convolution; the paper takes 31 for speech and 8 for other sounds.
    along: "sequence", all tokens in a row as in the paper, where the end of a band touches the
    start of the next; or "time", every band by itself.
    """

    reduction: Number = 96
    kernel: Count = 31
    along: Literal["sequence", "time"] = "sequence"
    placement: Placement = "mhsa"


@dataclass(frozen=True)
class AdaptFormerOptions(Options):
    """reduction: width of the model over that of the bottleneck. scale: of what it adds."""

    reduction: Number = 12
    scale: Number = 0.1
    placement: Placement = "ffn"


@dataclass(frozen=True)
class LookAsideOptions(Options):
    """reduction: width of the model over that of the bottleneck. kernel: patches it looks at."""

    reduction: Number = 96
    kernel: Count = 3
    placement: Placement = "mhsa"


class Adapter(nn.Module):
    """x -> up(gelu(down(x))), with biases."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        _zero(self.up)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        return self.up(F.gelu(self.down(x)))


class ConvAdapter(nn.Module):
    """An adapter that also listens to the neighbours of a token; padding is as good as absent.

    bands: convolve along time within each of so many bands; None: along the whole sequence.
    """

    def __init__(self, width: int, bottleneck: int, kernel: int, bands: int | None):
        super().__init__()
        self.bands = bands
        self.norm_in = nn.LayerNorm(width)
        self.down = nn.Linear(width, 2 * bottleneck)
        self.conv = nn.Conv1d(bottleneck, bottleneck, kernel, groups=bottleneck)
        self.norm = ClipNorm(bottleneck)
        self.up = nn.Linear(bottleneck, width)
        _zero(self.up)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, m, d); mask: (b, m), True for real tokens."""
        h = F.glu(self.down(self.norm_in(x)))  # (b, m, r)
        if mask is not None:
            h = h * mask[..., None]
        return self.up(F.silu(self.norm(self.heard(h, mask), mask)))

    def heard(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, r): each token with its neighbours."""
        if self.bands:
            return on_picture(self._convolve, h, self.bands)
        if mask is None:
            return self._convolve(h.mT[:, :, None])[:, :, 0].mT
        # Every band ends in padding: move the real tokens together, convolve, move them back.
        order = (~mask).int().argsort(dim=1, stable=True)[..., None].expand_as(h)
        packed = self.heard(h.gather(1, order))
        return torch.empty_like(packed).scatter(1, order, packed)

    def _convolve(self, picture: Tensor) -> Tensor:
        """(b, r, bands, columns) -> the same shape, with zeros beyond both ends of a band."""
        kernel = self.conv.kernel_size[0]
        padded = F.pad(picture, ((kernel - 1) // 2, kernel // 2))
        weight = self.conv.weight[:, :, None]  # (r, 1, 1, kernel)
        return F.conv2d(padded, weight, self.conv.bias, groups=len(weight))


class AdaptFormer(Adapter):
    """x -> scale * up(relu(down(x)))."""

    def __init__(self, width: int, bottleneck: int, scale: float):
        super().__init__(width, bottleneck)
        self.scale = scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        return self.scale * self.up(F.relu(self.down(x)))


class LookAside(nn.Module):
    """An adapter whose projections are convolutions: into the bottleneck along time, out of it
    along frequency. A special token has no neighbours; padding is as good as absent."""

    def __init__(self, width: int, bottleneck: int, kernel: int, bands: int):
        super().__init__()
        self.bands = bands
        self.down = nn.Conv2d(width, bottleneck, (1, kernel), padding="same")
        self.up = nn.Conv2d(bottleneck, width, (kernel, 1), padding="same")
        _zero(self.up)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, m, d); mask: (b, m), True for real tokens."""
        if mask is not None:
            x = x * mask[..., None]
        return on_picture(lambda picture: self.up(F.gelu(self.down(picture))), x, self.bands)


def on_picture(convolve: Callable[[Tensor], Tensor], x: Tensor, bands: int) -> Tensor:
    """(b, m, d) -> the same shape: the patches convolved as a picture (b, d, bands, columns), and
    each special token as one of its own, since it has no neighbours."""
    special, patches = x[:, :SPECIAL_TOKENS], x[:, SPECIAL_TOKENS:]
    alone = convolve(special.flatten(0, 1)[..., None, None]).view_as(special)
    answers = convolve(patches.transpose(1, 2).unflatten(2, (bands, -1)))
    return torch.cat([alone, answers.flatten(2).transpose(1, 2)], dim=1)


class ClipNorm(nn.Module):
    """Zero mean and unit variance of every channel over the real tokens of a clip, then affine.

    Departs from the paper's BatchNorm, of the same number of weights, by which a clip would depend
    on its batch in training and on running statistics afterwards.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, m, r); statistics in fp32."""
        real = torch.ones_like(x[..., :1]) if mask is None else mask[..., None]
        count = real.float().sum(dim=1, keepdim=True)
        centred = x.float() - (x.float() * real).sum(dim=1, keepdim=True) / count
        variance = (centred.square() * real).sum(dim=1, keepdim=True) / count
        return (self.weight * centred * (variance + self.eps).rsqrt() + self.bias).to(x.dtype)


def conv_adapter(config: ASTConfig, options: ConvAdapterOptions, r: int) -> ConvAdapter:
    bands = config.bands if options.along == "time" else None
    return ConvAdapter(config.width, r, options.kernel, bands)


def _zero(projection: nn.Module) -> None:
    for weight in projection.parameters():
        nn.init.zeros_(weight)


row = partial(
    Method,
    family="Adapters",
    trains=norms_beside,
    learning_rate=5e-3,
    short_rate=5e-3,
    sizes=("reduction",),
)
register(
    row(
        name="adapter",
        title="Bottleneck adapter",
        about="Adds one small network beside a sublayer of every layer.",
        paper=PETL_AST,
        options=AdapterOptions,
        plug=beside(lambda config, _, r: Adapter(config.width, r)),
        short_rate=1.5e-3,
    ),
    row(
        name="conv-adapter",
        title="Convolutional adapter",
        about="Adds one small network that also listens to neighbouring patches.",
        paper=PETL_AST,
        options=ConvAdapterOptions,
        plug=beside(conv_adapter),
    ),
    row(
        name="adaptformer",
        title="AdaptFormer",
        about="Adds one small scaled network beside the MLP of every layer.",
        paper="arXiv 2205.13535",
        options=AdaptFormerOptions,
        plug=beside(lambda config, options, r: AdaptFormer(config.width, r, options.scale)),
    ),
    row(
        name="look-aside",
        title="Look-aside adapter",
        about="Adds small networks that look at neighbours in time, then in frequency.",
        paper="arXiv 2412.05951",
        options=LookAsideOptions,
        plug=beside(
            lambda config, options, r: LookAside(config.width, r, options.kernel, config.bands)
        ),
    ),
)
