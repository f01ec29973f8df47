"""Strangers' files and calls: each is used or refused in one sentence, and nothing is left behind.

Malformed sounds and bundles are made here, hundreds of them, always the same ones; the calls go to
the running app without its page, as a stranger would send them.
"""

import gc
import io
import json
import os
import random
import re
import struct
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice, product
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
import torch
from loading import loads_or_refuses
from safetensors.torch import load_file, save
from sounds import LIBAV_FORMATS, SOUNDFILE_FORMATS, noise, write_libav

from softmoa.data import audio, own
from softmoa.data.limits import limits
from softmoa.data.tasks import TaskError
from softmoa.lens.classifier import bundles
from softmoa.methods import bundle
from softmoa.methods.bundle import BundleError
from softmoa.model.weights import ASSETS, load_backbone
from softmoa.ui.guard import BUSY

DOG = ASSETS / "examples" / "dog_bark.ogg"
ESC10 = bundles()["esc10-soft-moa"]


# Sounds


def encoded(samples: np.ndarray, rate: int = 16_000, **form) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **form)
    return buffer.getvalue()


def wav(samples: bytes, code: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16):
    """A WAV file with any header; code 1 is PCM, 3 is float."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * block % 2**32, block % 2**16, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + form
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def malformed_sounds(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of files that are damaged, lie, or are something else as well."""
    rng = random.Random(0)
    sound = noise(4000, 0.2)
    whole = {name: encoded(sound, **form) for name, form in SOUNDFILE_FORMATS.items()}
    for name, form in LIBAV_FORMATS.items():
        whole[name] = write_libav(folder / name, sound[None], 16_000, **form).read_bytes()
    for name, content in whole.items():
        for percent in (1, 5, 25, 50, 75, 95, 99):
            yield f"{name} cut at {percent} %", content[: len(content) * percent // 100]
        for i in range(8):  # anywhere, and where the headers are
            reach = len(content) if i % 2 else 64
            yield f"{name} with noise {i}", damaged(rng, content, 12, reach)
        yield f"{name} behind a megabyte of zeros", bytes(2**20) + content
        yield f"{name} from its middle", content[len(content) // 2 :]
        yield f"{name} twice", content + content
        yield f"{name} behind a web page", b"<html><script>alert(1)</script></html>" + content
        yield f"{name} behind a picture", b"\x89PNG\r\n\x1a\n" + content
        yield f"{name} with a zip behind it", content + zipped({"a.wav": content})
    pcm = encoded(sound, format="WAV", subtype="PCM_16")[44:]
    for value in (0, 1, 3999, 192_001, 2**31, 2**32 - 1):
        yield f"wav of {value} Hz", wav(pcm, rate=value)
    for value in (0, 17, 255, 65_535):
        yield f"wav of {value} channels", wav(pcm, channels=value)
    for value in (0, 1, 7, 12, 128, 65_535):
        yield f"wav of {value} bits", wav(pcm, bits=value)
    for value in (0, 2, 6, 7, 17, 85, 255, 65_534):
        yield f"wav of code {value}", wav(pcm, code=value)
    for value in (np.nan, np.inf, -np.inf, 3e38, -3e38):
        yield f"wav of {value}", wav(np.full(4000, value, "f4").tobytes(), code=3, bits=32)
    for count in range(4):
        yield f"wav of {count} samples", wav(pcm[: 2 * count])
        yield f"wav of {count} bytes", wav(pcm[:count])
    for size in (0, 1, 2**31, 2**32 - 1):
        claims = bytearray(wav(pcm))
        claims[40:44] = struct.pack("<I", size)
        yield f"wav that claims {size} bytes", bytes(claims)
    yield "an hour of silence in flac", encoded(np.zeros(16_000 * 3600, "i2"), format="FLAC")
    yield "a zip", zipped({"a.wav": whole["wav-16"]})
    yield "a zip bomb", zipped({"a.wav": bytes(10**7)})
    yield "a pickle", b"\x80\x04cposix\nsystem\n(S'true'\ntR."
    yield "a web page", b"<html>" * 1000
    yield "a script", b"#!/bin/sh\ntrue\n"
    yield "a playlist", b"#EXTM3U\nfile:///etc/passwd\n"
    yield "a program", b"\x7fELF" + bytes(1000)
    yield "zeros", bytes(100_000)
    yield "ones", b"\xff" * 100_000
    yield "nothing", b""
    for i in range(20):
        magic = rng.choice([b"RIFF", b"fLaC", b"OggS", b"ID3\4", b"\xff\xfb\x90", b"\x1aE\xdf\xa3"])
        yield f"random bytes {i}", magic + rng.randbytes(rng.randrange(1, 5000))


def damaged(rng: random.Random, content: bytes, count: int, end: int, start: int = 0) -> bytes:
    """With some bytes written over, anywhere between two places."""
    written = bytearray(content)
    for _ in range(count):
        written[rng.randrange(start, end)] = rng.randrange(256)
    return bytes(written)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_malformed_sounds(tmp_path, monkeypatch):
    """Over 300 files: a usable sound or one sentence; no file, no open descriptor is left."""
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path, tried = tmp_path / "sound", 0
    gc.collect()
    open_before = len(os.listdir("/proc/self/fd"))
    for name, content in malformed_sounds(made):
        path.write_bytes(content)
        try:
            loads_or_refuses(path)
        except BaseException as error:
            raise AssertionError(name) from error
        tried += 1
    gc.collect()
    assert tried >= 300
    assert len(os.listdir("/proc/self/fd")) <= open_before
    assert {p.name for p in tmp_path.iterdir()} == {"made", "temporary", "sound"}
    assert not list((tmp_path / "temporary").iterdir())


# Bundles


def malformed_bundles() -> Iterator[tuple[str, bytes]]:
    rng = random.Random(0)
    state, info = load_file(ESC10), asdict(bundle.read_info(ESC10))

    def written(tensors=state, form=bundle.FORMAT, **changes) -> bytes:
        return save(tensors, {"format": form, "info": json.dumps(info | changes)})

    content = written()
    free = {"name", "task", "notes", "base", "device"}  # any text will do
    for key in info:
        for value in (None, "x", {"x": [1]}, ["x", 1], [[]]):
            if not (key in free and isinstance(value, str)):
                yield f"{key} is {value}", written(**{key: value})
    for options in ({"experts": 0}, {"experts": 10**9}, {"slots": 10**30}, {"reduction": "x"}):
        yield f"options {options}", written(options=info["options"] | options)
    yield "another format", written(form="softmoa-bundle-9")
    yield "an unknown field", written(evil="x")
    yield "too few labels", written(labels=["one"])
    yield "too many labels", written(labels=["one"] * 10**5)
    yield "labels that no text can hold", written(labels=[*info["labels"][1:], "\ud800"])
    yield "two labels alike", written(labels=[*info["labels"][1:], info["labels"][1]])
    yield "a method that there is not", written(method="magic")
    yield "no tensors", written({"x": torch.zeros(1)})
    first = next(iter(state))
    for value in (torch.zeros(0), torch.zeros(3, 5), torch.full_like(state[first], torch.nan)):
        yield f"a tensor of {tuple(value.shape)}", written(state | {first: value})
    yield "a missing tensor", written({k: v for k, v in state.items() if k != first})
    yield "a tensor of the backbone", written(state | {"cls": torch.zeros(384)})
    for percent in (0, 1, 10, 50, 90, 99):
        yield f"cut at {percent} %", content[: len(content) * percent // 100]
    for size in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield f"a header of {size} bytes", struct.pack("<Q", size) + content[8:]
    for i in range(15):
        yield f"noise in the header {i}", damaged(rng, content, 4, 400, start=8)
    yield "nested too deep", save(state, {"format": bundle.FORMAT, "info": "[" * 100_000})
    yield "a pickle", b"\x80\x04cposix\nsystem\n(S'true'\ntR."
    yield "a checkpoint of torch", zipped({"archive/data.pkl": b"\x80\x04K\x01."})
    yield "random bytes", rng.randbytes(5000)


def test_malformed_bundles(tmp_path):
    """Over 100 files, each refused in one sentence."""
    base = load_backbone("ast-small")
    path, tried = tmp_path / "bundle.safetensors", 0
    for name, content in malformed_bundles():
        path.write_bytes(content)
        try:
            with pytest.raises(BundleError) as error:
                bundle.load(path, base)
        except BaseException as other:
            raise AssertionError(name) from other
        message = str(error.value)
        assert "\n" not in message and message.endswith("."), name
        tried += 1
    assert tried >= 100
    assert [p.name for p in tmp_path.iterdir()] == ["bundle.safetensors"]


MANY = pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.slow)])


