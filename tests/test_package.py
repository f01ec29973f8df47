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

    dog = tmp_path / "site" / "softmoa" / "assets" / "examples" / "dog_bark.ogg"
    commands = (
        ["classify", str(dog), "--bundle", "esc10-soft-moa"],
        ["tasks", "--json"],
        ["app", "--help"],
    )
    script = f"from softmoa.cli import main; print(*map(main, {commands!r}))"
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "dog bark" in said.splitlines()[0] and said.endswith("\n0 0 0\n")
    assert '"name": "tones"' in said and "--port" in said
