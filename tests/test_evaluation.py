"""A bundle on labelled sounds: numbers by hand, and shipped bundles against their headers."""

import json
import math
from pathlib import Path

import pytest
from scipy.stats import binomtest

from softmoa import classify, tasks
from softmoa.__main__ import main
from softmoa.bundle import BundleError
from softmoa.evaluation import Answer, Evaluation, check_labels
from softmoa.weights import ASSETS

EXAMPLES = ASSETS / "examples"


def answers(*pairs: tuple[str, str]) -> list[Answer]:
    return [Answer(Path("a.wav"), label, said, 0.5) for label, said in pairs]


def test_numbers_of_a_hand_sized_evaluation():
    """Three of four dogs, none of the one cat, and no bird."""
    given = [("dog", "dog")] * 3 + [("dog", "cat"), ("cat", "dog")]
    found = Evaluation.of(("dog", "cat", "bird"), answers(*given))
    assert found.clips == 5 and found.accuracy == pytest.approx(3 / 5)
    assert [found.of_class(label) for label in found.labels] == [4, 1, 0]
    assert found.recall("dog") == 0.75 and found.recall("cat") == 0
    assert math.isnan(found.recall("bird"))
    assert found.balanced_accuracy == pytest.approx(0.75 / 2)
    assert found.mistakes("dog") == [("cat", 1)] and found.mistakes("bird") == []


@pytest.mark.parametrize("right, clips", [(0, 1), (8, 10), (160, 160), (437, 500)])
def test_the_interval_is_wilsons(right, clips):
    given = [("a", "a")] * right + [("a", "b")] * (clips - right)
    expected = binomtest(right, clips).proportion_ci(0.95, "wilson")
    assert Evaluation.of(("a", "b"), answers(*given)).interval == pytest.approx(expected, abs=1e-6)


def test_nothing_to_judge():
    nothing = Evaluation.of(("a", "b"), [])
    assert all(map(math.isnan, (nothing.accuracy, nothing.balanced_accuracy, *nothing.interval)))


def test_a_bundle_without_the_labels_is_refused():
    with pytest.raises(BundleError, match=r"no label 'level' \(4 of 4 are missing\)"):
        check_labels(classify.open_classifier("esc10-soft-moa"), tasks.load("tones").labels)


def test_a_shipped_bundle_is_as_good_as_its_header_says(capsys):
    code = main(["evaluate", "--task", "tones", "--bundle", "tones-soft-moa", "--json"])
    report = json.loads(capsys.readouterr().out)
    info = classify.open_classifier("tones-soft-moa").info
    assert code == 0 and report["clips"] == len(report["answers"]) == 160
    assert info and report["accuracy"] == pytest.approx(info.metrics["test_accuracy"], abs=1e-6)
    right = sum(row["said"] == row["label"] for row in report["answers"])
    assert right == round(160 * report["accuracy"])
    assert [row["clips"] for row in report["classes"]] == [40] * 4


def clips_of(folder: Path, **classes: tuple[str, ...]) -> None:
    """Copies of gallery clips as one's own sounds, each a little different."""
    rows = ["path,label"]
    for name, labels in classes.items():
        data = next(EXAMPLES.glob(f"{name}.*")).read_bytes()
        for number, label in enumerate(labels):
            file = folder / f"{name}{number}.ogg"
            file.write_bytes(data + bytes(number))
            rows.append(f"{file.name},{label.replace('_', ' ')}")
    (folder / "clips.csv").write_text("\n".join(rows))


def test_all_of_ones_own_sounds(tmp_path, capsys):
    """Too few to train on, and of one rooster the label is wrong."""
    clips_of(tmp_path, dog_bark=("dog bark",), rain=("rain",) * 2, rooster=("rooster", "rain"))
    arguments = ["evaluate", "--task", str(tmp_path), "--bundle", "esc10-soft-moa"]
    assert main([*arguments, "--all"]) == 0
    text = capsys.readouterr().out
    assert "80.0 % of 5 clips of" in text and "rain: 66.7 % of 3; taken for rooster 1" in text
    assert main(arguments) == 2
    assert "at least 3 are needed" in capsys.readouterr().err


def test_the_test_clips_of_ones_own_sounds(tmp_path, capsys):
    clips_of(tmp_path, dog_bark=("dog bark",) * 5, rain=("rain",) * 5)
    assert main(["evaluate", "--task", str(tmp_path), "--bundle", "esc10-soft-moa"]) == 0
    assert "100.0 % of 2 test clips of" in capsys.readouterr().out