@MANY
def test_mutated_bundles_are_refused_or_answer(tmp_path, count):
    rng, base, content = random.Random(1), load_backbone("ast-small"), ESC10.read_bytes()
    path, mel, used = tmp_path / "bundle.safetensors", torch.zeros(1, 64, 128), 0
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(count):
        reach = rng.choice((header, len(content)))
        path.write_bytes(damaged(rng, content, rng.choice((1, 2, 8)), reach))
        try:
            model, info = bundle.load(path, base)
        except BundleError as error:
            assert "\n" not in str(error)
            continue
        used += 1
        assert model(mel).shape == (1, len(info.labels))
    assert 0 < used < count


@MANY
def test_mutated_zips_and_tables_are_refused_or_make_a_task(tmp_path, count):
    rng, path, used = random.Random(1), tmp_path / "sounds.zip", 0
    clips = {
        f"{label}/{k}.wav": encoded(noise(8000, 0.5, 10 * k + len(label)), format="WAV")
        for label in ("dog", "horse")
        for k in range(4)
    }
    lines = [f"{name},{name[:3]},{'test' if '3' in name else 'train'}" for name in clips]
    table = "\n".join(["file,label,split", *lines])
    for turn in range(count):
        text = list(table)
        for _ in range(rng.randrange(6)):
            text[rng.randrange(len(text))] = rng.choice(["", ",", ";", '"', "\n", "../", "\0", "é"])
        files = clips | {"clips.csv": "".join(text).encode(rng.choice(("utf-8", "utf-16")))}
        content = zipped(files)
        faults = rng.choice((1, 4)) if turn % 2 else 0
        path.write_bytes(damaged(rng, content, faults, len(content)))
        try:
            with own.opened(path) as data:
                loaded = [audio.load(row.path) for row in data.rows]
        except TaskError as error:
            assert "\n" not in str(error)
            continue
        used += 1
        assert loaded and data.task.summary
    assert 0 < used < count


