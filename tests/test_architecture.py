"""Imports go one way, and only the interface knows gradio."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "limits": set(),
    "folders": set(),
    "seeding": set(),
    "audio": {"limits"},
    "ast": set(),
    "moa": set(),
    "hub": set(),
    "weights": {"ast", "audio", "hub", "limits", "seeding"},
    "methods": {"ast", "moa", "methods", "seeding"},
    "recording": {"moa"},
    "contribution": {"ast", "recording"},
    "ablation": {"ast", "contribution", "moa", "recording"},
    "balance": {"contribution", "moa", "recording"},
    "by_hand": {"moa", "seeding"},
    "collapse": {"contribution", "moa", "recording", "seeding", "training"},
    "timeline": {"audio", "classify", "contribution", "recording"},
    "quiz": {"ablation", "audio", "balance", "classify", "contribution", "moa", "recording"},
    "listening": {"audio", "contribution"},
    "probe": {"ast", "audio"},
    "precision": set(),
    "training": {"audio", "moa", "precision"},
    "tasks": {"audio", "hub", "tasks"},
    "collection": {"audio", "folders", "tasks"},
    "bundle": {"audio", "ast", "methods", "weights"},
    "card": {"bundle", "methods"},
    "sharing": {"bundle", "card", "hub"},
    "classify": {
        "audio",
        "ast",
        "bundle",
        "contribution",
        "limits",
        "methods",
        "precision",
        "hub",
        "recording",
        "sharing",
        "weights",
        "zero",
    },
    "evaluation": {"audio", "bundle", "classify", "tasks"},
    "zero": set(),
    "events": {"bundle", "training"},
    "race": {"classify", "events", "experiment", "plan", "tasks", "zero"},
    "evidence": {"ablation", "ast", "classify", "contribution", "precision", "recording"},
    "siblings": {"ablation", "balance", "bundle", "classify", "methods", "moa", "recording"},
    "jobs": {"limits"},
    "recipes": {"training"},
    "plan": {"ast", "methods", "recipes", "training"},
    "experiment": {
        "ast",
        "bundle",
        "contribution",
        "events",
        "methods",
        "moa",
        "plan",
        "probe",
        "recording",
        "seeding",
        "tasks",
        "training",
        "weights",
    },
    "cost": {
        "audio",
        "experiment",
        "methods",
        "moa",
        "plan",
        "precision",
        "probe",
        "tasks",
        "training",
        "weights",
    },
    "scoreboard": {"events", "training"},
    "run_directory": {"bundle", "events", "experiment", "methods", "tasks", "training"},
    "export": {"ast", "classify", "contribution", "recording"},
    "plots": {"audio", "contribution", "plots"},
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "softmoa").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("softmoa"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    if room(path) in ("ui", "commands", "__main__", "__init__"):
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("softmoa.")}
    ours.discard("ASSETS")  # a path, not a module
    assert ours <= MAY_IMPORT[room(path)]


NAMED = {"PIL": "pillow", "huggingface_hub": "huggingface-hub"}  # module -> package
EXTRAS = {"av", "pyarrow", "spaces"}  # imported where they are used, with a sentence if absent


def test_the_requirements_are_what_is_imported():
    """No package that is not asked for, and none asked for that nothing needs."""
    asked = {
        re.split(r"[<>=]", line)[0] for line in (ROOT / "requirements.txt").read_text().split()
    }
    used = set()
    for path in [*modules("softmoa"), ROOT / "app.py"]:
        used |= {name.split(".")[0] for name in imports(path)}
    used -= sys.stdlib_module_names | {"softmoa", "__future__"}
    assert {NAMED.get(name, name) for name in used} - EXTRAS == asked


def test_every_package_is_in_the_wheel():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    ours = {".".join(p.parent.relative_to(ROOT).parts) for p in modules("softmoa")}
    assert set(named) == ours | {"softmoa.assets"}


def test_only_the_interface_imports_gradio():
    for path in modules("softmoa") + modules("analysis"):
        knows_gradio = any(name.split(".")[0] == "gradio" for name in imports(path))
        assert not knows_gradio or path.is_relative_to(ROOT / "softmoa" / "ui"), path


def test_analysis_never_imports_the_interface():
    for path in modules("analysis"):
        assert not any(name.startswith(("softmoa.ui", "app")) for name in imports(path)), path


def test_pickle_is_never_read():
    for path in modules("softmoa") + modules("analysis"):
        assert not imports(path) & {"pickle", "joblib", "dill"}, path
        text = path.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        assert path.relative_to(ROOT).parts[0] != "softmoa" or "torch.load(" not in text, path
