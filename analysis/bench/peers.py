"""The same random base-size weights in our encoder and in transformers'."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import soundfile
import torch

from softmoa.model.ast import AST
from softmoa.model.weights import HubConfig, hub_state


@lru_cache(maxsize=1)
def base_pair(device: torch.device) -> tuple[AST, Any]:
    """(ours, ASTForAudioClassification), in eval mode, on the device."""
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    theirs = ASTForAudioClassification(ASTConfig(id2label={i: str(i) for i in range(527)}))
    ours = AST(HubConfig.model_validate_json(theirs.config.to_json_string()).ours())
    ours.load_state_dict(hub_state(theirs.state_dict(), ours.config.bands))
    pair: tuple[AST, Any] = (ours, theirs)
    for model in pair:
        model.to(device).eval().requires_grad_(False)
    return pair


def pipeline_on(model: Any, device: torch.device) -> Callable[[Path], list[dict]]:
    """transformers' pipeline at its defaults: a file -> labels with scores."""
    from transformers import ASTFeatureExtractor, pipeline

    pipe = pipeline(
        "audio-classification",
        model=model,
        feature_extractor=ASTFeatureExtractor(),
        device=device,
    )

    def run(path: Path) -> list[dict]:
        samples, rate = soundfile.read(path, dtype="float32")
        return pipe({"raw": samples, "sampling_rate": rate}, top_k=527)

    return run
