"""One adapter beside a sublayer, for the places see `beside` (arXiv 2312.03694).

    bottleneck      x --> down (r) --> gelu --> up --> y
    convolutional   x --> norm --> down (2 r) --> glu --> depthwise convolution --> norm --> silu
                      --> up --> y                  (the convolution module of the Conformer)

The last projection starts at zero, and with it the branch. Adapters are parallel to their sublayer;
the sequential form, which the paper finds slightly worse, has no slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.ast import AST, SPECIAL_TOKENS
from softmoa.methods.beside import Placement, bottleneck, plug_beside
from softmoa.methods.options import Options


@dataclass(frozen=True)
class AdapterOptions(Options):
    """reduction: width of the model over that of the bottleneck."""

    reduction: float = 64
    placement: Placement = "mhsa"


@dataclass(frozen=True)
class ConvAdapterOptions(Options):
    """reduction: width of the model over that of the bottleneck.

    kernel: taps of the convolution; the paper takes 31 for speech and 8 for other sounds.
    along: "sequence", all tokens in a row as in the paper, where the end of a band touches the
    start of the next; or "time", every band by itself.
    """

    reduction: float = 96
    kernel: int = 31
    along: Literal["sequence", "time"] = "sequence"
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
        h = self._along_sequence(h, mask) if self.bands is None else self._along_time(h, self.bands)
        return self.up(F.silu(self.norm(h, mask)))

    def _along_time(self, h: Tensor, bands: int) -> Tensor:
        """The special tokens have no neighbours."""
        special, patches = h[:, :SPECIAL_TOKENS], h[:, SPECIAL_TOKENS:]
        rows = patches.unflatten(1, (bands, -1))  # (b, bands, columns, r)
        patches = self._convolve(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).flatten(1, 2)
        special = self._convolve(special.flatten(0, 1)[:, None]).view_as(special)
        return torch.cat([special, patches], dim=1)

    def _along_sequence(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Every band ends in padding: move the real tokens together, convolve, move them back."""
        if mask is None:
            return self._convolve(h)
        order = (~mask).int().argsort(dim=1, stable=True)[..., None].expand_as(h)
        packed = self._convolve(h.gather(1, order))
        return torch.empty_like(packed).scatter(1, order, packed)

    def _convolve(self, rows: Tensor) -> Tensor:
        """(rows, length, r) -> the same shape, with zeros beyond both ends."""
        kernel = self.conv.kernel_size[0]
        padded = F.pad(rows.transpose(1, 2), ((kernel - 1) // 2, kernel // 2))
        return self.conv(padded).transpose(1, 2)


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


def plug_adapter(model: AST, options: AdapterOptions) -> None:
    r = bottleneck(model, options.reduction)
    plug_beside(model, options.placement, lambda: Adapter(model.config.width, r))


def plug_conv_adapter(model: AST, options: ConvAdapterOptions) -> None:
    r = bottleneck(model, options.reduction)
    bands = model.config.bands if options.along == "time" else None
    plug_beside(
        model,
        options.placement,
        lambda: ConvAdapter(model.config.width, r, options.kernel, bands),
    )


def _zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
