"""Whether this folder can be a Space of Hugging Face as it is: its conventions, checked offline.

    python -m analysis.bench.check_space [FOLDER] [--start]

Prints one line for each thing that would go wrong there, and exits with 1 if there is any. --start
also starts app.py as a Space on a CPU does, without a network, and asks it to name a sound.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub.repocard import metadata_load
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from analysis.bench.running_app import ROOT, running_app

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SCOPES = (
    "email", "read-repos", "gated-repos", "contribute-repos", "write-repos", "manage-repos",
    "inference-api", "jobs", "webhooks", "write-discussions", "read-billing",
)  # fmt: skip
NEEDED = ("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file", "license")
KNOWN = {
    *NEEDED, "python_version", "short_description", "models", "datasets", "tags", "thumbnail",
    "pinned", "hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes", "preload_from_hub",
    "suggested_hardware", "startup_duration_timeout", "fullWidth", "header", "disable_embedding",
    "custom_headers", "hf_oauth_authorized_org", "base_path",
}  # fmt: skip
LFS_FROM = 10e6  # bytes; above it the Hub takes a file by its store for large files only
LARGE_SUFFIXES = (".safetensors", ".zip", ".bin", ".npz", ".parquet", ".wav", ".flac", ".mp3")
SPACE_BYTES = 1e9
HERE_ONLY = re.compile(r"""["'(](/home/|/root/|/mnt/|/media/|/Users/|[A-Z]:\\\\)""")


def front_matter(folder: Path) -> Iterator[str]:
    try:
        card = metadata_load(folder / "README.md")
    except (OSError, ValueError) as error:
        yield f"README.md has no front matter that can be read: {str(error).splitlines()[0]}"
        return
    if not card:
        yield "README.md has no front matter."
        return
    for name in NEEDED:
        if not card.get(name):
            yield f"README.md: the front matter lacks {name}."
    for name in card.keys() - KNOWN:
        yield f"README.md: Spaces know no field {name}."
    if card.get("sdk") != "gradio":
        yield "README.md: sdk must be gradio."
    for name in ("colorFrom", "colorTo"):
        if card.get(name) not in COLOURS:
            yield f"README.md: {name} must be one of {', '.join(COLOURS)}."
    if not isinstance(card.get("emoji"), str) or len(card["emoji"]) > 4 or card["emoji"].isascii():
        yield "README.md: emoji must be one emoji."
    if len(str(card.get("short_description", ""))) > 60:
        yield "README.md: short_description may have 60 characters."
    if not re.fullmatch(r"3\.\d+(\.\d+)?", python := str(card.get("python_version", ""))):
        yield "README.md: python_version must be stated in quotes; the default is too old."
    elif Version(python) not in _python_of(folder):
        yield f"README.md: python_version {python} is not what pyproject.toml asks for."
    if not (folder / str(card.get("app_file"))).is_file():
        yield f"README.md: app_file {card.get('app_file')} is not there."
    for scope in card.get("hf_oauth_scopes") or ():
        if scope not in SCOPES:
            yield f"README.md: there is no scope {scope} of sign-in."
    if card.get("hf_oauth_scopes") and card.get("hf_oauth") is not True:
        yield "README.md: hf_oauth_scopes need hf_oauth: true."
    for name in [*(card.get("models") or ()), *(card.get("datasets") or ())]:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
            yield f"README.md: {name} is not written user/name."
    yield from _version(str(card.get("sdk_version")), folder)


def _python_of(folder: Path):
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return Requirement(f"python{project['requires-python']}").specifier


def _version(text: str, folder: Path) -> Iterator[str]:
    try:
        version = Version(text)
    except InvalidVersion:
        yield f"README.md: sdk_version {text} is not one exact version."
        return
    asked = [r for r in _requirements(folder) if isinstance(r, Requirement) and r.name == "gradio"]
    if not asked:
        yield "requirements.txt does not name gradio."
    elif version not in asked[0].specifier:
        yield f"README.md: sdk_version {version} is not what requirements.txt asks for, {asked[0]}."


