"""One headline from probabilities, by hand."""

import pytest
import torch

from softmoa.data.audio import SILENT
from softmoa.lens.classifier import open_classifier
from softmoa.lens.headline import ancestors, headline

LOUD = torch.full((1600,), 0.1)


def said(probabilities: dict[str, float], sound=LOUD, multilabel=True, sure=0.5) -> str:
    values = torch.tensor(list(probabilities.values()))
    return str(headline(tuple(probabilities), values, sound, multilabel=multilabel, sure=sure))


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ({"Animal": 0.9, "Fowl": 0.8, "Chicken, rooster": 0.6}, "Chicken, rooster"),
        ({"Music": 0.9, "Trumpet": 0.55}, "Trumpet"),
        ({"Music": 0.9, "Trumpet": 0.45}, "Music, perhaps Trumpet"),
        ({"Music": 0.9, "Trumpet": 0.24, "Speech": 0.4}, "Music"),
        ({"Music": 0.9, "Brass instrument": 0.3, "Trumpet": 0.26, "Drum": 0.28, "Bell": 0.25},
         "Music, perhaps Drum or Trumpet"),
        ({"Music": 0.7, "Trumpet": 0.6, "Speech": 0.8}, "Speech"),  # the most probable branch
        ({"Music": 0.9, "Trumpet": 0.6, "Speech": 0.7}, "Trumpet"),
        ({"Bird": 0.6, "Crow": 0.65, "Screaming": 0.64, "Caw": 0.52}, "Caw"),
        ({"Vehicle": 0.6, "Train": 0.45}, "Vehicle"),
        ({"Vehicle": 0.4, "Train": 0.3, "Speech": 0.1}, "Not sure: perhaps Train"),
        ({"Vehicle": 0.4, "Train": 0.3, "Rain": 0.35, "Wind": 0.25},
         "Not sure: perhaps Rain or Train"),
        ({"Dog": 0.45, "Bark": 0.4, "Bow-wow": 0.35}, "Not sure: perhaps Dog"),
        ({"Bark": 0.45, "Dog": 0.4, "Bow-wow": 0.35}, "Not sure: perhaps Bark or Bow-wow"),
        ({"Animal": 0.45, "Bark": 0.4, "Crow": 0.3}, "Not sure: perhaps Bark or Crow"),
        ({"Dog": 0.11, "Cat": 0.09}, "Not sure: perhaps Dog"),
        ({"Dog": 0.09, "Cat": 0.04}, "Not sure"),
        ({"Silence": 0.54, "Plop": 0.06}, "Mostly silence"),
        ({"Silence": 0.54, "Plop": 0.16}, "Mostly silence, perhaps Plop"),
    ],
)  # fmt: skip
def test_the_most_specific_label_that_is_probable_enough(probabilities, expected):
    assert said(probabilities) == expected


def test_silence_is_told_by_the_level_or_where_nothing_else_is_sure():
    quiet, just = SILENT / 2 * torch.ones(16_000), 1.01 * SILENT * torch.ones(160)
    assert said({"Speech": 0.9}, quiet) == "Silence"
    assert said({"Silence": 0.9, "Bell": 0.6}) == "Bell"
    assert said({"Speech": 0.9}, torch.cat([quiet, just, quiet])) == "Speech"
    assert said({"Speech": 0.9}, 0.1 * torch.ones(1)) == "Speech"


def test_labels_that_exclude_each_other_are_no_kinds_of_each_other():
    names = {"Animal": 0.5, "Dog": 0.3, "silence": 0.2}
    assert said(names, multilabel=False) == "Animal"
    assert said({"Dog": 0.05, "Silence": 0.95}, multilabel=False) == "Silence"
    unsure = said({"yes": 0.45, "no": 0.3, "so": 0.25}, multilabel=False)
    assert unsure == "Not sure: perhaps yes or no"


def test_the_tree_of_audioset():
    assert {"Brass instrument", "Musical instrument", "Music"} <= ancestors("Trumpet")
    assert ancestors("Tap") >= {"Door", "Generic impact sounds"}  # a label may have two parents
    assert ancestors("dog bark") == ancestors("Music") == frozenset()
    tags = open_classifier().labels
    assert [tag for tag in tags if not ancestors(tag)] == ["Animal", "Music"]