# Calls


def post(address: str, path: str, body: dict | bytes, kind: str = "application/json"):
    """What gradio answers to a request as curl sends it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(f"{address}gradio_api/{path}", content, {"Content-Type": kind})
    return json.load(urllib.request.urlopen(asked, timeout=120))


def call(address: str, name: str, values: list) -> tuple[str, object]:
    """("complete" or "error", what was answered)."""
    event = post(address, f"call/{name}", {"data": values})["event_id"]
    asked = f"{address}gradio_api/call/{name}/{event}"
    stream = urllib.request.urlopen(asked, timeout=120).read().decode()
    kind, data = re.findall(r"event: (\w+)\ndata: (.*)", stream)[-1]
    return kind, json.loads(data)


def upload(address: str, content: bytes, name: str = "a.wav") -> str:
    """The path under which the server keeps an uploaded file."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    return post(address, "upload", body, "multipart/form-data; boundary=x")[0]


def sent(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def assert_refused(answer: tuple[str, object], words: str = "") -> None:
    kind, said = answer
    assert kind == "error", said
    sentence = said["error"]
    assert words in sentence and "\n" not in sentence and sentence.endswith("."), sentence


@pytest.mark.parametrize("value", [None, -1, 1e308, float("nan"), "5; ls", {"x": 5}], ids=str)
def test_hostile_numbers(server, value):
    file = sent(upload(server[0], DOG.read_bytes()))
    assert_refused(call(server[0], "classify", [file, "esc10-soft-moa", value]), "top_k must be")
    for place, name in enumerate(("layer", "expert", "slot")):
        values = [0, 0, 0]
        values[place] = value
        answer = call(server[0], "routing", [file, "esc10-soft-moa", *values, "mhsa"])
        assert_refused(answer, f"{name} must be")
    assert_refused(call(server[0], "compare", ["tones", "linear", value, 1, "0"]), "shots must be")


@pytest.mark.parametrize("value", ["../../etc/passwd", "", "x" * 10**5, "\0"])
def test_hostile_texts(server, value):
    file = sent(upload(server[0], DOG.read_bytes()))
    assert_refused(call(server[0], "classify", [file, value, 5]), "bundle")
    assert_refused(call(server[0], "routing", [file, "esc10-soft-moa", 0, 0, 0, value]))
    assert_refused(call(server[0], "compare", [value, "linear", 1, 1, "0"]), "task")
    assert_refused(call(server[0], "compare", ["tones", value, 1, 1, "0"]), "method")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../etc/passwd", "softmoa/../app.py", "/proc/self/environ",
     "file:///etc/passwd", "\0", "x" * 5000],
)  # fmt: skip
def test_no_file_of_the_server_is_read(server, path):
    kind, said = call(server[0], "classify", [sent(path), "esc10-soft-moa", 5])
    assert kind == "error" and "root:" not in str(said)
    quoted = urllib.parse.quote(path)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{server[0]}gradio_api/file={quoted}", timeout=60)
    assert error.value.code in (400, 403, 404, 414, 431)


