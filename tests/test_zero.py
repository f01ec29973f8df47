"""ZeroGPU: nothing happens without it; with it, the GPU is lent for as long as a run takes.

The package `spaces` exists on such machines only. What stands for it here pickles what goes in and
comes out, as the forked process there does.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from softmoa import experiment, plan, race, tasks, zero
from softmoa.classify import _forward_on_gpu
from softmoa.training import TrainingOptions

ROOT = Path(__file__).parents[1]

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
import json
from softmoa import zero
assert zero.PRESENT and zero.DEVICE == "cuda"
zero.DEVICE = "cpu"  # there is none here
import spaces
from softmoa import classify, experiment, race, tasks
from softmoa.training import TrainingOptions

classify.is_large = lambda model: True
dog = str(classify.weights.ASSETS / "examples" / "dog_bark.ogg")
result = classify.classify(classify.open_classifier("esc10-soft-moa"), dog)
choices = tuple(experiment.Choice.of(name) for name in ("linear", "soft-moa"))
training = TrainingOptions(epochs=1, seconds=60)
comparison = experiment.Comparison(choices, training, shots=2)
*_, last = race.compare("ast-small", tasks.load("tones"), comparison)
print(json.dumps({
    "label": result.top(1)[0][0], "layers": len(result.records), "lent": spaces.lent,
    "last": type(last).__name__, "tensors": len(last.state),
}))
"""


def test_nothing_happens_elsewhere():
    def work(x):
        return x

    assert not zero.PRESENT and zero.DEVICE == "cpu" and "spaces" not in sys.modules
    assert zero.on_gpu(lambda x: 1 / 0)(work) is work
    assert not hasattr(race.compare, "__wrapped__") and not hasattr(_forward_on_gpu, "__wrapped__")


def test_with_it_the_gpu_is_lent_and_only_plain_values_travel(tmp_path):
    (tmp_path / "spaces.py").write_text(SPACES)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "SPACES_ZERO_GPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["label"] == "dog bark" and said["layers"] == 6
    assert said["last"] == "RunFinished" and said["tensors"] > 0
    (first, short), (second, longer) = said["lent"]
    assert (first, second) == ("_forward_on_gpu", "compare")
    assert 3 <= short <= 5 < 15 < longer <= zero.LONGEST


@pytest.mark.parametrize("change", [{"epochs": 20}, {"seconds": 0.1}, {"steps": 2}])
def test_the_duration_follows_the_run(change):
    task, base = tasks.load("tones"), {"epochs": 4, "seconds": 60.0, "batch": 16}

    def lent(methods: tuple[str, ...] = ("soft-moa",), **options) -> float:
        choices = tuple(experiment.Choice.of(name) for name in methods)
        comparison = experiment.Comparison(choices, TrainingOptions(**base | options), shots=10)
        return race.seconds_lent("ast-small", task, comparison)

    assert lent(("linear", "soft-moa")) - race.PREPARING_SECONDS == pytest.approx(
        2 * (lent() - race.PREPARING_SECONDS)
    )
    # As the app plans a run that steps end: endless epochs, of which few are begun.
    few_steps = lent(epochs=plan.ENDLESS, steps=2)
    assert few_steps < lent(epochs=1, seconds=None) + 1
    assert (lent(**change) > lent()) is ("epochs" in change) and lent(**change) != lent()
