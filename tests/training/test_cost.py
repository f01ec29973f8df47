"""An estimate that is near what then happens, on the real backbone and a real task."""

from softmoa.data import tasks
from softmoa.methods import METHODS
from softmoa.model import weights
from softmoa.training import cost
from softmoa.training.compare import compare
from softmoa.training.events import RunFinished
from softmoa.training.plan import plan
from softmoa.training.recipes import ESC, SHORT


def test_an_estimate_knows_parameters_and_memory():
    base, task = weights.load("ast-small"), tasks.load("tones")
    comparison = plan(["linear", "soft-moa"], SHORT, 1, config=base.model.config, shots=4)
    expected = cost.estimate(base, task, comparison)
    finished = {
        event.method: event
        for event in compare(base, task, comparison)
        if isinstance(event, RunFinished)
    }
    assert expected.seconds > 0
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