def _requirements(folder: Path) -> Iterator[Requirement | str]:
    """Each line of requirements.txt, or its text if it is none."""
    for line in (folder / "requirements.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            try:
                yield Requirement(line)
            except InvalidRequirement:
                yield line


def requirements(folder: Path) -> Iterator[str]:
    for requirement in _requirements(folder):
        if isinstance(requirement, str) or requirement.url:
            yield f"requirements.txt: '{requirement}' is not the name of a package with bounds."
            continue
        signs = {bound.operator for bound in requirement.specifier}
        if not signs & {"==", "~="} and not (signs & {">=", ">"} and signs & {"<", "<="}):
            yield f"requirements.txt: {requirement.name} has no bounds below and above."
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"requirements.txt: {requirement.name} is not installed here, so it is untested."
        else:
            if version not in requirement.specifier:
                yield f"requirements.txt: {requirement} is not what is installed here, {version}."


def packages(folder: Path) -> Iterator[str]:
    path = folder / "packages.txt"
    for line in path.read_text().splitlines() if path.is_file() else ():
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line):
            yield f"packages.txt: '{line}' is not the name of a Debian package."


def entry(folder: Path) -> Iterator[str]:
    """A Space runs `python app.py`."""
    try:
        tree = ast.parse((folder / "app.py").read_text())
    except (OSError, SyntaxError):
        yield "app.py is not there, or is no Python."
        return
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    if not any(isinstance(call, ast.Name) and call.id == "main" for call in calls):
        yield "app.py starts nothing."


def files(folder: Path) -> Iterator[str]:
    """What git knows of, as that is what is pushed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name and (folder / name).is_file()]
    if not names:
        yield "This is no git repository with files."
    total = 0
    for name in names:
        path = folder / name
        size = path.stat().st_size
        total += size
        if size > LFS_FROM and path.suffix not in LARGE_SUFFIXES:
            yield f"{name} has {size / 1e6:.0f} MB, and the Hub takes its kind up to 10 MB."
        if path.is_symlink():
            yield f"{name} is a link."
        if path.suffix == ".py" and not name.startswith(("tests/", "analysis/")):
            if found := HERE_ONLY.search(path.read_text()):
                yield f"{name} names a path of one machine, {found[1]}."
    if total > SPACE_BYTES:
        yield f"The files have {total / 1e9:.1f} GB together; a Space has 1 GB."
    text = (folder / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"https?://", link) and not (folder / link).exists():
            yield f"README.md: the link to {link} leads nowhere."
        if link.startswith("/"):
            yield f"README.md: the link to {link} is absolute."


CHECKS = (front_matter, requirements, packages, entry, files)


def problems(folder: Path) -> list[str]:
    """Everything that would go wrong on a Space, a sentence each."""
    return [problem for check in CHECKS for problem in check(folder)]


def start(folder: Path) -> str:
    """Start the app as a Space on a CPU, without a network; what it heard in the dog's bark."""
    from gradio_client import Client, handle_file

    environment = os.environ | {
        "SYSTEM": "spaces",
        "SPACE_ID": "somebody/softmoa",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    with running_app(environment, folder) as app:
        sound = handle_file(folder / "assets" / "examples" / "dog_bark.ogg")
        answer = Client(app.address, verbose=False).predict(sound, api_name="/classify")
        return answer["labels"][0]["label"]


def main(
    folder: Annotated[Path, typer.Argument()] = ROOT,
    started: Annotated[
        bool, typer.Option("--start", help="also start the app as a Space does")
    ] = False,
) -> None:
    """Check the conventions of a Space."""
    found = problems(folder)
    print("\n".join(found) or f"{len(CHECKS)} kinds of conventions are kept.")
    if started:
        print(f"Started as a Space without a network, it hears: {start(folder)}.")
    raise typer.Exit(bool(found))


if __name__ == "__main__":
    typer.run(main)
