"""An estimate that is near what then happens, on the real backbone and a real task."""

import time

import pytest

from softmoa import cost, tasks, weights
from softmoa.events import RunFinished
from softmoa.experiment import compare
from softmoa.methods import METHODS
from softmoa.plan import plan
from softmoa.recipes import ESC, SHORT


def test_an_estimate_is_within_a_factor_of_two():
    base, task = weights.load("ast-small"), tasks.load("tones")
    comparison = plan(["linear", "soft-moa"], SHORT, 2, config=base.model.config, shots=8)
    expected = cost.estimate(base, task, comparison)
    began = time.perf_counter()
    finished = {
        event.method: event
        for event in compare(base, task, comparison)
        if isinstance(event, RunFinished)
    }
    spent = time.perf_counter() - began
    # The machine may be busy in one of the two and idle in the other.
    assert spent / 3 < expected.seconds < 3 * spent
    for of in expected.costs:
        result = finished[of.method]
        assert of.trained_parameters == result.trained_parameters
        assert result.peak_memory_mb / 1.5 < of.memory_mb < 1.5 * result.peak_memory_mb


def test_an_estimate_grows_with_what_is_asked_for():
    base, task = weights.load("ast-small"), tasks.load("tones")

    def seconds(amount=4, unit="epochs", **options) -> float:
        asked = plan(["adapter"], SHORT, amount, unit, config=base.model.config, **options)
        return cost.estimate(base, task, asked).seconds

    usual = seconds(shots=8)
    assert seconds(shots=8, seeds=(0, 1)) > usual
    assert seconds(8, shots=8) > usual
    assert seconds(1, "steps", shots=8) < usual < seconds(shots=16)
    slow = seconds(0.01, "seconds", shots=8)
    assert slow < usual


def test_the_papers_recipe_has_the_papers_rates():
    config = weights.load("ast-small").model.config
    for choice in plan(list(METHODS), ESC, config=config).choices:
        assert choice.learning_rate == METHODS[choice.method].learning_rate
    assert plan(["linear"], ESC, config=config).training.batch == 32


def test_a_task_with_too_few_clips_is_refused_before_the_run():
    base = weights.load("ast-small")
    asked = plan(["linear"], config=base.model.config, shots=10_000)
    with pytest.raises(tasks.TaskError, match="fewer than"):
        cost.estimate(base, tasks.load("tones"), asked)
