"""Log-mel of many clips, against transformers' extractor."""

from __future__ import annotations

import torch

from analysis.bench.measure import Result, Setting, equal, in_turns
from softmoa.data import audio


def features(setting: Setting) -> list[Result]:
    from transformers import ASTFeatureExtractor

    generator = torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(10 * audio.SAMPLE_RATE, generator=generator) for _ in range(64)]
    arrays = [clip.numpy() for clip in clips]
    extractor = ASTFeatureExtractor()

    def ours() -> torch.Tensor:
        return torch.stack([audio.log_mel(clip.to(setting.device)) for clip in clips])

    def transformers() -> torch.Tensor:
        return extractor(arrays, audio.SAMPLE_RATE, return_tensors="pt")["input_values"]

    target = 1.0 if setting.device.type == "cpu" else 0.05
    what, against = "log-mel, 64 clips of 10 s", "transformers ASTFeatureExtractor"
    checked = equal(ours(), transformers()[:, :998], 1e-4)
    return [in_turns(setting, what, against, ours, transformers, target, checked)]
