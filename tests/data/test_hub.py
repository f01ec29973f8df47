"""Models from the Hub: the real client against a server of its protocol, with every fault."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT, HubServer, point_at
from huggingface_hub import constants
from refusals import refusal
from safetensors.torch import save, save_file
from transformers import ASTConfig as HubConfig
from transformers import ASTForAudioClassification

from softmoa.data import hub
from softmoa.data.hub import HubError, Repository
from softmoa.model import weights
from softmoa.model.weights import WeightsError

ROOT = Path(__file__).parents[2]
NAME = "lab/tiny-ast"
FILES = ("config.json", "model.safetensors")


def checkpoint(folder: Path, names_in_memory: bool = False, **sizes: int) -> dict[str, bytes]:
    """Files of an AST checkpoint with random weights, with the names of transformers 4 or 5."""
    torch.manual_seed(0)
    labels = {i: f"sound {i}" for i in range(6)}
    model = ASTForAudioClassification(HubConfig(**sizes, id2label=labels))
    model.save_pretrained(folder)
    if names_in_memory:
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")
    return {name: (folder / name).read_bytes() for name in FILES}


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_length": 64}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


@pytest.fixture
def server(files, monkeypatch, tmp_path):
    with HubServer({NAME: dict(files)}, tokens={"hf_ann": "ann"}) as server:
        point_at(monkeypatch, server.endpoint, tmp_path / "cache")
        yield server


def unloaded(name: str = NAME) -> str:
    return refusal(WeightsError, weights.load, name)


@pytest.mark.parametrize(
    "text",
    ["", "name", "../b", "/etc/passwd", "a/b@../x", "a b/c", "a/b\nc", "http://x/y", "ä/b"],
)  # fmt: skip
def test_what_is_no_repository_is_refused(text):
    with pytest.raises(HubError, match="is"):
        Repository.parse(text)


def test_download_then_cache(server):
    seen = []
    weights.fetch(Repository(NAME), lambda done, total: seen.append((done, total)))
    loaded = weights.load(NAME)
    content = server.repositories[NAME]["model.safetensors"]
    assert loaded.name == NAME and loaded.labels == tuple(f"sound {i}" for i in range(6))
    assert loaded.sha256 == hashlib.sha256(content).hexdigest()
    assert seen[-1] == (len(content), len(content))
    requests = len(server.log)
    assert requests and torch.equal(weights.load(NAME).model.cls, loaded.model.cls)
    assert len(server.log) == requests  # not even a question


def written(server, folder: Path) -> Path:
    folder.mkdir()
    for file, content in server.repositories[NAME].items():
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_pinned_revision(server, revision):
    weights.load(f"{NAME}@{revision}")
    assert any(f"/resolve/{revision}/" in line for line in server.log)
    assert not any("/resolve/main/" in line for line in server.log)
    assert "in this revision" in unloaded(f"{NAME}@v2")


def test_an_interrupted_download_is_resumed(server, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    server.cuts = [20_000, 10_000]
    loaded = weights.load(NAME)
    assert server.ranges == ["bytes=20000-", "bytes=30000-"]
    content = server.repositories[NAME]["model.safetensors"]
    assert loaded.sha256 == hashlib.sha256(content).hexdigest()


def test_a_download_that_never_ends_well_leaves_nothing_and_can_be_repeated(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the client's own tries
    server.cuts = [0] * 50
    assert "broke" in unloaded()
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    server.cuts = []
    weights.load(NAME)


def test_404_and_401(server, monkeypatch):
    assert "no 'lab/nothing' on the Hub, or it is private" in unloaded("lab/nothing")
    server.private.add(NAME)
    assert "or it is private" in unloaded()
    folder = hub.fetch(Repository(NAME), FILES, 10, lambda *_: None, token="hf_ann")
    assert (folder / "config.json").exists()


def test_pickled_weights_are_not_read(server):
    files = server.repositories["lab/pickle"] = dict(server.repositories[NAME])
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    assert "only safetensors are read" in unloaded("lab/pickle")
    assert not any(".bin" in line for line in server.log)


def test_too_large_is_refused_before_it_is_downloaded(server):
    with pytest.raises(HubError, match="at most 0.01 MB"):
        hub.fetch(Repository(NAME), FILES, 0.01)
    assert not any(line.startswith("GET") for line in server.log)


def test_offline_is_said_at_once(server, monkeypatch, tmp_path):
    weights.load(NAME)
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert weights.load(NAME).name == NAME  # from the cache
    began = time.monotonic()
    assert "cannot be reached; use 'ast-small'" in unloaded("lab/other")
    assert "cannot be reached; use 'ast-small'" in unloaded("ast-base")
    assert time.monotonic() - began < 2 * hub.PROBE_SECONDS


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model_type": "vit"}, "model_type must be"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be less"),
        ({"num_hidden_layers": 3}, "lacks blocks.2"),
        ({"hidden_size": 64}, "has shape"),
        ({"hidden_size": "32"}, "hidden_size must be a valid integer"),
        ({"patch_size": 0}, "patch_size must be greater"),
        ({"frequency_stride": 7}, "no grid"),
        ({"id2label": {str(i): "x" for i in range(1000)}}, "has shape"),
        ({"hidden_act": "relu"}, "hidden_act must be 'gelu'"),
    ],
)
def test_a_config_that_lies_is_refused(server, changes, words):
    files = server.repositories["lab/liar"] = dict(server.repositories[NAME])
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | changes).encode()
    assert words in unloaded("lab/liar")


NO_CONFIGS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000]
NO_WEIGHTS = [b"", b"\x80\x04K\x01.", b"\xff" * 64, save({"x": torch.zeros(1)})]


@pytest.mark.parametrize(
    ("file", "content"),
    [*((FILES[0], c) for c in NO_CONFIGS), *((FILES[1], c) for c in NO_WEIGHTS)],
)
def test_a_config_and_weights_that_are_none_are_refused(server, file, content):
    server.repositories["lab/liar"] = server.repositories[NAME] | {file: content}
    unloaded("lab/liar")


def rot(cache: Path) -> Path:
    """Change one byte of the cached weights, as a failing disk does."""
    [blob] = [path for path in cache.rglob("blobs/*") if len(path.name) == 64]
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    return blob


def test_a_cached_file_that_has_rotted_is_fetched_again_or_else_named(
    server, monkeypatch, tmp_path
):
    loaded = weights.load(NAME)
    rot(tmp_path / "cache")
    assert weights.load(NAME).sha256 == loaded.sha256
    blob = rot(tmp_path / "cache")
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert "model.safetensors of 'lab/tiny-ast' is damaged on this machine" in unloaded()
    assert blob.exists()


def test_weights_in_several_files(server, tmp_path, monkeypatch):
    model = ASTForAudioClassification.from_pretrained(written(server, tmp_path / "one"))
    model.save_pretrained(tmp_path / "parts", max_shard_size="30KB")
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert sum(name.endswith(".safetensors") for name in parts) > 2
    server.repositories["lab/parts"] = parts
    whole, loaded = weights.load(NAME), weights.load("lab/parts")
    state = loaded.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.model.state_dict().items())
    requests = len(server.log)
    assert weights.load("lab/parts").sha256 == loaded.sha256 != whole.sha256
    assert len(server.log) == requests and weights.cached(Repository("lab/parts"))
    index = json.dumps({"weight_map": {"x": "../x.safetensors"}}).encode()
    server.repositories["lab/liar"] = parts | {weights.INDEX: index}
    assert "weight_map" in unloaded("lab/liar")


def environment(server: HubServer, cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    return kept | {"HF_ENDPOINT": server.endpoint, "HF_HUB_CACHE": str(cache)}
