"""Labelled words in pretraining: drawn evenly, changed on the way, named from pooled features."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis import words as module
from analysis.initialise import AST_SMALL
from analysis.pretrain import Options, Sources
from analysis.student import Student
from analysis.words import WORD_OF, Words, fit_words, word_loss
from softmoa.ast import AST


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Two words of tones, one recorded three times as often, one recorded too seldom, and one of a
    synthesiser."""
    monkeypatch.setenv("SOFTMOA_CORPUS", str(tmp_path))
    monkeypatch.setattr(module, "FEWEST", 2)
    time = np.arange(9_601) / 16_000
    sounds, rows, (_, wake, students, machine) = [], [], WORD_OF
    for word, hertz, count in (
        ("low", 300, 9), ("high", 2_000, 3), ("rare", 900, 1), ("said", 600, 4),
    ):  # fmt: skip
        for k in range(count):
            tone = 8_000 * np.sin(2 * np.pi * (hertz + 5 * k) * time)
            package, path = {
                "low": (wake, f"audio/{word}/{k}"),
                "said": (machine, f"{word}/voice-{k}.wav"),
            }.get(word, (students, f"ann-{word}-{k}.wav"))
            rows.append((len(time) * len(sounds), len(time), package, path))
            sounds.append(tone.astype(np.int16))
    np.concatenate(sounds).tofile(tmp_path / "corpus.i16")
    with (tmp_path / "corpus.csv").open("w", newline="") as table:
        csv.writer(table).writerows([("start", "samples", "package", "path"), *rows])
    return Words(16)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student(AST(replace(AST_SMALL, width=12, depth=1, heads=2)), words=3)


def test_every_word_is_drawn_as_often_and_from_a_seed(words):
    """And synthetic words make half of what is drawn."""
    assert [word for _, word in words.rows] == ["low", "said", "high"]
    drawn = [words.draw() for _ in range(40)]
    low, said, high = torch.bincount(torch.cat([spoken.words for spoken in drawn])).tolist()
    assert 250 < said < 390 and 120 < low < 200 and 120 < high < 200  # of 640
    assert all(s.mel.shape == (16, int(s.frames.max()), 128) for s in drawn)
    words.restart(0)
    again = words.draw()
    assert torch.equal(again.words, drawn[0].words) and torch.equal(again.frames, drawn[0].frames)
    other = Words(16, rank=1).draw()
    assert not torch.equal(other.words, drawn[0].words)


def test_the_head_of_words_is_solved_and_its_loss_reaches_the_encoder(words, student):
    before = word_loss(student, words.draw()).item()
    fit_words(student, words, batches=8)
    loss = word_loss(student, words.draw())
    assert loss.item() < before - 0.1
    loss.backward()
    assert student.to_words.weight.grad.abs().sum() > 0
    assert student.encoder.patches.weight.grad.abs().sum() > 0
    assert student.to_tags.weight.grad is None


def test_a_step_names_words_in_its_share_of_the_draws(words, student):
    sources = Sources(None, None, words)
    loss, heard = sources.loss(student, 0.19, Options(word_share=0.2))
    assert loss.item() > 0 and 16 * 0.3 < heard < 16 * 1.0  # seconds of 16 recordings
    with pytest.raises(AttributeError):  # a draw that falls to the sounds, of which there are none
        sources.loss(student, 0.21, Options(word_share=0.2))
