"""Labelled words in pretraining: drawn evenly, cached, named from pooled features."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.pretraining import word_teacher
from analysis.pretraining import words as module
from analysis.pretraining.initialise import AST_SMALL
from analysis.pretraining.pretrain import Options, Sources
from analysis.pretraining.scenes import Scale
from analysis.pretraining.student import WORDS, Student
from analysis.pretraining.word_teacher import BANDS, WINDOW, WORD_EMBEDDING, filterbank
from analysis.pretraining.words import WORD_OF, Recordings, Words, change, fit_words, word_loss
from softmoa.model.ast import AST

WAKE, STUDENTS, MACHINE = (list(WORD_OF)[i] for i in (1, 2, 4))


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Two words of tones, one recorded three times as often, one recorded too seldom, one of a
    synthesiser, and a sound without a label."""
    monkeypatch.setenv("SOFTMOA_CORPUS", str(tmp_path))
    monkeypatch.setattr(module, "FEWEST", 2)
    time = np.arange(9_601) / 16_000
    sounds, rows = [], []
    for word, hertz, count, package in (
        ("low", 300, 9, WAKE),
        ("high", 2_000, 3, STUDENTS),
        ("rare", 900, 1, STUDENTS),
        ("said", 600, 4, MACHINE),
        ("unnamed", 1_200, 2, "klettres-data"),
    ):
        for k in range(count):
            tone = 8_000 * np.sin(2 * np.pi * (hertz + 5 * k) * time)
            path = {
                WAKE: f"audio/{word}/{k}",
                STUDENTS: f"ann-{word}-{k}.wav",
                MACHINE: f"{word}/voice-{k}.wav",
            }.get(package, f"{word}-{k}.ogg")
            rows.append((len(time) * len(sounds), len(time), package, path, "speech"))
            sounds.append(tone.astype(np.int16))
    np.concatenate(sounds).tofile(tmp_path / "corpus.i16")
    with (tmp_path / "corpus.csv").open("w", newline="") as table:
        header = ("start", "samples", "package", "path", "kind")
        csv.writer(table).writerows([header, *rows])
    return Recordings()


@pytest.fixture
def shards(recordings, monkeypatch):
    """Two shards of 60 recordings; the teacher tells the words apart."""

    def hear(waveforms):
        pitch = [int(torch.fft.rfft(w).abs().argmax()) / len(w) for w in waveforms]
        return np.array(pitch)[:, None] * np.ones(WORD_EMBEDDING)

    monkeypatch.setattr(module, "_recordings", lambda: recordings)
    monkeypatch.setattr(module.teacher, "SHARD", 60)
    monkeypatch.setattr(word_teacher, "hear", hear)
    module.word_folder().mkdir()
    for number in range(2):
        module._make_shard(number)
    return sorted(module.word_folder().iterdir())


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student(AST(replace(AST_SMALL, width=12, depth=1, heads=2)))


def test_every_word_is_drawn_as_often_and_synthetic_ones_make_half(recordings):
    rng = np.random.default_rng(0)
    drawn = [recordings.draw(rng) for _ in range(1000)]
    count = {word: sum(d == word for d, _ in drawn) for word in {word for word, _ in drawn}}
    assert set(count) == {"", f"{WAKE}:low", f"{STUDENTS}:high", f"{MACHINE}:said"}
    assert 200 < count[""] < 300
    assert 320 < count[f"{MACHINE}:said"] < 430
    assert 150 < count[f"{WAKE}:low"] < 230 and 150 < count[f"{STUDENTS}:high"] < 230


def test_a_changed_recording_is_a_sound_of_some_other_length(recordings):
    rng = np.random.default_rng(0)
    _, waveform = recordings.draw(rng)
    lengths = []
    for _ in range(20):
        changed = change(rng, waveform)
        assert changed.dtype == torch.float32 and 0 < changed.abs().max() <= 1
        lengths.append(len(changed))
    assert min(lengths) < len(waveform) < max(lengths)


def test_batches_come_from_the_cache_and_a_seed(shards):
    words = Words(shards, 16)
    assert len(words) == 120 and len(words.names) == 3
    drawn = [words.draw() for _ in range(4)]
    for spoken in drawn:
        assert spoken.mel.shape == (16, int(spoken.frames.max()), 128)
        assert spoken.embedding.shape == (16, WORD_EMBEDDING)
        assert spoken.words.min() >= -1 and spoken.words.max() <= 2
    words.restart(0)
    again = words.draw()
    assert again.words.equal(drawn[0].words) and again.frames.equal(drawn[0].frames)
    assert not Words(shards, 16, rank=1).draw().words.equal(drawn[0].words)


def test_more_shards_leave_the_numbers_of_words_as_they_are(shards):
    few, more = Words(shards[:1]), Words(shards)
    assert more.names[: len(few.names)] == few.names
    assert (more.numbers[: len(few)] == few.numbers).all()


def test_the_heads_of_words_are_solved_and_their_loss_reaches_the_encoder(shards, student):
    words = Words(shards, 16)
    before = word_loss(student, words.draw()).item()
    fit_words(student, words, batches=8)
    loss = word_loss(student, words.draw())
    assert loss.item() < before - 0.1
    loss.backward()
    assert student.to_words.weight.grad.abs().sum() > 0
    assert student.to_word_sound.weight.grad.abs().sum() > 0
    assert student.encoder.patches.weight.grad.abs().sum() > 0
    assert student.to_tags.weight.grad is None
    assert student.to_words.weight.shape[0] == WORDS


def test_recordings_without_a_label_are_not_named(shards, student):
    words = Words(shards, 16)
    words.numbers[:] = -1
    word_loss(student, words.draw()).backward()
    assert student.to_words.weight.grad is None
    assert student.to_word_sound.weight.grad.abs().sum() > 0


def test_a_known_scale_is_kept(shards):
    scale = Scale(torch.zeros(WORD_EMBEDDING), torch.ones(WORD_EMBEDDING))
    assert Words(shards, 4, scale=scale).scale is scale


def test_a_step_names_words_in_its_share_of_the_draws(shards, student):
    sources = Sources(None, None, Words(shards, 16))
    loss, heard = sources.loss(student, 0.19, Options(word_share=0.2))
    assert loss.item() > 0 and 16 * 0.3 < heard < 16 * 1.3  # seconds of 16 recordings
    with pytest.raises(AttributeError):  # a draw that falls to the sounds, of which there are none
        sources.loss(student, 0.21, Options(word_share=0.2))


def test_the_filterbank_hears_a_tone_in_its_band_and_the_middle_of_a_long_sound():
    time = torch.arange(WINDOW) / 16_000
    bank = filterbank(torch.sin(2 * torch.pi * 1_000 * time))
    assert bank.shape == (149, BANDS)
    mel = 2595 * np.log10(1 + np.array([1_000, 8_000]) / 700)
    assert (bank.argmax(dim=1) - mel[0] / mel[1] * (BANDS + 1) + 1).abs().max() <= 1
    click = torch.zeros(2 * WINDOW)
    click[WINDOW] = 1
    assert abs(int(filterbank(click).sum(dim=1).argmax()) - 149 // 2) <= 2
    silence = filterbank(torch.zeros(100))
    assert silence.shape == (149, BANDS) and silence.unique().numel() == 1
