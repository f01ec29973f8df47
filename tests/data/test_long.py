"""A sound that is heard in pieces is the sound that `load` gives in one."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from sounds import write_libav

from softmoa.data.audio import AudioError, load
from softmoa.data.long import survey


def heard(path, seconds=1e9):
    sound = survey(path, seconds)
    return sound, torch.cat(list(sound.pieces()))


def written(path, samples, rate=16_000, **how):
    soundfile.write(path, samples, rate, **how)
    return path


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (700_000, 2)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_pieces_are_the_whole(tmp_path, noise, rate, suffix):
    path = written(tmp_path / f"a.{suffix}", noise[: 25 * rate], rate)
    sound, pieces = heard(path)
    whole = load(path, 600).waveform
    assert sound.seconds == pytest.approx(len(whole) / 16_000, abs=1e-3)
    assert abs(len(pieces) - len(whole)) <= 1
    both = min(len(pieces), len(whole))
    assert torch.allclose(pieces[:both], whole[:both], atol=2e-5)


def test_what_is_odd_is_said_and_mended_over_all_of_it(tmp_path, noise):
    loud = noise[:500_000, 0].copy()
    loud[400_000] = 4  # far behind the first piece
    loud[10] = np.nan
    path = written(tmp_path / "loud.wav", loud, subtype="FLOAT")
    sound, pieces = heard(path)
    assert sound.notes == load(path, 600).notes and len(sound.notes) == 2
    assert torch.equal(pieces, load(path, 600).waveform)


def test_channels_that_cancel_later_on_are_heard(tmp_path, noise):
    sides = np.stack([noise[:, 0], -noise[:, 0]], axis=1)
    sides[:170_000] = 0
    path = written(tmp_path / "sides.wav", sides)
    sound, pieces = heard(path)
    assert "cancel" in sound.notes[0]
    assert torch.equal(pieces, load(path, 600).waveform)


def test_no_more_is_heard_than_asked_for(tmp_path, noise):
    sound, pieces = heard(written(tmp_path / "a.wav", noise), 12.5)
    assert sound.seconds == 12.5 and len(pieces) == 200_000
    assert sound.notes == ("Only the first 12.5 s were used.",)


def test_what_breaks_off_is_heard_up_to_there(tmp_path, noise):
    path = written(tmp_path / "a.flac", noise)
    path.write_bytes(path.read_bytes()[:-400_000])
    sound, pieces = heard(path)
    assert sound.notes == load(path, 600).notes and sound.notes
    assert torch.equal(pieces, load(path, 600).waveform)


def test_other_containers_are_heard_too(tmp_path, noise):
    path = write_libav(tmp_path / "a.m4a", noise[:400_000].T, 44_100, "aac", "ipod", "stereo")
    sound, pieces = heard(path)
    assert sound.seconds == pytest.approx(400_000 / 44_100, abs=0.05)
    assert torch.allclose(pieces, load(path, 600).waveform, atol=2e-5)


@pytest.mark.parametrize("content", [b"", b"no sound at all", None])
def test_what_is_no_sound_is_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError):
        survey(path, 10)


def test_memory_does_not_grow_with_the_sound(tmp_path):
    def most(seconds):
        path = written(tmp_path / f"{seconds}.wav", np.zeros(seconds * 16_000, np.int16))
        tracemalloc.start()
        sum(len(piece) for piece in survey(path, 1e9).pieces())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(600) < 1.1 * most(60)
