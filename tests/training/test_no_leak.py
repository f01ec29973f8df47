"""What the test clips hold reaches no choice: not the plan, the cost, the probe, or a weight."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoders import loaded, tiny

from softmoa.data import mels, tasks
from softmoa.data.mels import MelCache
from softmoa.model import device
from softmoa.training import cost
from softmoa.training.compare import compare
from softmoa.training.events import ProbeScored, RunEvent, RunFinished, TrainedBundle
from softmoa.training.fit import Step, TrainingOptions
from softmoa.training.plan import Choice, Comparison


@pytest.mark.parametrize("kept", [True, False], ids=["mels kept", "mels computed"])
@pytest.mark.parametrize("name", tasks.TASKS)
def test_no_test_clip_is_opened_before_the_end_of_all_choices(name, kept, monkeypatch):
    """Nothing is chosen once the first step is made: a schedule is fixed and ends with its last
    weights. With other sounds in the test clips all weights come out the same."""
    if name not in tasks.available():
        pytest.skip("its sounds are not at hand")
    task = tasks.load(name)
    task = replace(task, valid=task.valid[:20], test=task.test[:20])
    monkeypatch.setattr(device, "room_for", lambda *_: torch.device("cpu") if kept else None)
    base = loaded(tiny())
    choices = Choice.of("soft-moa", 1), Choice.of("linear", 1)
    training = TrainingOptions(steps=2)
    comparison = Comparison(choices, training, seeds=(0, 1), shots=1, interleave=False)

    label_of = {file.path: file.label for file in task.files}
    tested = {file.path for file in task.test}

    def trained(offset: float) -> list[dict[str, torch.Tensor]]:
        opened: set[Path] = set()

        def heard(path: Path, _: float) -> torch.Tensor:
            opened.add(path)
            loudness = 1 + label_of[path] + (offset if path in tested else 0.0)
            return torch.full((6400,), loudness / 100)

        monkeypatch.setattr(mels, "_heard", heard)
        monkeypatch.setattr(mels, "CACHE", MelCache(2**20))
        cost._reading.cache_clear()
        cost.estimate(base, task, comparison)
        states, chosen, steps = [], 0, 0
        for event in compare(base, task, comparison):
            if isinstance(event, ProbeScored) and event.split == "valid":
                chosen += 1
            elif isinstance(event, RunEvent) and isinstance(event.event, Step):
                steps += 1
            elif isinstance(event, TrainedBundle):
                states.append(event.state)
            elif isinstance(event, RunFinished):
                assert len(event.predicted) == len(task.test)
            if tested & opened:
                assert chosen == 2 and steps  # the probes of both seeds are fixed, a run is begun
        assert tested <= opened
        return states

    first, second = trained(0.0), trained(3.0)
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
