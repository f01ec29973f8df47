"""What the README and docs/ tell people to type works as written."""

import contextlib
import io
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from softmoa.cli import main
from softmoa.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "analysis" / "results" / "README.md"]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
BLOCK = re.compile(r"```(sh|python)\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
BLOCKS = [(page, *found) for page, text in TEXT.items() for found in BLOCK.findall(text)]


@pytest.mark.parametrize("page, kind, code, shown", BLOCKS, ids=lambda text: text[:40])
def test_a_code_block_runs(page, kind, code, shown, tmp_path, request, monkeypatch):
    monkeypatch.chdir(ROOT)
    code = code.replace("--out tones", f"--out {tmp_path}/tones")
    if "127.0.0.1:7860" in code and not code.startswith("make"):
        address, _ = request.getfixturevalue("server")
        bark = ROOT / "assets" / "examples" / "dog_bark.ogg"
        code = code.replace("http://127.0.0.1:7860", address.rstrip("/"))
        code = code.replace("bark.ogg", str(bark))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run = {"python": run_python, "sh": run_shell}[kind]
        run(code.replace("runs/first", str(tmp_path / "first")))
    if shown:
        assert printed.getvalue() == shown
    if "gate" in code:
        assert_gate_trained(printed.getvalue())


def run_python(code: str) -> None:
    known = dict(METHODS)
    try:
        exec(code, {"__name__": "page"})
    finally:
        METHODS.clear()
        METHODS.update(known)


def run_shell(code: str) -> None:
    """Commands of the package run here; others must name a target, an extra or a module."""
    if "curl" in code:
        answer = subprocess.run(["sh", "-c", code], capture_output=True, text=True)
        assert "event: complete" in answer.stdout and '"dog bark"' in answer.stdout, answer.stderr
        return
    for line in code.splitlines():
        words = line.split("#")[0].replace('"', "").split()
        if words[:3] == ["python", "-m", "softmoa"]:
            assert main(words[3:]) == 0, line
        elif words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        elif words[:2] == ["python", "-m"]:
            module = ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), line
        else:
            pytest.fail(f"nobody checks what this line says: {line}")


def assert_gate_trained(printed: str) -> None:
    rows = [line.split() for line in printed.splitlines()]
    assert [row[:-1] for row in rows] == [
        ["Linear", "probe,", "seed", "0", "0"],
        ["Gate,", "seed", "0", str(6 * 384)],
    ]
    assert all(float(row[-1]) > 0.5 for row in rows)  # chance is 25 %


@pytest.mark.parametrize("page", TEXT)
def test_links_and_extras_exist(page):
    text, folder = TEXT[page], (ROOT / page).parent
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert (folder / link).exists(), link
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"pip install '\.\[([\w-]+)\]'", text):
        assert extra in project["optional-dependencies"], extra


def test_what_any_page_names_is_there():
    paths = r"(?<![\w/.-])((?:analysis|softmoa|docs|assets|tests)/[\w./*-]*\w)"
    tops = [ROOT / top for top in ("analysis", "assets", "docs", "softmoa", "tests")]
    for page in (ROOT / "README.md", *(page for top in tops for page in top.rglob("*.md"))):
        text = page.read_text().replace("NAME", "*")
        for name in re.findall(paths, text):
            assert [*ROOT.glob(name)], f"{page}: {name}"
        for name in re.findall(r"python -m ((?:analysis|softmoa)\b[\w.]*)", text):
            module = ROOT / name.replace(".", "/")
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), name


def test_the_printed_tree_is_the_tree():
    tree = TEXT["README.md"].partition("app.py         starts")[2].partition("```")[0]
    named = set(re.findall(r"^  ([\w/]+?)/? ", tree.partition("\nanalysis/")[0], re.MULTILINE))
    rooms = {p.name for p in (ROOT / "softmoa").iterdir() if not p.name.startswith("_")}
    assert named | {"cli.py"} >= rooms and all((ROOT / "softmoa" / n).exists() for n in named)


def test_the_readme_is_short_and_the_citation_names_this_version():
    assert len(TEXT["README.md"].splitlines()) < 150
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
