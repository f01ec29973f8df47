"""A trained method as one small file: what was trained, and all one must know to use it.

A bundle is a .safetensors file with the trained tensors by our own names (slots, head, unfrozen
norms) and one JSON record in its header. Pickle is never read or written.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from softmoa.data import audio
from softmoa.data.values import STRICT, InputError, sentence
from softmoa.methods import METHODS, attach, share, trained_state
from softmoa.model import weights
from softmoa.model.ast import AST

FORMAT = "softmoa-bundle-1"


def features(front_end: audio.FrontEnd = audio.AUDIOSET) -> dict[str, int | float]:
    """How the sounds of a backbone become log-mels."""
    return {
        "sample_rate": audio.SAMPLE_RATE,
        "frame_shift": audio.FRAME_SHIFT,
        "frame_length": audio.FRAME_LENGTH,
        **asdict(front_end),
    }


class BundleError(InputError):
    """A bundle that cannot be used; the message is one sentence for its owner."""


def _unlike(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise ValueError("two labels are the same")
    return labels


@dataclass(frozen=True, config=STRICT)
class BundleInfo:
    """The header of a bundle. Raises pydantic's ValidationError, a ValueError.

    base, base_sha256: name and hash of the backbone it was trained on.
    multilabel: whether labels exclude each other (softmax) or not (sigmoid).
    metrics: what was measured, such as {"test_accuracy": 0.95}. seed: of the training run.
    test_clips: `task.digest` of the clips held out of training and of every choice, "" if unknown.
    clip_seconds: how much of a clip was used, 0 if unknown. device: it was trained on, "" if
    unknown.
    """

    name: str
    task: str
    method: str
    options: dict[str, Any]
    labels: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unlike)]
    base: str
    base_sha256: str
    multilabel: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    metrics: dict[str, int | float] = field(default_factory=dict)
    notes: str = ""
    features: dict[str, int | float] = field(default_factory=features)
    test_clips: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?$")] = ""
    clip_seconds: Annotated[float, Field(ge=0)] = 0.0
    device: Annotated[str, Field(max_length=40)] = ""


_HEADER = TypeAdapter(BundleInfo)


def save(path: Path, state: dict[str, Tensor], info: BundleInfo) -> None:
    """Write what `trained_state` gives of a model, with `info` in the header; see `write`."""
    known = {name: value for name, value in info.metrics.items() if math.isfinite(value)}
    header = json.dumps(asdict(info) | {"metrics": known})
    write(path, state, {"format": FORMAT, "info": header})


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A .safetensors file; one of that name is replaced in one step. Raises OSError if the disk
    does not take it."""
    part = path.with_suffix(".part")
    try:
        save_file({key: value.cpu().contiguous() for key, value in state.items()}, part, metadata)
    except SafetensorError as error:  # its way to report a full disk
        part.unlink(missing_ok=True)
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code)) from None
    part.replace(path)


def read_info(path: str | os.PathLike) -> BundleInfo:
    """The header alone; raises BundleError if the file is not a bundle."""
    name = Path(path).name
    _, metadata = weights.read_safetensors(path, meta=True, refusal=BundleError)
    if metadata.get("format") != FORMAT:
        raise BundleError(f"{name} is not an adapter bundle of this version ({FORMAT}).")
    try:
        return _HEADER.validate_json(metadata.get("info", ""))
    except ValidationError as error:
        raise BundleError(
            f"The header of the bundle {name} is damaged: {sentence(error)}"
        ) from None


def load(path: str | os.PathLike, base: weights.Loaded) -> tuple[AST, BundleInfo]:
    """A copy of the backbone with the bundle's method on it, in eval mode.

    Frozen weights are shared with `base`, which is left as it is. Raises BundleError if the bundle
    was trained on another backbone or its tensors do not fit its own header.
    """
    info = read_info(path)
    name = Path(path).name
    if info.base_sha256 != base.sha256:
        raise BundleError(
            f"The bundle {name} was trained on the backbone '{info.base}', not on these weights "
            f"of '{base.name}'."
        )
    if info.method not in METHODS:
        raise BundleError(f"The bundle {name} uses the method '{info.method}', unknown here.")
    if info.features != features(base.model.config.front_end):
        raise BundleError(f"The bundle {name} was trained on other audio features than these.")
    state, _ = weights.read_safetensors(path, refusal=BundleError)
    # The header is a stranger's word: it must agree with the file before it may ask for memory.
    with torch.device("meta"):
        _check_fit(_attached(AST(base.model.config), info, name), state, name)
    model = _attached(share(base.model), info, name)
    for key, place in trained_state(model).items():
        place.copy_(state[key])
    return model.requires_grad_(False).eval(), info


def _attached(model: AST, info: BundleInfo, name: str) -> AST:
    try:
        options = METHODS[info.method].options(**info.options)
        attach(model, info.method, options, len(info.labels))
    except (TypeError, ValueError, RuntimeError):
        raise BundleError(
            f"The options in the header of the bundle {name} are not usable."
        ) from None
    return model


def _check_fit(model: AST, state: dict[str, Tensor], name: str) -> None:
    places = trained_state(model)
    if wrong := sorted(places.keys() ^ state.keys()):
        raise BundleError(f"The bundle {name} does not fit its header: {wrong[0]} is out of place.")
    for key, value in state.items():
        if value.shape != places[key].shape:
            raise BundleError(
                f"The bundle {name} does not fit its header: {key} has shape {(*value.shape,)}, "
                f"not {(*places[key].shape,)}."
            )
        try:
            finite = value.float().isfinite().all()  # float8 cannot be asked
        except RuntimeError:  # packed by twos, as float4 is
            finite = False
        if not finite:
            raise BundleError(f"The bundle {name} is damaged: {key} holds no finite numbers.")
