"""The repository is a Space as it is, and the check notices what would break one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.bench import check_space
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify

ROOT = Path(__file__).parents[2]
FILES = ("README.md", "requirements.txt", "packages.txt", "pyproject.toml", "app.py")


def test_this_repository_keeps_the_conventions():
    assert check_space.problems(ROOT) == []


@pytest.fixture
def space(tmp_path) -> Path:
    """The files that matter, and empty ones for what README.md links to."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    for name in (link for link in links if not (tmp_path / link).exists() and "." in link):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    assert check_space.problems(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    "file, old, new, words",
    [
        ("README.md", "sdk: gradio", "sdk: docker", "sdk must be gradio"),
        ("README.md", "sdk_version: 6.31.0", "sdk_version: 5.9.0", "not what requirements.txt"),
        ("README.md", "sdk_version: 6.31.0", "sdk_version: newest", "not one exact version"),
        ("README.md", 'python_version: "3.12"', "python_version: 3.10", "python_version 3.1 "),
        ("README.md", "colorFrom: blue", "colorFrom: teal", "colorFrom must be one of"),
        ("README.md", "app_file: app.py", "app_file: main.py", "main.py is not there"),
        ("README.md", "license: apache-2.0\n", "", "lacks license"),
        ("README.md", "emoji: 🔊", "emoji: loud", "one emoji"),
        ("README.md", "hf_oauth: true", "hf_oauth: false", "need hf_oauth: true"),
        ("README.md", "contribute-repos", "everything", "no scope everything"),
        ("README.md", "title: Soft-MoA Lab", "titel: Soft-MoA Lab", "no field titel"),
        ("README.md", "---\ntitle", "title", "no front matter"),
        ("README.md", "](assets/README.md)", "](assets/nothing.md)", "leads nowhere"),
        ("requirements.txt", "gradio>=6.31,<7", "gradio>=7,<8", "not what is installed"),
        ("requirements.txt", "soxr>=0.5,<2", "soxr", "no bounds"),
        ("requirements.txt", "soxr>=0.5,<2", "git+https://x.y/z", "not the name of a package"),
        ("requirements.txt", "soxr>=0.5,<2", "no-such-package-x>=1,<2", "not installed here"),
        ("packages.txt", "ffmpeg", "ffmpeg  # for sounds", "not the name of a Debian package"),
        ("app.py", "main(", "print(", "starts nothing"),
    ],
)
def test_what_would_break_a_space_is_noticed(space, file, old, new, words):
    path = space / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert any(words in problem for problem in check_space.problems(space))


def test_what_may_not_be_pushed_is_noticed(space):
    (space / "large.dat").write_bytes(bytes(11_000_000))
    (space / "here.py").write_text('PATH = "/home/me/data"\n')
    (space / "link").symlink_to(space / "app.py")
    subprocess.run(["git", "add", "-A"], cwd=space, check=True)
    found = check_space.problems(space)
    assert len(found) == 3
    for words in ("large.dat has 11 MB", "here.py names a path", "link is a link"):
        assert any(words in problem for problem in found)


@pytest.mark.slow
def test_it_starts_as_a_space_without_a_network():
    dog = ROOT / "assets" / "examples" / "dog_bark.ogg"
    assert check_space.start(ROOT) == classify(open_classifier(), dog).top(1)[0][0]
