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
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softmoa import ASSETS
from softmoa.data import hub
from softmoa.data.audio import AUDIOSET_MEAN, AUDIOSET_STD, N_MELS, SAMPLE_RATE
from softmoa.data.hub import HubError, HubOffline, Progress, Repository
from softmoa.data.limits import limits
from softmoa.data.values import InputError, sentence
from softmoa.model import device
from softmoa.model.ast import AST, ASTConfig


class WeightsError(InputError):
    """A checkpoint that cannot be used; the message is one sentence for its owner."""


@dataclass(frozen=True)
class Backbone:
    """A frozen encoder one can choose by name.

    file: in assets/. hub: its repository on the Hub, in the format of transformers.
    """

    name: str
    title: str
    about: str
    file: str = ""
    hub: str = ""

    @property
    def embedded(self) -> bool:
        return bool(self.file)


BACKBONES = {
    "ast-small": Backbone(
        "ast-small",
        "AST small (embedded)",
        "6 blocks, 10.9 M parameters, DINOv2-initialised, YAMNet-distilled",
        file="ast-small.safetensors",
    ),
    "ast-base": Backbone(
        "ast-base",
        "AST base (from the Hub)",
        "12 blocks, 86 M parameters, trained on AudioSet",
        hub="MIT/ast-finetuned-audioset-10-10-0.4593",
    ),
}


@dataclass(frozen=True)
class Loaded:
    """A backbone in memory: the model in eval mode, its labels if it has a head, its hash.

    multilabel: whether several of the labels may be true at once.
    """

    name: str
    model: AST
    labels: tuple[str, ...]
    sha256: str
    multilabel: bool = True


CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FRONT_END = "preprocessor_config.json"
AUDIOSET_CLASSES = 527