def test_the_server_is_not_made_to_fetch_from_its_own_network(server):
    hits = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Inside) as inside:
        Thread(target=inside.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{inside.server_port}/secret.wav"
        for file in (sent(address), sent("x.wav") | {"url": address}):
            assert call(server[0], "classify", [file, "esc10-soft-moa", 5])[0] == "error"
        inside.shutdown()
    assert hits == []


@pytest.mark.parametrize("name", ["../../../evil.wav", "..\\..\\evil.wav", "/evil.wav", "evil.py"])
def test_hostile_names_stay_in_the_folder_of_uploads(server, name):
    kept = Path(upload(server[0], DOG.read_bytes(), name)).resolve()
    assert kept.is_relative_to(server[1].resolve())
    kind, said = call(server[0], "classify", [sent(str(kept)), "esc10-soft-moa", 1])
    assert kind == "complete" and said[0]["labels"][0]["label"] == "dog bark"
    assert "/" not in said[0]["file"]


def test_a_refused_upload_leaves_nothing(server):
    before = {path for path in server[1].rglob("*") if path.is_file()}
    with pytest.raises(urllib.error.HTTPError) as error:
        upload(server[0], bytes(26_000_000))
    assert error.value.code == 413
    assert {path for path in server[1].rglob("*") if path.is_file()} == before


def test_malformed_sounds_over_http(server, tmp_path):
    """One in twenty of those above, through the running app."""
    for name, content in islice(malformed_sounds(tmp_path), 0, None, 20):
        file = sent(upload(server[0], content))
        kind, said = call(server[0], "classify", [file, "esc10-soft-moa", 1])
        if kind == "error":
            assert_refused((kind, said))
        else:
            probability = said[0]["labels"][0]["probability"]
            assert 0 <= probability <= 1, name


WRONG_KINDS = [None, -1, [], {"path": "../../etc/passwd"}, "x" * 10**5]
OURS = {
    "pick_patch": 2, "explain": 1, "judge": 2, "brush": 1, "planted": 5, "draw": 4, "play": 2,
    "follow_choice": 2, "classify": 3, "routing": 6, "compare": 5, "begin": 15, "estimating": 13,
    "turn": 4, "show_run": 2, "send_to_explore": 5, "suggest": 2, "open_saved": 4,
    "load_bundle": 2,
}  # fmt: skip


@pytest.mark.timeout(900)
def test_values_of_the_wrong_kind_end_at_once_and_the_server_goes_on(server):
    """Also events that are the page's own, but for `run_model`: gradio cannot say in JSON what it
    sends the page of the stage. What is not even of a field's kind never reaches us."""
    for (name, inputs), value in product(OURS.items(), WRONG_KINDS):
        kind, said = call(server[0], name, [value] * inputs)
        assert kind in ("error", "complete") and "Traceback" not in json.dumps(said), name
    file = sent(upload(server[0], DOG.read_bytes()))
    assert call(server[0], "classify", [file, "esc10-soft-moa", 1])[0] == "complete"


def test_who_floods_the_queue_is_refused_and_others_are_answered(server):
    file = sent(upload(server[0], DOG.read_bytes()))
    config = json.load(urllib.request.urlopen(f"{server[0]}config", timeout=60))
    asked = next(f["id"] for f in config["dependencies"] if f["api_name"] == "classify")
    values = {"data": [file, "esc10-soft-moa", 1], "fn_index": asked, "session_hash": "flood"}
    answers = []
    for _ in range(3 * limits().visitor_queue):
        try:
            answers.append(post(server[0], "queue/join", values))
        except urllib.error.HTTPError as error:
            answers.append(json.load(error))
    assert "event_id" in answers[0]
    assert BUSY.format(count=limits().visitor_queue) in [a.get("detail") for a in answers]
    assert call(server[0], "classify", [file, "esc10-soft-moa", 1])[0] == "complete"


def test_nobody_passes_the_queue(server):
    with pytest.raises(urllib.error.HTTPError) as error:
        post(server[0], "run/classify", {"data": [None, "esc10-soft-moa", 1]})
    assert error.value.code == 404
