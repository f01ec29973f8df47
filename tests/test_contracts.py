"""What others rely on, frozen: command line, HTTP endpoints, and the files that are shipped.

All of it is seen from outside. `pytest tests/test_contracts.py --rewrite-golden` writes
tests/golden anew; do so only to change a contract on purpose, and read the difference.
"""

import csv
import json
import os
import re
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from safetensors import safe_open

from softmoa.cli import main

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "assets"
DOG = "assets/examples/dog_bark.ogg"
CLIPS = [DOG, "assets/examples/rooster.ogg", "assets/examples/speech.flac"]
TOLERANCE = 2e-3  # processors round differently
NAMES = ("name", "task", "method", "backbone", "hub")  # whose values are part of a contract


@pytest.fixture
def same(request):
    """Assert that what was found is what a golden file holds, in the same order."""

    def check(name: str, found: object) -> None:
        path = ROOT / "tests" / "golden" / f"{name}.json"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(_written(found))
        kept = json.loads(path.read_text())
        assert _written(_settled(found, kept)).splitlines() == _written(kept).splitlines()

    return check


def _written(value: object) -> str:
    """As JSON, with lists of plain values on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\n\s*", " ", m[0]), text) + "\n"


def _settled(found, kept):
    """What was found, with the kept numbers in the place of those that are close to them."""
    if isinstance(found, float) and isinstance(kept, float):
        return kept if abs(found - kept) <= TOLERANCE else found
    if isinstance(found, dict) and isinstance(kept, dict):
        return {key: _settled(value, kept.get(key)) for key, value in found.items()}
    if isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        return [_settled(a, b) for a, b in zip(found, kept, strict=True)]
    return found


def kinds(value, key: str = ""):
    """Keys, types and lengths; the values of names, and what is true or false."""
    if isinstance(value, dict):
        return {name: kinds(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        found = [kinds(inner) for inner in value]
        alike = found == found[:1] * len(found)
        return [len(found), *(found[:1] if alike else found)]
    if value is None or isinstance(value, bool) or key in NAMES:
        return value
    return type(value).__name__


@pytest.fixture
def answer(capsys, monkeypatch):
    """The lines of JSON that a command prints, on a machine without datasets."""
    for name in [name for name in os.environ if name.startswith("SOFTMOA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOFTMOA_DATA", str(ROOT / "tests" / "golden"))
    monkeypatch.chdir(ROOT)

    def said(*words: str) -> list:
        assert main([*words, "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]

    return said


def test_classify(same, answer):
    reports = answer("classify", *CLIPS)
    assert [report["file"] for report in reports] == CLIPS
    reports += answer("classify", DOG, "--bundle", "esc10-soft-moa", "--top-k", "3")
    for report in reports:
        report["file"] = Path(report["file"]).name
        report["timing_ms"] = kinds(report["timing_ms"])
    same("classify", reports)


def test_compare(same, answer, tmp_path):
    options = "--task tones --methods linear,soft-moa --shots 2 --steps 2 --seeds 0".split()
    [rows] = answer("compare", *options, "--out", str(tmp_path))
    with (tmp_path / "results.csv").open(newline="") as table:
        header, *lines = csv.reader(table)
    assert len(lines) == len(rows) == 2
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    found = {
        "results.csv": header,
        "files": [path.relative_to(tmp_path).as_posix() for path in files],
        "events": keys_of_events((tmp_path / "events.jsonl").read_text()),
        "summary": [kinds(row) for row in rows],
    }
    same("compare", found)


def keys_of_events(log: str) -> dict[str, list[str]]:
    """The keys of every kind of event, in the order of their first."""
    found = {}
    for event in map(json.loads, log.splitlines()):
        assert found.setdefault(event["event"], list(event)) == list(event)
    return found


@pytest.mark.parametrize("command", ["tasks", "methods", "bundles", "backbones"])
def test_inventory(same, answer, command):
    [rows] = answer(command)
    same(command, [kinds(row) for row in rows])


def test_layouts_of_the_shipped_weights(same):
    """Grouped by what is identical; layers that are alike are one."""
    groups: dict[str, dict] = {}
    for path in [*sorted((ASSETS / "bundles").iterdir()), ASSETS / "ast-small.safetensors"]:
        with safe_open(path, "np") as file:
            header, tensors = file.metadata(), {}
            for key in sorted(file.keys()):
                part = file.get_slice(key)
                layout = f"{part.get_dtype()} {part.get_shape()}"
                layer = re.match(r"blocks\.(\d+)\.", key)
                name = key.replace(layer[0], "blocks.*.", 1) if layer else key
                tensors.setdefault(f"{name}: {layout}", []).extend([int(layer[1])] if layer else [])
        said = {
            key: list(json.loads(value)) if value.startswith("{") else value
            for key, value in sorted(header.items())
        }
        layout = {"metadata": said, "tensors": tensors}
        groups.setdefault(json.dumps(layout), {"files": [], **layout})["files"].append(path.name)
    same("layouts", list(groups.values()))


def test_the_recorded_comparison(same):
    with zipfile.ZipFile(ASSETS / "comparisons" / "initials.zip") as packed:
        log = packed.read("events.jsonl").decode()
        same("recorded", {"members": sorted(packed.namelist()), "events": keys_of_events(log)})


def test_http(same, server):
    client = Client(server[0], verbose=False)
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    found: dict = {
        name: {
            "parameters": {
                part["parameter_name"]: [
                    part["python_type"]["type"],
                    *([part["parameter_default"]] if part["parameter_has_default"] else []),
                ]
                for part in endpoint["parameters"]
            },
            "returns": [[p["label"], p["python_type"]["type"]] for p in endpoint["returns"]],
            "described": bool(endpoint["description"]),
        }
        for name, endpoint in endpoints.items()
    }
    said = client.predict(handle_file(ROOT / DOG), api_name="/classify")
    same("http", found | {"an answer of /classify": kinds(said)})
