"""Comparisons behind the tab, in this process: what they leave behind, and the keys to them."""

import threading
import time
from pathlib import Path

import pytest
import torch

from softmoa import jobs, recipes, tasks
from softmoa.classify import load_backbone, open_classifier
from softmoa.plan import plan
from softmoa.ui import compare, comparing


def asked(*methods: str, epochs: int = 1, shots: int = 2):
    config = load_backbone(comparing.BACKBONE).model.config
    return plan(methods, recipes.SHORT, epochs, config=config, shots=shots)


def wait_for(condition, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("job-")]


def test_a_run_that_nobody_watches_leaves_no_thread_and_no_lock(monkeypatch):
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    job = comparing.begin(tasks.load("tones"), asked("soft-moa", epochs=30))
    with job.watched():
        assert wait_for(lambda: any(type(e).__name__ == "RunEvent" for e in job.events))
        assert jobs.busy() and threads()
    assert wait_for(lambda: job.over, 30)  # the page was closed
    job.wait()
    assert job.state == "stopped" and not threads() and not jobs.busy()
    model = load_backbone(comparing.BACKBONE).model
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(w.requires_grad and w.grad is not None for w in model.parameters())


def test_a_failing_run_leaves_no_lock_either(monkeypatch):
    def out_of_memory():
        yield 1
        raise torch.cuda.OutOfMemoryError("no memory")

    raised: list = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    job = jobs.start(out_of_memory)
    job.wait(10)
    assert job.state == "failed" and "fault" in job.message and not jobs.busy()
    assert [type(r.exc_value) for r in raised] == [torch.cuda.OutOfMemoryError]  # it is in the log
    following = jobs.start(lambda: (k for k in ()))
    following.wait(10)
    assert following.state == "finished"


def test_a_finished_run_can_be_found_classified_with_and_reopened():
    task = tasks.load("tones")
    job = comparing.begin(task, asked("linear"))
    with job.watched():
        job.wait(300)
    assert job.state == "finished"
    run = comparing.finished_run(job, "Linear probe, seed 0")
    key = comparing.bundle_key(job, run)
    path = comparing.bundle_of_key(key)
    assert str(path.parent) not in key and open_classifier(str(path)).labels == task.labels
    for other in ("", "run/x/y", "esc10-soft-moa", f"run/{job.id}/none", str(path)):
        assert comparing.bundle_of_key(other) is None
    assert all(not e.state for e in job.events if type(e).__name__ == "RunFinished")

    again = comparing.reopen(Path(compare.make_file("all", job.id)))
    assert again.over and again.note.task is not None
    assert comparing.finished_run(again, run.run).predicted == run.predicted
    assert comparing.bundle_path(again, run).read_bytes() == path.read_bytes()
    plain = comparing.reopen(job.note.folder / "events.jsonl")
    assert comparing.bundle_path(plain, run) is None


def test_own_tasks_are_offered_beside_the_embedded_ones():
    own = tasks.Task("mine", "My sounds", ("a", "b"), (), (), ())
    found = comparing.all_tasks([own])
    assert found["mine"] is own and "tones" in found
    assert ("My sounds", "mine") in compare._task_choices([own])


FORM = ["tones", [], ["linear"], 5, "epochs", 2, 1, "short", True, False, True]


@pytest.mark.parametrize(
    "place, value, words",
    [
        (0, "birds", "Choose a task"),
        (2, [], "at least one method"),
        (2, ["magic"], "at least one method"),
        (3, 7, "clips per class"),
        (4, "years", "Choose 1 to 30"),
        (5, float("nan"), "Choose 1 to 30"),
        (6, 4, "1 to 3 seeds"),
        (7, "none", "Choose"),
    ],
)
def test_what_the_form_may_not_say(place, value, words):
    asked_for = FORM[:place] + [value] + FORM[place + 1 :]
    with pytest.raises(tasks.TaskError, match=words):
        compare.asked_for(*asked_for)
    assert words in compare.describe(*asked_for)


def test_the_server_bounds_runs_and_seconds():
    many = ["linear", "lora", "adapter", "bitfit", "soft-moa"]
    with pytest.raises(tasks.TaskError, match="15 runs; at most 12"):
        compare.asked_for(*FORM[:2], many, *FORM[3:6], 3, *FORM[7:])
    assert compare.asked_for(*FORM)[1].training.seconds == compare.LIMITS.run_seconds
