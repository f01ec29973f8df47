"""Checkpoints: the embedded backbone and the published AST files -> our encoder.

Only safetensors are read, never pickle. A checkpoint in the format of the Hub (config.json beside
model.safetensors) is recognised in both generations of names that transformers has used; every
tensor must find its place and none may be missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softmoa import ASSETS, hub
from softmoa.ast import AST, ASTConfig
from softmoa.audio import N_MELS
from softmoa.hub import HubError, HubOffline, Progress, Repository
from softmoa.limits import LIMITS
from softmoa.seeding import seeded

# What safetensors and torch raise at a file that is damaged, or made to look possible and be none.
UNREADABLE = (SafetensorError, OSError, RuntimeError, TypeError)


class WeightsError(ValueError):
    """A checkpoint that cannot be used; the message is one sentence for its owner."""


@dataclass(frozen=True)
class Backbone:
    """A frozen encoder one can choose by name."""

    name: str
    title: str
    about: str
    file: str = ""  # in assets/
    hub: str = ""  # repository on the Hub, in the format of transformers

    @property
    def embedded(self) -> bool:
        return bool(self.file)


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "ast-small",
            "AST small (embedded)",
            "6 blocks, 10.9 M parameters, DINOv2-initialised, YAMNet-distilled",
            file="ast-small.safetensors",
        ),
        Backbone(
            "ast-base",
            "AST base (from the Hub)",
            "12 blocks, 86 M parameters, trained on AudioSet",
            hub="MIT/ast-finetuned-audioset-10-10-0.4593",
        ),
    )
}


@dataclass(frozen=True)
class Loaded:
    """A backbone in memory: the model in eval mode, its labels if it has a head, its hash."""

    name: str
    model: AST
    labels: tuple[str, ...]
    sha256: str


HUB_FILES = ("config.json", "model.safetensors")


def load(name: str | Repository, progress: Progress | None = None) -> Loaded:
    """A backbone: one of BACKBONES, a folder in the format of the Hub, or a repository there.

    A repository may be written `user/name` or `user/name@revision`; a folder of that name comes
    first, unless it is given as a Repository, as names from strangers must be. progress: see
    `hub.fetch`. Raises WeightsError if there is none of that name or it cannot be had here.
    """
    if isinstance(name, str) and (backbone := BACKBONES.get(name)):
        if backbone.embedded:
            return load_embedded(ASSETS / backbone.file, name)
        repository = Repository(backbone.hub)
    elif isinstance(name, str) and Path(name).is_dir():
        return load_hub_folder(Path(name))
    else:
        try:
            repository = Repository.parse(str(name))
        except HubError:
            raise WeightsError(
                f"There is no backbone '{name}'; there are {', '.join(BACKBONES)}, folders, and "
                "repositories of the Hub, written user/name."
            ) from None
    try:
        folder = hub.fetch(repository, HUB_FILES, LIMITS.model_mb, progress)
    except HubOffline as error:
        advice = "; use 'ast-small', which is embedded."
        raise WeightsError(str(error).removesuffix(".") + advice) from None
    except HubError as error:
        raise WeightsError(str(error)) from None
    return load_hub_folder(folder, str(name))


def save_embedded(model: AST, path: str | os.PathLike, dtype: torch.dtype = torch.float16) -> None:
    """Write the encoder without its head, with its configuration in the header."""
    config = asdict(model.config) | {"classes": 0}
    state = {
        key: value.detach().to(dtype).contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith("head.")
    }
    save_file(state, path, metadata={"format": "softmoa-backbone-1", "config": json.dumps(config)})


def load_embedded(path: str | os.PathLike, name: str = "") -> Loaded:
    """Read a file of `save_embedded` into float32."""
    state, metadata = read_safetensors(path)
    if metadata.get("format") != "softmoa-backbone-1":
        raise WeightsError(f"{Path(path).name} is not a backbone file of this project.")
    with seeded(0):  # its first weights are all replaced
        model = AST(ASTConfig(**json.loads(metadata["config"])))
    _fill(model, state, Path(path).name)
    return Loaded(name or Path(path).stem, model.eval(), (), sha256(path))


def load_hub_folder(folder: Path, name: str = "") -> Loaded:
    """Read config.json and model.safetensors as transformers writes them, of either generation."""
    config, labels = inspect_hub_folder(folder)
    with seeded(0):
        model = AST(config)
    state, _ = read_safetensors(folder / "model.safetensors")
    _fill(model, hub_state(state, config.bands), name or folder.name)
    return Loaded(name or folder.name, model.eval(), labels, sha256(folder / "model.safetensors"))


def inspect_hub_folder(folder: Path) -> tuple[ASTConfig, tuple[str, ...]]:
    """Size and labels of a checkpoint, after a look at the headers of its files.

    Raises WeightsError if the tensors are not those that its config.json asks for: that file is a
    stranger's word, and must agree with the weights before it may ask for memory.
    """
    try:
        described = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        raise WeightsError(f"{folder.name} holds no readable config.json.") from None
    config = hub_config(described)
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file, torch.device("meta"):
            slices = {key: file.get_slice(key) for key in file.keys()}
            state = {key: torch.empty(piece.get_shape()) for key, piece in slices.items()}
    except UNREADABLE:
        raise WeightsError(f"{path.name} cannot be read as a safetensors file.") from None
    if config.depth > len(state):  # before the blocks are built, if only in outline
        raise WeightsError("The config.json of this checkpoint asks for more layers than it holds.")
    try:
        with torch.device("meta"):
            model = AST(config)
    except RuntimeError:
        raise WeightsError("The config.json of this checkpoint has impossible sizes.") from None
    _check_fit(model, hub_state(state, config.bands), folder.name)
    names = described.get("id2label")
    names = names if isinstance(names, dict) else {}
    return config, tuple(str(names.get(str(i), i)) for i in range(config.classes))


def hub_config(config: dict) -> ASTConfig:
    """The fields of a transformers ASTConfig that shape the network."""
    if not isinstance(config, dict) or config.get("model_type") != "audio-spectrogram-transformer":
        raise WeightsError("This checkpoint is not an Audio Spectrogram Transformer.")
    if config.get("hidden_act", "gelu") != "gelu" or not config.get("qkv_bias", True):
        raise WeightsError("Only AST checkpoints with GELU and attention biases can be used.")
    names = config.get("id2label")
    try:
        result = ASTConfig(
            width=_size(config["hidden_size"]),
            depth=_size(config["num_hidden_layers"]),
            heads=_size(config["num_attention_heads"]),
            mlp=_size(config["intermediate_size"]),
            patch=_size(config["patch_size"]),
            stride_frequency=_size(config["frequency_stride"]),
            stride_time=_size(config["time_stride"]),
            mels=_size(config["num_mel_bins"]),
            max_frames=_size(config["max_length"]),
            classes=_size(len(names) if names else config.get("num_labels", 2)),
            eps=float(config["layer_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError):
        raise WeightsError("The config.json of this checkpoint lacks or garbles a size.") from None
    if result.mels != N_MELS or not result.patch <= result.mels or result.columns(16) < 1:
        raise WeightsError("Only AST checkpoints for 128 mel bands and patches of 16 can be used.")
    return result


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise ValueError(value)
    return value


# transformers' names -> ours, in the generation on disk (4.x) and the one in memory (5.x)
_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_RENAMES = tuple(
    (re.compile(pattern + "$"), ours)
    for pattern, ours in (
        (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patches.\1"),
        (_LAYER + r"attention\.(?:attention\.query|q_proj)\.(\w+)", r"blocks.\1.attn.q.\2"),
        (_LAYER + r"attention\.(?:attention\.key|k_proj)\.(\w+)", r"blocks.\1.attn.k.\2"),
        (_LAYER + r"attention\.(?:attention\.value|v_proj)\.(\w+)", r"blocks.\1.attn.v.\2"),
        (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.attn.out.\2"),
        (_LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"blocks.\1.mlp.up.\2"),
        (_LAYER + r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"blocks.\1.mlp.down.\2"),
        (_LAYER + r"layernorm_before\.(\w+)", r"blocks.\1.ln_attn.\2"),
        (_LAYER + r"layernorm_after\.(\w+)", r"blocks.\1.ln_mlp.\2"),
        (r"layernorm\.(\w+)", r"ln.\1"),
        (r"classifier\.layernorm\.(\w+)", r"head.norm.\1"),
        (r"classifier\.dense\.(\w+)", r"head.linear.\1"),
    )
)


def hub_state(state: dict[str, Tensor], bands: int) -> dict[str, Tensor]:
    """Rename a transformers state dict to ours; raises WeightsError on a name it does not know."""
    ours = {}
    for key, value in state.items():
        short = key.removeprefix("audio_spectrogram_transformer.")
        if short == "embeddings.cls_token":
            ours["cls"] = value.flatten()
        elif short == "embeddings.distillation_token":
            ours["dist"] = value.flatten()
        elif short == "embeddings.position_embeddings":
            _, tokens, _ = value.shape if value.ndim == 3 else (0, 0, 0)
            if len(value) != 1 or tokens < 3 or (tokens - 2) % bands:
                raise WeightsError("The position embeddings of this checkpoint form no grid.")
            ours["pos_special"], ours["pos_grid"] = value[0, :2], value[0, 2:]
            ours["pos_grid"] = ours["pos_grid"].unflatten(0, (bands, -1))
        else:
            for pattern, name in _RENAMES:
                if pattern.match(short):
                    ours[pattern.sub(name, short)] = value
                    break
            else:
                raise WeightsError(
                    f"The checkpoint holds a tensor that has no place in this model: {key}."
                )
    return ours


def _fill(model: AST, state: dict[str, Tensor], source: str) -> None:
    """Copy every tensor to its place; raises WeightsError if one is missing, extra or misfits."""
    _check_fit(model, state, source)
    own = model.state_dict()
    for key, value in state.items():
        own[key].copy_(value)


def _check_fit(model: AST, state: dict[str, Tensor], source: str) -> None:
    own = model.state_dict()
    if wrong := sorted(own.keys() ^ state.keys()):
        kind = "lacks" if wrong[0] in own else "has an extra tensor,"
        raise WeightsError(
            f"The checkpoint {source} {kind} {wrong[0]} ({len(wrong)} do not match)."
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise WeightsError(
                f"In the checkpoint {source}, {key} has shape {(*value.shape,)} where the "
                f"configuration asks for {(*own[key].shape,)}."
            )


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except UNREADABLE:
        raise WeightsError(f"{Path(path).name} cannot be read as a safetensors file.") from None


def sha256(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