def load(name: str | Repository) -> Loaded:
    """A backbone: one of BACKBONES, a folder in the format of the Hub, or a repository there.

    A repository may be written `user/name` or `user/name@revision`; a folder of that name comes
    first, unless it is given as a Repository, as names from strangers must be. Raises WeightsError
    if there is none of that name or it cannot be had here.
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
        folder = fetch(repository)
    except HubError as error:
        advice = "; use 'ast-small', which is embedded." if isinstance(error, HubOffline) else "."
        raise WeightsError(str(error).removesuffix(".") + advice) from None
    return load_hub_folder(folder, str(name))


def fetch(
    repository: Repository, progress: Progress | None = None, token: str | bool | None = None
) -> Path:
    """The folder of a checkpoint of the Hub; see `hub.fetch`. Raises HubError or WeightsError."""
    most = limits().model_mb
    folder = hub.fetch(repository, [CONFIG], most, progress, token, optional=[FRONT_END, INDEX])
    return hub.fetch(repository, [CONFIG, *shards(folder)], most, progress, token)


def cached(repository: Repository) -> Path | None:
    """The folder of a checkpoint, if all of it is on this machine; nothing is asked."""
    folder = hub.cached(repository, [CONFIG])
    try:
        return folder and hub.cached(repository, [CONFIG, *shards(folder)])
    except WeightsError:
        return None


def shards(folder: Path) -> tuple[str, ...]:
    """The files that hold the weights of a checkpoint, one or several; raises WeightsError."""
    if not (folder / INDEX).is_file():
        return (WEIGHTS,)
    return tuple(sorted(set(_said(folder, INDEX, Index).weight_map.values())))


@lru_cache(maxsize=2)
def load_backbone(name: str | Repository) -> Loaded:
    """A backbone on the default device, kept in memory once."""
    loaded = load(name)
    device.place(loaded.model, f"the backbone '{loaded.name}'")
    return loaded


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
    model = _model(ASTConfig(**json.loads(metadata["config"])), state, Path(path).name)
    return Loaded(name or Path(path).stem, model, (), hub.sha256(path))


def load_hub_folder(folder: Path, name: str = "") -> Loaded:
    """Read a checkpoint as transformers writes it, of either generation, in one file or several."""
    config, labels = inspect_hub_folder(folder)
    name = name or folder.name
    model = _model(config, hub_state(_tensors(folder), config.bands), name)
    hashes = [hub.sha256(folder / file) for file in shards(folder)]
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Loaded(name, model, labels, whole, _said(folder, CONFIG, HubConfig).multilabel)


def inspect_hub_folder(folder: Path) -> tuple[ASTConfig, tuple[str, ...]]:
    """Size and labels of a checkpoint, after a look at the headers of its files; of an encoder
    without a head there are none.

    Raises WeightsError if the tensors are not those that its config.json asks for: that file is a
    stranger's word, and must agree with the weights before it may ask for memory.
    """
    theirs = _said(folder, CONFIG, HubConfig)
    config, labels = theirs.ours(), theirs.labels
    if (folder / FRONT_END).is_file():
        heard = _said(folder, FRONT_END, FrontEndConfig)
        if heard.num_mel_bins != config.mels:
            raise WeightsError(
                f"The {FRONT_END} makes {heard.num_mel_bins} mel bands where the {CONFIG} reads "
                f"{config.mels}."
            )
        mean, std = (heard.mean, heard.std) if heard.do_normalize else (0.0, 0.5)
        config = replace(config, mean=mean, std=std)
    state = _tensors(folder, meta=True)
    if not any(key.startswith("classifier.") for key in state):
        config, labels = replace(config, classes=0), ()
    if config.depth > len(state):  # before the blocks are built, if only in outline
        raise WeightsError("The config.json of this checkpoint asks for more layers than it holds.")
    _outline(config, hub_state(state, config.bands), folder.name)
    return config, labels


Said = TypeVar("Said", bound=BaseModel)


def _said(folder: Path, file: str, kind: type[Said]) -> Said:
    """What one of the JSON files of a checkpoint says; raises WeightsError."""
    try:
        return kind.model_validate_json((folder / file).read_bytes())
    except OSError:
        raise WeightsError(f"{folder.name} holds no readable {file}.") from None
    except ValidationError as error:
        said = sentence(error)
        raise WeightsError(f"The {file} of this checkpoint cannot be used: {said}") from None


def _tensors(folder: Path, meta: bool = False) -> dict[str, Tensor]:
    """All tensors of a checkpoint, from one file or several; meta: their shapes alone."""
    files = (read_safetensors(folder / file, meta)[0] for file in shards(folder))
    return {key: value for tensors in files for key, value in tensors.items()}


class Index(BaseModel):
    """weight_map: name of a tensor -> the file beside it that holds it."""

    weight_map: dict[str, Annotated[str, Field(pattern=r"^[\w-][\w.-]*\.safetensors$")]] = Field(
        min_length=1, max_length=100_000
    )


Size = Annotated[int, Field(ge=1, le=100_000)]


class HubConfig(BaseModel, strict=True):
    """The fields of a transformers ASTConfig that shape the network, by our names."""

    model_type: Literal["audio-spectrogram-transformer"]
    hidden_act: Literal["gelu"] = "gelu"
    qkv_bias: Literal[True] = True
    width: Size = Field(alias="hidden_size")
    depth: Size = Field(alias="num_hidden_layers")
    heads: Size = Field(alias="num_attention_heads")
    mlp: Size = Field(alias="intermediate_size")
    patch: int = Field(alias="patch_size", ge=1, le=16)
    stride_frequency: Size = Field(alias="frequency_stride")
    stride_time: Size = Field(alias="time_stride")
    mels: int = Field(alias="num_mel_bins", ge=16, le=512)
    max_frames: int = Field(alias="max_length", ge=16, le=100_000)
    eps: float = Field(alias="layer_norm_eps")
    id2label: Any = None
    num_labels: Size = 2
    problem_type: str | None = None

    @model_validator(mode="after")
    def _sizes_go_together(self) -> HubConfig:
        self.ours()
        return self

    def ours(self) -> ASTConfig:
        """Our configuration of the same network, with a head."""
        shape = self.model_dump(include={field.name for field in fields(ASTConfig)})
        return ASTConfig(**shape, classes=len(self.labels))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; one without a name is called by its number."""
        names = self.id2label if isinstance(self.id2label, dict) else {}
        return tuple(str(names.get(str(i), i)) for i in range(len(names) or self.num_labels))

    @property
    def multilabel(self) -> bool:
        """Whether several labels may be true at once; where it does not say, as of AudioSet."""
        if self.problem_type:
            return self.problem_type == "multi_label_classification"
        return len(self.labels) == AUDIOSET_CLASSES


