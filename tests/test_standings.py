"""The Compare tab's table and curves, from events with known answers."""

import json
from xml.etree import ElementTree

from gradio.utils import diff

from softmoa import run_directory
from softmoa.events import Planned, PlannedRun, RunEvent
from softmoa.scoreboard import Scoreboard
from softmoa.training import Evaluated, Finished, Started
from softmoa.ui import standings
from softmoa.ui.comparing import EXAMPLE
from tests.test_scoreboard import finished


def raced() -> Scoreboard:
    """Two seeds of a probe: the first is best at the start, the second after 5 steps."""
    runs = tuple(PlannedRun(f"linear, seed {s}", "linear", s, 0, 1e-3, {}) for s in (0, 1))
    plan = Planned(
        "t", "T", ("a", "b"), (0, 1, 1), ("",) * 3, "tiny", 10, None, True, {"seconds": None}, runs
    )
    board = Scoreboard().add_all([plan])
    for seed, accuracies in ((0, (0.9, 0.6, 0.7)), (1, (0.5, 0.8, 0.7))):
        name = f"linear, seed {seed}"
        events = [Started(10, 10)]
        events += [Evaluated(5 * k, k, 1.0 + k, 0.5, a) for k, a in enumerate(accuracies)]
        best = 5 * accuracies.index(max(accuracies))
        events.append(Finished(10, 3.0, best, max(accuracies), 9.0, 1.0))
        board.add_all(RunEvent(name, "linear", seed, event) for event in events)
        board.add(finished("linear", 2 / 3, seed))
    return board


def test_the_table_says_which_step_is_tested():
    """The curve ends elsewhere than the accuracy in the table, so the table must say where from."""
    page = "".join(standings.results_table(raced(), over=True))
    assert "at steps 0, 5</small>" in page and "is the start, before any training" in page


def test_what_was_kept_may_be_no_point_or_unsaid():
    """Without validation clips; and in a saved comparison whose line was lost."""
    board = raced()
    board.points, board.kept = [], {"linear, seed 0": 10}
    assert "at step 10</small>" in "".join(standings.results_table(board, over=True))
    board.kept = {}
    assert "<small>" not in "".join(standings.results_table(board, over=True))
    assert "race-kept" not in "".join(standings.curves(board, "step")[0])


def test_a_look_sends_what_changed_alone(tmp_path):
    """200 looks at a recorded comparison of six methods and three seeds, as the browser receives
    what changes on charts and table, stay under 160 kB."""
    run_directory.unpack(EXAMPLE, tmp_path)
    events = run_directory.read(tmp_path).events
    board, before, sent, looks = Scoreboard(), None, 0, 150
    for part in range(looks):
        board.add_all(events[part * len(events) // looks : (part + 1) * len(events) // looks])
        charts = [*standings.curves(board, "step"), standings.router_balance(board)]
        after = [*charts, standings.results_table(board, over=False)]
        if before is not None:
            sent += len(json.dumps(diff(before, after), separators=(",", ":")))
        before = after
    assert 20_000 < sent * 200 / looks < 160_000


def test_the_kept_points_are_marked_on_their_curves():
    accuracy, loss = standings.curves(raced(), "step")
    for page, places in ((accuracy, ("M0 0.9h0", "M5 0.8h0")), (loss, ("M0 0.5h0", "M5 0.5h0"))):
        tree = ElementTree.fromstring("".join(page))
        rings = [path.get("d") for path in tree.iter("path") if path.get("class") == "race-kept"]
        assert tuple(rings) == places
    by_seconds, _ = standings.curves(raced(), "seconds")
    assert "M1 0.9h0" in "".join(by_seconds)
