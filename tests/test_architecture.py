"""The order of the rooms, what is required, what is shipped, and that pickle is never read."""

import ast
import re
import sys
import tomllib
from collections.abc import Collection
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "model", "methods", "training", "lens", "plots", "ui", "cli")
# module -> package
NAMED = {"PIL": "pillow", "huggingface_hub": "huggingface-hub", "sklearn": "scikit-learn"}
# Imported where they are used, with a sentence if absent.
EXTRAS = {"analysis", "av", "onnx", "onnxscript", "pyarrow", "spaces"}


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


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    paths = modules(f"softmoa/{room}") or [ROOT / "softmoa" / f"{room}.py"]
    ours = {name.split(".")[1] for path in paths for name in imports(path) if "softmoa." in name}
    assert ours & set(ROOMS) <= set(ROOMS[: ROOMS.index(room) + 1])


def test_no_modules_import_each_other_in_a_circle():
    ours = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules("softmoa") + modules("analysis")
    }
    graph = {name: {_module(found, ours) for found in imports(path)} for name, path in ours.items()}
    TopologicalSorter({name: found - {name} for name, found in graph.items()}).prepare()


def _module(name: str, ours: Collection[str]) -> str:
    return name if name in ours else name.rpartition(".")[0]


def test_the_requirements_are_what_is_imported():
    """No package that is not asked for, and none asked for that nothing needs."""
    asked = {
        re.split(r"[<>=]", line)[0] for line in (ROOT / "requirements.txt").read_text().split()
    }
    used = {name.split(".")[0] for path in modules("softmoa") for name in imports(path)}
    used -= sys.stdlib_module_names | {"softmoa", "__future__"}
    assert {NAMED.get(name, name) for name in used} - EXTRAS == asked


def test_every_package_is_in_the_wheel():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    ours = {".".join(p.parent.relative_to(ROOT).parts) for p in modules("softmoa")}
    assert set(named) == ours | {"softmoa.assets"}


def test_pickle_is_never_read():
    for path in modules("softmoa") + modules("analysis"):
        assert not imports(path) & {"pickle", "joblib", "dill"}, path
        text = path.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        assert path.relative_to(ROOT).parts[0] != "softmoa" or "torch.load(" not in text, path
