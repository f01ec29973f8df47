"""What the README tells people to type works as written."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from softmoa.__main__ import main
from softmoa.card import CITATION
from softmoa.methods import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m softmoa (.+)$", README, flags=re.MULTILINE)


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert main(command.replace("runs/first", str(tmp_path)).split()) == 0
    assert capsys.readouterr().out


def test_every_comparison_names_its_folder():
    said = [" ".join(part.split()) for part in re.findall(r"`([^`]*compare --[^`]*)`", README)]
    assert said and all(" --out " in part for part in said)


def at(address: str, code: str) -> str:
    clip = ROOT / "assets" / "examples" / "dog_bark.ogg"
    return code.replace("http://127.0.0.1:7860", address.rstrip("/")).replace("bark.ogg", str(clip))


def test_the_http_examples_run(server):
    [python] = re.findall(r"```python\n(from gradio_client.*?)```", README, flags=re.DOTALL)
    exec(at(server[0], python), {})  # raises if an answer is an error
    [curl] = re.findall(r"```sh\n(server=.*?)```", README, flags=re.DOTALL)
    answer = subprocess.run(["sh", "-c", at(server[0], curl)], capture_output=True, text=True)
    assert "event: complete" in answer.stdout and '"dog bark"' in answer.stdout, answer.stderr


def test_a_method_of_ones_own(capsys):
    [code] = re.findall(r"```python\n(from dataclasses.*?)```", README, flags=re.DOTALL)
    try:
        exec(code, {"__name__": "readme"})
    finally:
        METHODS.pop("gate", None)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:-1] for line in printed] == [
        ["Linear", "probe,", "seed", "0", "0"],
        ["Gate,", "seed", "0", str(6 * 384)],
    ]
    assert all(float(line[-1]) > 0.5 for line in printed)  # chance is 25 %


def test_the_printed_tree_is_the_tree():
    """Every file and folder named in the annotated tree exists, and every module is named."""
    tree = README.partition("app.py                 ")[2].partition("```")[0]
    tree = tree.partition("\nanalysis/")[0]
    named = set(re.findall(r"^  ([\w/]+(?:\.py)?) ", tree, flags=re.MULTILINE))
    assert all((ROOT / "softmoa" / name).exists() for name in named)
    modules = {path.name for path in (ROOT / "softmoa").glob("*.py")} - {"__init__.py"}
    assert modules == {name for name in named if name.endswith(".py")}


def test_targets_of_the_makefile_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([\w-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_local_links_lead_somewhere():
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_verdicts_are_those_of_the_studies():
    """Every cell of the README's table of claims is in one row of a study's page."""
    pages = [page.read_text() for page in (ROOT / "analysis" / "results").glob("*.md")]
    found = [set(cells(line)) for page in pages for line in page.splitlines() if "| **" in line]
    claims = [cells(line) for line in README.splitlines() if re.match(r"\|.*\*\* \|$", line)]
    assert len(claims) >= 9
    for claim in claims:
        assert any(set(claim) <= row for row in found), claim


def test_the_accuracies_are_those_of_the_study():
    page = (ROOT / "analysis" / "results" / "methods.md").read_text()
    table = page.partition("## Every task\n\n")[2].partition("\n\n")[0]
    assert len(table.splitlines()) > 15 and table in README


def cells(line: str) -> list[str]:
    return [cell for cell in re.split(r"\s*\|\s*", line) if cell]


def test_the_citation_file_names_this_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["references"][0]["title"] in " ".join(CITATION.split())
