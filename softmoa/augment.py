"""What training does to log-mels so that no two epochs hear the same: warps and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.transforms import FrequencyMasking, TimeMasking


@dataclass(frozen=True)
class Augmentation:
    """Drawn anew for every clip of every step; 0 for none.

    mask_mels, mask_frames: widest bands that SpecAugment hides (Park et al. 2019, arXiv
    1904.08779), of the frames a fifth at most. warp_mels, warp_frames: most by which an axis is
    stretched or shrunk, in octaves: another vocal tract (Jaitly and Hinton 2013) and another tempo.
    """

    mask_mels: int = 24
    mask_frames: int = 80
    warp_mels: float = 0.0
    warp_frames: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")


NONE = Augmentation(mask_mels=0, mask_frames=0)


def warp(mel: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """mel (frames, mels) with both axes stretched or shrunk; frames change in number."""
    spread = torch.tensor([augmentation.warp_mels, augmentation.warp_frames])
    if not spread.any():
        return mel
    draw = 2 * torch.rand(2, generator=generator) - 1
    pitch, tempo = torch.exp2(draw * spread).tolist()
    size = [1, 1, max(1, round(len(mel) * tempo)), mel.shape[1]]
    # The lowest band stays where it is; beyond the highest one its value is repeated.
    onto = torch.tensor([[[pitch, 0.0, pitch - 1.0], [0.0, 1.0, 0.0]]])
    grid = F.affine_grid(onto, size, align_corners=False)
    return F.grid_sample(mel[None, None], grid, "bilinear", "border", align_corners=False)[0, 0]


def mask(mel: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """mel (b, frames, mels) with one band of each axis hidden per clip, by the mean."""
    if not (augmentation.mask_mels or augmentation.mask_frames):
        return mel
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchaudio draws from the global generator
        torch.manual_seed(seed)
        x = mel.transpose(1, 2)[:, None]  # (b, 1, mels, frames)
        x = FrequencyMasking(augmentation.mask_mels, iid_masks=True)(x)
        x = TimeMasking(min(augmentation.mask_frames, mel.shape[1] // 5), iid_masks=True)(x)
    return x[:, 0].transpose(1, 2)
