"""What the Compare tab says of a comparison, from events with known answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gradio.utils import diff
from test_scoreboard import finished

from softmoa.training import run_directory
from softmoa.training.events import Planned, PlannedRun, ProbeScored, RunEvent
from softmoa.training.fit import Evaluated, Finished, Started, TrainingOptions
from softmoa.training.scoreboard import Scoreboard
from softmoa.ui import standings
from softmoa.ui.comparing import EXAMPLE
from softmoa.ui.figure import growth


def raced(clips: int = 3, **accuracy: tuple[float, ...]) -> Scoreboard:
    """A probe and others, with one test accuracy for each seed; each is evaluated twice."""
    named = {name.replace("_", "-"): of for name, of in accuracy.items()}
    runs = tuple(
        PlannedRun(f"{name}, seed {seed}", name, seed, 10 * k, 1e-3, {})
        for k, (name, of) in enumerate(named.items())
        for seed in range(len(of))
    )
    truth = tuple(k % 2 for k in range(clips))
    plan = Planned(
        "t",
        "T",
        ("a", "b"),
        truth,
        ("",) * clips,
        "tiny",
        1000,
        None,
        True,
        TrainingOptions(),
        runs,
    )
    board = Scoreboard().add_all([plan])
    for run in runs:
        for k, gain in enumerate((0.0, 0.1)):
            now = Evaluated(5 * k, k, 1.0 + k + run.seed, 0.5, 0.4 + gain + 0.2 * run.seed)
            board.add_all([RunEvent(run.run, run.method, run.seed, event) for event in
                           ([Started(10, 10)] * (not k) + [now])])  # fmt: skip
        board.add(RunEvent(run.run, run.method, run.seed, Finished(5, 3.0, 9.0, 1.0)))
        right = named[run.method][run.seed]
        predicted = tuple(t if k < round(right * clips) else 1 - t for k, t in enumerate(truth))
        board.add(finished_as(run, right, predicted))
    return board


def finished_as(run: PlannedRun, accuracy: float, predicted: tuple[int, ...]):
    row = finished(run.method, accuracy, run.seed)
    size = run.trained_parameters
    sure = (size / 100,) * len(predicted)  # no two methods are the same function
    return replace(row, run=run.run, predicted=predicted, confidence=sure, trained_parameters=size)


def test_curves_are_means_over_seeds():
    [probe] = standings.lines(raced(linear=(0.5, 0.5)), "accuracy", "seconds")
    assert probe.dash == "dot" and probe.x.tolist() == [1.5, 2.5]
    assert probe.mean.tolist() == pytest.approx([0.5, 0.6])
    assert probe.spread.tolist() == pytest.approx([np.sqrt(2) / 10] * 2)


def test_the_probe_is_a_reference_where_it_does_not_race():
    board = raced(soft_moa=(0.5,))
    board.add(ProbeScored(0, "valid", 0.7, (), ()))
    probe, _ = standings.lines(board, "accuracy", "step")
    assert probe.dash == "dot" and probe.mean.tolist() == [0.7, 0.7] and probe.x.tolist() == [0, 5]
    assert len(standings.lines(board, "loss", "step")) == 1


def test_a_seed_that_got_less_far_counts_where_it_got():
    board = raced(linear=(0.5, 0.5))
    board.points.pop()
    [probe] = standings.lines(board, "accuracy", "step")
    assert probe.x.tolist() == [0, 5] and probe.mean.tolist() == pytest.approx([0.5, 0.5])
    assert probe.spread[1] == 0


def test_the_table_is_led_by_the_best_on_validation():
    board = raced(linear=(0.5,), soft_moa=(0.9, 0.9, 0.9))
    board.finished = [
        replace(run, val_accuracy=0.8) if run.method == "soft-moa" else run
        for run in board.finished
    ]
    first, second = standings.rows(board, over=True)
    assert first[0] == "Soft-MoA" and first[2].startswith("90.0 ± 0.0")
    assert first[3] == "10 (1 %)" and first[-1] == "3 of 3" and second[-1] == "1 of 1"


def test_lanes_are_sorted_with_the_cost_beside_them():
    board = raced(linear=(0.5,), soft_moa=(0.9, 0.9, 0.9))
    board.finished = [replace(of, val_accuracy=0.5 + 0.2 * of.seed) for of in board.finished]
    picture = standings.lanes(board, over=True)
    first, second = picture.data
    assert [lane.y[0] for lane in picture.data] == ["Soft-MoA", "Linear probe"]
    assert first.x[1] == pytest.approx(0.7) and first.error_x.array[1] == pytest.approx(0.2)
    assert "Test: 90.0 ± 0.0 %" in first.hovertemplate and second.x[1] == pytest.approx(0.5)
    assert [words.text for words in picture.layout.annotations][:2] == ["10 · 4.0 s", "0 · 4.0 s"]


CLOSE, SEEDS = "Too close to call", "decide it:** three seeds"


@pytest.mark.parametrize(
    "accuracy, head, decides",
    [
        ({"linear": (0.5,) * 3, "soft_moa": (0.9,) * 3}, "Soft-MoA wins by 40.0 ± ", None),
        ({"linear": (0.5,), "soft_moa": (0.9,)}, "Soft-MoA is 40.0 ± ", SEEDS),
        ({"linear": (0.5,), "soft_moa": (0.5,)}, CLOSE, SEEDS),
        ({"linear": (0.5,) * 3, "soft_moa": (0.51,) * 3}, CLOSE, "times as many test clips"),
        ({"linear": (0.5,) * 3, "soft_moa": (0.5,) * 3}, CLOSE, "nothing in reach"),
        ({"linear": (0.99,) * 3, "soft_moa": (1.0,) * 3}, CLOSE, "a harder task"),
    ],
)
def test_the_verdict_and_what_would_decide_it(accuracy, head, decides):
    said = standings.verdict(raced(200, **accuracy))
    assert head in said and "of the backbone" in said
    assert decides in said if decides else "decide" not in said
    assert ("Cheapest above 90 %" in said) == (max(accuracy["soft_moa"]) >= 0.9)


def test_the_verdict_says_first_that_the_probe_is_beaten():
    board = raced(200, soft_moa=(0.9,), dense_moa=(0.9,))
    for right, said in ((100, "40.0 ± "), (179, "Too close")):
        answers = tuple(t if k < right else 1 - t for k, t in enumerate(board.plan.truth))
        board.add(ProbeScored(0, "test", right / 200, answers, (0.5,) * 200))
        assert standings.verdict(board).startswith(f"### {said}")


def test_one_method_gets_no_verdict():
    assert standings.NO_VERDICT in standings.verdict(raced(linear=(0.5,)))
    assert standings.NO_VERDICT in standings.verdict(Scoreboard())


def test_a_look_sends_what_changed_alone(tmp_path):
    """Looks at a recorded comparison, as the browser receives what changes."""
    run_directory.unpack(EXAMPLE, tmp_path)
    events = run_directory.read(tmp_path).events
    board, before, sent, looks = Scoreboard(), None, [], 30
    for part in range(looks):
        board.add_all(events[part * len(events) // looks : (part + 1) * len(events) // looks])
        curves, lanes = standings.curves(board, "accuracy", "step"), standings.lanes(board, False)
        charts = [curves, lanes, standings.balance(board)]
        after = [*map(growth, charts), standings.rows(board, over=False)]
        if before is not None:
            sent.append(len(json.dumps(diff(before, after), separators=(",", ":"))))
        before = after
    assert sum(sent) / looks < 20_000 and max(sent) < 100_000  # of 35 runs