class FrontEndConfig(BaseModel, strict=True):
    """The fields of a transformers ASTFeatureExtractor, with its defaults."""

    mean: float = Field(AUDIOSET_MEAN, allow_inf_nan=False)
    std: float = Field(AUDIOSET_STD, gt=0, allow_inf_nan=False)
    do_normalize: bool = True
    num_mel_bins: int = N_MELS
    sampling_rate: Literal[16_000] = SAMPLE_RATE


# transformers' names -> ours, in the generation on disk (4.x) and the one in memory (5.x)
_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_NAMES = {
    r"embeddings\.cls_token": "cls",
    r"embeddings\.distillation_token": "dist",
    r"embeddings\.patch_embeddings\.projection\.(\w+)": r"patches.\1",
    _LAYER + r"attention\.(?:attention\.query|q_proj)\.(\w+)": r"blocks.\1.attn.q.\2",
    _LAYER + r"attention\.(?:attention\.key|k_proj)\.(\w+)": r"blocks.\1.attn.k.\2",
    _LAYER + r"attention\.(?:attention\.value|v_proj)\.(\w+)": r"blocks.\1.attn.v.\2",
    _LAYER + r"attention\.(?:output\.dense|o_proj)\.(\w+)": r"blocks.\1.attn.out.\2",
    _LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)": r"blocks.\1.mlp.up.\2",
    _LAYER + r"(?:output\.dense|mlp\.fc2)\.(\w+)": r"blocks.\1.mlp.down.\2",
    _LAYER + r"layernorm_before\.(\w+)": r"blocks.\1.ln_attn.\2",
    _LAYER + r"layernorm_after\.(\w+)": r"blocks.\1.ln_mlp.\2",
    r"layernorm\.(\w+)": r"ln.\1",
    r"classifier\.layernorm\.(\w+)": r"head.norm.\1",
    r"classifier\.dense\.(\w+)": r"head.linear.\1",
}


def hub_state(state: dict[str, Tensor], bands: int) -> dict[str, Tensor]:
    """Rename a transformers state dict to ours; raises WeightsError on a name it does not know."""
    ours = {}
    for key, value in state.items():
        short = key.removeprefix("audio_spectrogram_transformer.")
        if short == "embeddings.position_embeddings":
            _, tokens, _ = value.shape if value.ndim == 3 else (0, 0, 0)
            if value.shape[:1] != (1,) or tokens < 3 or (tokens - 2) % bands:
                raise WeightsError("The position embeddings of this checkpoint form no grid.")
            ours["pos_special"], grid = value[0, :2], value[0, 2:]
            ours["pos_grid"] = grid.unflatten(0, (bands, -1))
            continue
        matches = ((re.fullmatch(theirs, short), name) for theirs, name in _NAMES.items())
        names = [match.expand(name) for match, name in matches if match]
        if not names:
            raise WeightsError(
                f"The checkpoint holds a tensor that has no place in this model: {key}."
            )
        ours[names[0]] = value.flatten() if names[0] in ("cls", "dist") else value
    return ours


def _model(config: ASTConfig, state: dict[str, Tensor], source: str) -> AST:
    """The encoder with every tensor in its place, in float32."""
    model = _outline(config, state, source)
    state = {key: value.to(torch.float32, copy=True) for key, value in state.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _outline(config: ASTConfig, state: dict[str, Tensor], source: str) -> AST:
    """The encoder on the meta device, of shapes alone. Raises WeightsError if the sizes are
    impossible, or a tensor is missing, extra or of another shape."""
    try:
        with torch.device("meta"):
            model = AST(config)
    except RuntimeError:
        raise WeightsError("The config.json of this checkpoint has impossible sizes.") from None
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
    return model


def read_safetensors(
    path: str | os.PathLike, meta: bool = False, refusal: type[InputError] = WeightsError
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file; meta: of the tensors the shapes alone. Raises
    `refusal`."""
    try:
        with safe_open(path, framework="pt") as file:
            if meta:
                shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
                state = {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}
            else:
                state = {key: file.get_tensor(key) for key in file.keys()}
            return state, file.metadata() or {}
    # At a file that is damaged, or made to look possible and be none.
    except (SafetensorError, OSError, RuntimeError, TypeError):
        raise refusal(f"{Path(path).name} cannot be read as a safetensors file.") from None
