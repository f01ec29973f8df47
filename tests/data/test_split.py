"""Splits of one's own sounds: shares by hand, groups, seeds, and invariants on drawn data."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmoa.data.split import assign
from softmoa.data.tasks import SPLITS, Row, TaskError


def rows(*labels: str, split: str = "", group: str = "") -> list[Row]:
    return [Row(Path(f"{label}-{k}.wav"), label, split, group) for k, label in enumerate(labels)]


def sizes(placed: list[Row], label: str = "a") -> tuple[int, ...]:
    found = Counter(row.split for row in placed if row.label == label)
    return tuple(found[split] for split in SPLITS)


@pytest.mark.parametrize(
    ("clips", "expected"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2)), (100, (60, 20, 20))],
)
def test_shares_of_a_class(clips, expected):
    placed = assign(rows(*"a" * clips, *"b" * 10))
    assert sizes(placed) == expected and sizes(placed, "b") == (6, 2, 2)


def test_a_seed_gives_one_split_and_another_seed_another():
    data = rows(*"a" * 20, *"b" * 20)
    assert assign(data, 3) == assign(data, 3) != assign(data, 4)
    again = {row.path: row.split for row in assign(data, 3)}
    reversed_ = assign([Row(Path("x") / r.path, r.label) for r in data], 3)
    assert [again[Path(r.path.name)] for r in reversed_] == [r.split for r in reversed_]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["0", "site-1/7", "zz"])
def test_one_more_clip_of_a_class_moves_hardly_any_other(name, seed):
    names = [f"site-{site}/{k}" for site in (0, 2) for k in range(10)]
    before = {
        row.path: row
        for row in assign([Row(Path(f"{c}/{n}.wav"), c) for c in "ab" for n in names], seed)
    }
    after = assign(
        [Row(Path(f"{c}/{n}.wav"), c) for c in "ab" for n in sorted([*names, name])], seed
    )
    moved = Counter(
        (row.label, before[row.path].split, row.split) for row in after if row.path in before
    )
    assert sizes(after) == sizes(after, "b") == (13, 4, 4)
    for label in "ab":
        for old, new in (("train", "test"), ("test", "train")):
            assert moved[label, old, new] <= 1
        assert sum(moved[label, split, split] for split in SPLITS) >= 18


def test_named_splits_stay_and_missing_ones_come_from_train():
    data = [*rows(*"aaaaabbbbb", split="train"), *rows(*"ab", split="test")]
    placed = assign(data)
    assert [row.split for row in placed[-2:]] == ["test", "test"]
    assert sizes(placed) == (4, 1, 1) and sizes(placed, "b") == (4, 1, 1)


def test_what_cannot_be_split_is_said():
    with pytest.raises(TaskError, match="class 'b' has 2 clips; at least 3 are needed"):
        assign(rows(*"aaabb"))
    with pytest.raises(TaskError, match="in 2 groups, which stay together: too few"):
        assign([*rows(*"aaabbb", group="x"), *rows(*"aaabbb", group="y")])
    with pytest.raises(TaskError, match="name their splits, and leave none to train"):
        assign([*rows(*"aaabbb", split="test"), *rows(*"aaabbb", split="valid")])
    with pytest.raises(TaskError, match="class 'b' has no clips to train on"):
        assign([*rows(*"aaa", split="train"), *rows(*"bbb", split="test")])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz")), min_size=9, max_size=40),
    st.integers(0, 5),
)
def test_groups_stay_together_and_every_class_can_be_trained(pairs, seed):
    data = [Row(Path(f"{k}.wav"), label, group=who) for k, (label, who) in enumerate(pairs)]
    try:
        placed = assign(data, seed)
    except TaskError:
        counts = Counter(label for label, _ in pairs)
        places = {label: {who for other, who in pairs if other == label} for label in counts}
        bound = {who for found in places.values() if len(found) == 1 for who in found}
        assert min(counts.values()) < 3 or len({who for _, who in pairs} - bound) < 2
        return
    assert [row.path for row in placed] == [row.path for row in data]
    assert len({(row.group, row.split) for row in placed}) == len({row.group for row in placed})
    assert {row.label for row in placed if row.split == "train"} == {row.label for row in placed}
