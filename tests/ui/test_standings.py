"""What the Compare tab says of a comparison, from events with known answers."""

from dataclasses import replace

import pytest
from test_scoreboard import finished

from softmoa.training.events import Planned, PlannedRun, ProbeScored, RouterBalance
from softmoa.training.fit import TrainingOptions
from softmoa.training.scoreboard import Scoreboard
from softmoa.ui import standings


def raced(clips: int = 3, **accuracy: tuple[float, ...]) -> Scoreboard:
    """A probe and others, with one test accuracy for each seed."""
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
        right = named[run.method][run.seed]
        predicted = tuple(t if k < round(right * clips) else 1 - t for k, t in enumerate(truth))
        size = run.trained_parameters
        sure = (size / 100,) * clips  # no two methods are the same function
        row = finished(run.method, right, run.seed, predicted)
        board.add(replace(row, confidence=sure, trained_parameters=size))
    return board


CLOSE, SEEDS = "Too close to call", "decide it:** three seeds"


@pytest.mark.parametrize(
    "accuracy, head, decides",
    [
        ({"linear": (0.5,) * 3, "soft_moa": (0.9,) * 3}, "Soft-MoA wins by 40.0 ± ", None),
        ({"linear": (0.5,), "soft_moa": (0.9,)}, "Soft-MoA is 40.0 ± ", SEEDS),
        ({"linear": (0.5,), "soft_moa": (0.5,)}, f"{CLOSE}: Linear probe and Soft-MoA are", SEEDS),
        ({"linear": (0.5,) * 3, "soft_moa": (0.51,) * 3}, CLOSE, "times as many test clips"),
        ({"linear": (0.5,) * 3, "soft_moa": (0.5,) * 3}, CLOSE, "nothing in reach"),
        ({"linear": (0.99,) * 3, "soft_moa": (1.0,) * 3}, CLOSE, "a harder task"),
    ],
)
def test_the_verdict_and_what_would_decide_it(accuracy, head, decides):
    won, said = standings.verdict(raced(200, **accuracy))
    assert head in won and "of the backbone" in won
    assert decides in said if decides else "decide" not in said
    assert ("worse: Linear probe, 0 parameters, " in said) == (CLOSE in head)


def test_the_verdict_says_first_that_the_probe_is_beaten():
    board = raced(200, soft_moa=(0.9,), dense_moa=(0.9,))
    for right, said in ((100, "Soft-MoA is 40.0 ± "), (179, "Too close")):
        answers = tuple(t if k < right else 1 - t for k, t in enumerate(board.plan.truth))
        board.add(ProbeScored(0, "test", right / 200, answers, (0.5,) * 200))
        assert standings.verdict(board)[0].startswith(f"### {said}")


def test_a_linear_run_is_not_taken_for_the_probe_it_began_with():
    board = raced(200, linear=(0.6,), soft_moa=(0.6,))
    answers = tuple(t if k < 100 else 1 - t for k, t in enumerate(board.plan.truth))
    board.add(ProbeScored(0, "test", 0.5, answers, (0.5,) * 200))
    assert "above the linear probe before training (50.0%)" in standings.verdict(board)[1]


def test_the_verdict_says_who_collapsed():
    board = raced(200, soft_moa=(0.9,), topk_moa=(0.8,))
    assert "Collapsed" not in standings.verdict(board)[1]
    board.add(RouterBalance("a", "topk-moa", 0, 8, ((0.97, 0.01, 0.01, 0.01), (1, 0, 0, 0))))
    board.add(RouterBalance("b", "soft-moa", 0, 8, ((0.25,) * 4, (0.5, 0.5, 0, 0))))
    said = "at work: Top-k MoA (1.1 of 4). Not: Soft-MoA (3.0 of 4)."
    assert said in standings.verdict(board)[1]


def test_the_verdict_names_what_is_as_good_for_less():
    board = raced(200, bitfit=(0.7,), linear=(0.5,), soft_moa=(0.71,))
    assert "not clearly worse: BitFit, 0 parameters, " in standings.verdict(board)[1]
    for right, said in ((100, "BitFit"), (139, "the linear probe before training, 0 parameters.")):
        answers = tuple(t if k < right else 1 - t for k, t in enumerate(board.plan.truth))
        board.add(ProbeScored(0, "test", right / 200, answers, (0.5,) * 200))
        assert f"not clearly worse: {said}" in standings.verdict(board)[1]


def test_the_probe_has_a_row_that_is_never_ranked():
    board = raced(200, soft_moa=(0.5,), bitfit=(0.4,))
    assert [row[0] for row in standings.table(board, True)] == ["Soft-MoA", "BitFit"]
    for split, accuracy in (("valid", 0.75), ("test", 0.625)):
        board.add(ProbeScored(0, split, accuracy, (), ()))
    [*ranked, probe] = standings.table(board, True)
    assert probe == ["Not ranked: the linear probe", "75.0%", "62.5%", "0 (0%)", "", "", ""]
    assert ranked == [*standings.rows(board, True).values()]
