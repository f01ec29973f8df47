"""Log-mel of many clips, against transformers' extractor and torchaudio clip by clip."""

from __future__ import annotations

import torch
from torchaudio.compliance import kaldi

from analysis.bench.measure import Row, Setting, equal, race
from softmoa import audio


def features(setting: Setting) -> list[Row]:
    from transformers import ASTFeatureExtractor

    generator = torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(10 * audio.SAMPLE_RATE, generator=generator) for _ in range(64)]
    arrays = [clip.numpy() for clip in clips]
    extractor = ASTFeatureExtractor()

    def ours() -> torch.Tensor:
        return torch.stack(audio.log_mels([clip.to(setting.device) for clip in clips]))

    def transformers() -> torch.Tensor:
        return extractor(arrays, audio.SAMPLE_RATE, return_tensors="pt")["input_values"]

    def torchaudio() -> torch.Tensor:
        raw = torch.stack([kaldi_fbank(clip) for clip in clips])
        return (raw - audio.AUDIOSET_MEAN) / (2 * audio.AUDIOSET_STD)

    target = 0.5 if setting.device.type == "cpu" else 0.05
    return [
        race(
            setting,
            "log-mel, 64 clips of 10 s",
            name,
            ours,
            peer,
            target,
            equal(ours(), peer()[:, :998], 1e-4),
        )
        for name, peer in (
            ("transformers ASTFeatureExtractor", transformers),
            ("torchaudio kaldi.fbank, clip by clip", torchaudio),
        )
    ]


def kaldi_fbank(clip: torch.Tensor) -> torch.Tensor:
    """(samples,) -> (frames, 128), not normalised, as torchaudio has it."""
    return kaldi.fbank(
        clip[None],
        sample_frequency=audio.SAMPLE_RATE,
        num_mel_bins=audio.N_MELS,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )
