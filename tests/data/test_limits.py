"""The limits of a server: their values, their environment, and that they hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from softmoa.data.limits import PREFIX, LimitError, Limits

ROOT = Path(__file__).parents[2]


def test_the_environment_overrides_and_keeps_types():
    limits = Limits.of({"SOFTMOA_MAX_QUEUE": "3", "SOFTMOA_MAX_AUDIO_SECONDS": "7.5"})
    assert (limits.queue, limits.audio_seconds, limits.sessions) == (3, 7.5, 200)
    assert isinstance(limits.queue, int)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("QUEUE", "many", "QUEUE must be a valid integer.* not 'many'"),
        ("QUEUE", "0", "QUEUE must be greater than or equal to 1, not '0'"),
        ("AUDIO_SECONDS", "601", "must be less than or equal to 600"),
        ("AUDIO_SECONDS", "nan", "must be a finite number, not 'nan'"),
        ("QUEU", "3", "SOFTMOA_MAX_QUEU is unknown"),
    ],
)
def test_what_is_no_limit_is_refused(name, value, words):
    with pytest.raises(LimitError, match=words) as error:
        Limits.of({PREFIX + name: value})
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("command", [["app.py"], ["-m", "softmoa", "backbones"]])
def test_no_front_door_opens_on_a_mistyped_limit(command):
    result = subprocess.run(
        [sys.executable, *command],
        env={"SOFTMOA_MAX_QUEUE": "many", "PATH": ""},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: SOFTMOA_MAX_QUEUE must be a valid integer")
    assert result.stderr.count("\n") == 1


def test_nobody_is_told_what_is_done():
    script = (
        "from softmoa.cli import main; main(['backbones']); import softmoa.ui.page; "
        "from gradio import analytics; from huggingface_hub import constants; "
        "print(constants.HF_HUB_DISABLE_TELEMETRY, analytics.analytics_enabled())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.stdout.endswith("\nTrue False\n"), result.stderr
