"""The wheel: installed elsewhere, the package brings its weights, bundles and tasks."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_works_outside_the_repository(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True
    )
    [wheel] = tmp_path.glob("softmoa-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "softmoa", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    dog = tmp_path / "site" / "softmoa" / "assets" / "examples" / "dog_bark.ogg"
    assert "dog bark" in run("classify", str(dog), "--bundle", "esc10-soft-moa").splitlines()[0]
    assert '"name": "tones"' in run("tasks", "--json")
    assert "--port" in run("app", "--help")
