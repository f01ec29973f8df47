"""Devices by name; ZeroGPU's GPU lent for as long as a run takes.

The package `spaces` exists on such machines only. What stands for it here pickles what goes in and
comes out, as the forked process there does.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softmoa.data import tasks
from softmoa.model import device
from softmoa.training import driver, plan
from softmoa.training.fit import TrainingOptions
from softmoa.training.plan import Choice, Comparison

ROOT = Path(__file__).parents[2]

SPACES = """
import functools, inspect, pickle

lent = []

def again(value):
    return pickle.loads(pickle.dumps(value))

def GPU(duration):
    def decorate(function):
        @functools.wraps(function)
        def call(*args):
            args = again(args)
            lent.append([function.__name__, duration(*args)])
            return again(function(*args))

        @functools.wraps(function)
        def steps(*args):
            args = again(args)
            lent.append([function.__name__, duration(*args)])
            for value in function(*args):
                yield again(value)

        return steps if inspect.isgeneratorfunction(function) else call
    return decorate
"""

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from softmoa.model import device
assert device.zero_gpu() and device.LENT == "cuda"
device.LENT = "cpu"  # there is none here
import spaces
from softmoa import ASSETS
from softmoa.data import tasks
from softmoa.lens import run
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.training import driver
from softmoa.training.fit import TrainingOptions
from softmoa.training.plan import Choice, Comparison

run.is_large = lambda model: True
dog = str(ASSETS / "examples" / "dog_bark.ogg")
result = classify(open_classifier("esc10-soft-moa"), dog)
choices = tuple(Choice.of(name) for name in ("linear", "soft-moa"))
training = TrainingOptions(epochs=1, seconds=60)
comparison = Comparison(choices, training, shots=2)
task = tasks.load("tones")
task = replace(task, valid=task.valid[:4], test=task.test[:4])
*_, last = driver.run("ast-small", task, comparison, Path(sys.argv[1]))
print(json.dumps({
    "label": result.top(1)[0][0], "layers": len(result.records), "lent": spaces.lent,
    "last": type(last).__name__,
}))
"""


@pytest.mark.parametrize(
    "cuda, mps, best", [(0, False, "cpu"), (0, True, "mps"), (2, True, "cuda:0")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(device.choose("auto")) == best and str(device.choose("cpu")) == "cpu"
    if cuda:
        assert str(device.choose("cuda")) == "cuda:0" and str(device.choose("cuda:1")) == "cuda:1"
    for name in ("cuda:2", "tpu", "", *["cuda"] * (not cuda), *["mps"] * (not mps)):
        with pytest.raises(device.DeviceError, match=f"no device '{name}' here; there are auto, "):
            device.choose(name)


def test_the_default_is_what_was_used_or_named_in_the_environment(monkeypatch):
    monkeypatch.setattr(device, "_default", None)
    monkeypatch.setenv("SOFTMOA_DEVICE", "nowhere")
    with pytest.raises(device.DeviceError, match="nowhere"):
        device.default()
    monkeypatch.setenv("SOFTMOA_DEVICE", "cpu")
    assert device.default() == torch.device("cpu")
    assert device.use("cpu") is device.default()


def test_with_it_the_gpu_is_lent_and_only_plain_values_travel(tmp_path):
    (tmp_path / "spaces.py").write_text(SPACES)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "run"],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "SPACES_ZERO_GPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["label"] == "dog bark" and said["layers"] == 6
    assert said["last"] == "RunFinished" and len(list(tmp_path.glob("run/bundles/*"))) == 2
    (first, short), (second, longer) = said["lent"]
    assert (first, second) == ("_on_lent_gpu", "_compare")
    assert 3 <= short <= 5 < longer <= device.LONGEST


def test_the_duration_follows_the_run():
    task, base = tasks.load("tones"), {"epochs": 4, "seconds": 60.0, "batch": 16}

    def lent(methods: tuple[str, ...] = ("soft-moa",), **options) -> float:
        choices = tuple(Choice.of(name) for name in methods)
        comparison = Comparison(choices, TrainingOptions(**base | options), shots=10)
        return driver.seconds_lent("ast-small", task, comparison)

    assert lent(("linear", "soft-moa")) - driver.PREPARING_SECONDS == pytest.approx(
        2 * (lent() - driver.PREPARING_SECONDS)
    )
    assert lent(epochs=20) > lent() > lent(steps=2) and lent() > lent(seconds=0.1)
    # As the app plans a run that steps end: endless epochs, of which few are begun.
    assert lent(epochs=plan.ENDLESS, steps=2) < lent(epochs=1, seconds=None) + 1
