"""A bundle on labelled sounds: numbers by hand, and shipped bundles against their headers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from softmoa.cli import main
from softmoa.data import tasks
from softmoa.lens.classifier import bundles, open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.evaluation import Prediction, Unread, evaluate, lines, summary, unheard
from softmoa.methods import bundle
from softmoa.methods.bundle import BundleError
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"
DOG, RAIN = EXAMPLES / "dog_bark.ogg", EXAMPLES / "rain.ogg"


def test_numbers_of_a_hand_sized_evaluation():
    """Three of four dogs, and not the one cat."""
    pairs = [*[("dog", "dog")] * 3, ("dog", "cat"), ("cat", "bird")]
    found = summary([Prediction(Path("a.wav"), label, said, 0.5) for label, said in pairs])
    assert (found["clips"], found["accuracy"]) == (5, 3 / 5)
    assert found["balanced_accuracy"] == 0.75 / 2
    assert found["classes"] == [
        {"label": "dog", "clips": 4, "recall": 0.75, "mistakes": {"cat": 1}},
        {"label": "cat", "clips": 1, "recall": 0.0, "mistakes": {"bird": 1}},
    ]
    assert lines(found)[1:] == ["  dog: 75.0% of 4; taken for cat 1",
                                 "  cat: 0.0% of 1; taken for bird 1"]  # fmt: skip


def test_clips_are_classified_one_after_the_other_and_bad_ones_said():
    classifier = open_classifier("esc10-soft-moa")
    clips = [(DOG, "dog bark"), (Path("nowhere.wav"), "rain"), (RAIN, "rain")]
    first, second, third = evaluate(classifier, clips)
    assert (first.said, third.said) == ("dog bark", "rain")
    plain = dict(classify(classifier, DOG).top(1))
    assert first.probability == pytest.approx(plain["dog bark"], abs=1e-5)
    assert isinstance(second, Unread) and "no such file" in second.why


def test_a_bundle_without_the_labels_is_refused_before_anything_is_read():
    with pytest.raises(BundleError, match=r"no label 'cow' \(1 of 2 are missing\)"):
        evaluate(open_classifier("esc10-soft-moa"), [(DOG, "dog bark"), (DOG, "cow")])


def test_whether_clips_are_unheard():
    info, task = bundle.read_info(bundles()["tones-soft-moa"]), tasks.load("tones")
    assert info.test_clips == tasks.digest(task.test)
    assert unheard(info, task, task.test[::-1]) is True
    assert unheard(info, task, task.files) is False
    for unknown in (replace(info, test_clips=""), replace(info, task="initials")):
        assert unheard(unknown, task, task.test) is None


def test_a_shipped_bundle_is_as_good_as_its_header_says(capsys):
    code = main(["evaluate", "--task", "tones", "--bundle", "tones-soft-moa", "--json"])
    report = json.loads(capsys.readouterr().out)
    info = open_classifier("tones-soft-moa").info
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
    assert "80.0% of 5 right" in text and "rain: 66.7% of 3; taken for rooster 1" in text
    assert main(arguments) == 2
    assert "at least 3 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, words",
    [
        (["--task", "tones", "--all", "--test", "3"], "leave --test and --split-seed away"),
        (["--task", "tones", "--split-seed", "1"], "split of 'tones' is fixed"),
        (["--task", "initials"], "no label"),
        (["--task", "nothing"], "no task 'nothing'"),
        (["--task", "nothing", "--all"], "no task 'nothing'"),
    ],
)
def test_bad_words_get_one_sentence(capsys, options, words):
    assert main(["evaluate", "--bundle", "tones-soft-moa", *options]) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and said.err.count("Error: ") == 1
