"""Every benchmark in its official layout, on tiny trees of real sound files; folds; the recipes."""

from pathlib import Path

import pytest
from sounds import noise, write

from softmoa import ASSETS
from softmoa.data import tasks
from softmoa.data.benchmarks import ESC10_NAMES
from softmoa.data.tasks import TaskError
from softmoa.methods import bundle


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    return tmp_path


def sound(path: Path, rate: int = 16_000, channels: int = 1) -> None:
    """0.3 s of noise; what it is does not matter here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = noise(int(0.3 * rate) * channels, 0.1).reshape(-1, channels)
    write(path, samples, rate, format={".opus": "OGG"}.get(path.suffix, path.suffix[1:].upper()))


@pytest.fixture
def esc50(root):
    """Three classes in five folds; "chainsaw" and "dog" belong to ESC-10."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, category, esc10 in ((0, "dog", True), (41, "chainsaw", True), (9, "crow", False)):
        for fold in range(1, 6):
            name = f"{fold}-100{target}-A-{target}.wav"
            sound(root / "ESC-50-master" / "audio" / name, 44_100)
            lines.append(f"{name},{fold},{target},{category},{esc10},100{target},A")
    (root / "ESC-50-master" / "meta").mkdir()
    (root / "ESC-50-master" / "meta" / "esc50.csv").write_text("\n".join(lines))


def test_esc50_has_five_folds_in_the_order_of_its_targets(esc50):
    task = tasks.load("esc50")
    assert task.labels == ("dog", "crow", "chainsaw") and task.groups == tuple("12345")
    assert {f.group for f in task.test} == {"5"} and {f.group for f in task.valid} == {"4"}
    assert task.counts == {"train": (3, 3, 3), "valid": (1, 1, 1), "test": (1, 1, 1)}
    assert [mel.shape for mel, _ in tasks.log_mels(task.test)] == [(28, 128)] * 3


def test_the_fold_before_the_test_fold_validates(esc50):
    for test, valid in (("1", "5"), ("2", "1"), ("5", "4")):
        task = tasks.load("esc50", test=test)
        assert {f.group for f in task.test} == {test} and {f.group for f in task.valid} == {valid}
        assert {f.group for f in task.train} == set("12345") - {test, valid}


def test_esc10_is_found_in_esc50(esc50):
    """Under the names that it was published with, which the bundles know: a dog is a dog bark."""
    task = tasks.load("esc10")
    assert task.labels == ("dog bark", "chainsaw") and len(task.files) == 10
    assert {task.labels[f.label] for f in task.files if "-1000-" in f.path.name} == {"dog bark"}
    known = bundle.read_info(ASSETS / "bundles" / "esc10-soft-moa.safetensors").labels
    assert {*task.labels, *ESC10_NAMES.values()} <= {*known}


def test_urbansound8k_validates_on_a_training_fold(root):
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for class_id, name in ((1, "car_horn"), (0, "air_conditioner")):
            file = f"{fold}00{class_id}-{class_id}-0-0.wav"
            sound(root / "UrbanSound8K" / "audio" / f"fold{fold}" / file, 48_000, channels=2)
            lines.append(f"{file},{fold}00{class_id},0.0,0.3,1,{fold},{class_id},{name}")
    (root / "UrbanSound8K" / "metadata").mkdir()
    (root / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv").write_text("\n".join(lines))
    task = tasks.load("urbansound8k")
    assert task.labels == ("air conditioner", "car horn")
    assert task.groups == tuple(str(fold) for fold in range(1, 11))  # 10 after 9
    assert {f.group for f in task.test} == {"10"} and {f.group for f in task.valid} == {"9"}
    for fold in task.groups:
        again = tasks.load("urbansound8k", test=fold)
        assert {f.group for f in again.test} == {fold}
        assert not {f.path for f in again.test} & {f.path for f in again.train + again.valid}
    assert len(tasks.log_mels(task.test)) == 2


@pytest.mark.parametrize("folder", ["SpeechCommands", "SpeechCommands/speech_commands_v0.02"])
def test_speech_commands_follows_the_official_lists(root, folder):
    base = root / folder
    for word in ("yes", "no", "_background_noise_"):
        for speaker in ("0a7c2a8d", "1b88bf70", "2c7c33e8"):
            sound(base / word / f"{speaker}_nohash_0.wav")
    (base / "validation_list.txt").write_text("yes/1b88bf70_nohash_0.wav\nno/1b88bf70_nohash_0.wav")
    (base / "testing_list.txt").write_text("no/2c7c33e8_nohash_0.wav\n")
    task = tasks.load("speech-commands")
    assert task.labels == ("no", "yes")
    assert task.counts == {"train": (1, 2), "valid": (1, 1), "test": (1, 0)}
    assert [f.group for f in task.test] == ["2c7c33e8"]
    assert task.about.endswith("Here are 2 of its 35 classes.")
    with pytest.raises(TaskError, match="split of 'speech-commands' is fixed"):
        tasks.load("speech-commands", test="0a7c2a8d")


def test_fluent_speech_commands_makes_intents_of_three_columns(root):
    base = root / "fluent_speech_commands_dataset"
    rows = {
        "train": ["s1,turn on the lights,activate,lights,none", "s1,louder,increase,volume,none"],
        "valid": ["s2,kitchen lights on,activate,lights,kitchen"],
        "test": ["s3,turn on the lights,activate,lights,none"],
    }
    (base / "data").mkdir(parents=True)
    for split, lines in rows.items():
        out = [",path,speakerId,transcription,action,object,location"]
        for k, line in enumerate(lines):
            speaker, rest = line.split(",", 1)
            path = f"wavs/speakers/{speaker}/{split}{k}.wav"
            sound(base / path)
            out.append(f"{k},{path},{speaker},{rest}")
        (base / "data" / f"{split}_data.csv").write_text("\n".join(out))
    task = tasks.load("fluent-speech-commands")
    assert task.labels == (
        "activate / lights / kitchen", "activate / lights / none", "increase / volume / none",
    )  # fmt: skip
    parts = [[file.path.name for file in getattr(task, split)] for split in tasks.SPLITS]
    assert parts == [["train0.wav", "train1.wav"], ["valid0.wav"], ["test0.wav"]]
    assert [f.group for f in task.files] == ["s1", "s1", "s2", "s3"]


def test_what_is_missing_or_damaged_is_named(root, esc50):
    (root / "ESC-50-master" / "audio" / "3-1009-A-9.wav").unlink()
    with pytest.raises(TaskError, match="1 clips of 'esc50' are missing, such as .*3-1009-A-9.wav"):
        tasks.load("esc50")
    table = root / "ESC-50-master" / "meta" / "esc50.csv"
    table.write_text("filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1")
    with pytest.raises(TaskError, match="Line 2 of esc50.csv breaks off"):
        tasks.load("esc50")
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="esc50.csv in .* is not a text in UTF-8"):
        tasks.load("esc50")
    (root / "SpeechCommands").mkdir()
    with pytest.raises(TaskError, match="no validation_list.txt"):
        tasks.load("speech-commands")
