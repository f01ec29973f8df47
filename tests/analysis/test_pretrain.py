"""The pretraining recipe: gradients over processes, targets in their places, what is held out."""

import csv
import multiprocessing
import os
import socket
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import typer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from analysis.pretraining import pretrain, pretrain_ablations, train_tags, validation
from analysis.pretraining.initialise import AST_SMALL
from analysis.pretraining.packages import PACKAGES, TEST_PACKAGES
from analysis.pretraining.pretrain import Options, Run, Sources, average_gradients, schedule
from analysis.pretraining.pretrain_ablations import MaskedPatches
from analysis.pretraining.scenes import Batch, Batches, Clips, Scenes, Targets
from analysis.pretraining.speech_teacher import ctranslate2_tensors
from analysis.pretraining.student import Student, loss_of
from analysis.pretraining.teacher import TAGS, clip_weights
from analysis.pretraining.train_tags import calibrate, solve
from analysis.pretraining.validation import Validation
from softmoa.model.ast import AST


def gradient_of_half(rank: int, port: int, answers) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model, x = toy()
    model(x[4 * rank : 4 * rank + 4]).square().mean().backward()
    model.unused.grad = None  # as a head that this process's batch did not need
    average_gradients(model)
    answers.put((rank, [p.grad.tolist() for p in model.parameters()]))
    dist.destroy_process_group()


def toy() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.register_parameter("unused", nn.Parameter(torch.zeros(5)))
    return model, torch.randn(8, 3)


def test_two_processes_see_the_gradient_of_the_joint_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=gradient_of_half, args=(rank, port, answers)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    model, x = toy()
    model(x).square().mean().backward()
    expected = [torch.zeros(5) if p.grad is None else p.grad for p in model.parameters()]
    for gradients in got.values():
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(torch.tensor(ours), theirs)


def tiny_student(seed=0):
    torch.manual_seed(seed)
    return Student(AST(replace(AST_SMALL, width=12, depth=1, heads=2, mlp=24)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Shards of noise for every source."""
    monkeypatch.setenv("SOFTMOA_CORPUS", str(tmp_path))
    rng = np.random.default_rng(0)
    scene = {"mel": (20, 480, 128), "tags": (20, 9, 521), "embedding": (20, 9, 1024)}
    for home, shapes in (
        *((f"scenes/{n:04d}", scene) for n in range(validation.HELD_OUT_SHARDS + 1)),
        ("speech-scenes/0000", scene | {"speech": (20, 30, 384)}),
        ("words/0000", {"mel": (20, 240, 128), "embedding": (20, 2048)}),
    ):
        shard = tmp_path / home
        shard.mkdir(parents=True)
        for name, shape in shapes.items():
            np.save(shard / f"{name}.npy", rng.standard_normal(shape).astype(np.float16))
    np.save(tmp_path / "words/0000/frames.npy", np.full(20, 60))
    np.save(tmp_path / "words/0000/word.npy", np.array(["p:yes", "p:no", "", ""] * 5))
    return tmp_path


def begun(options, **changes):
    run = Run(tiny_student(), replace(options, **changes))
    run.home.mkdir(parents=True, exist_ok=True)
    return run


def test_a_step_computes_where_the_student_is(cache):
    """By fake tensors, which refuse to mix devices."""
    sources = Sources.open(Options(scenes_per_step=2), 0, {})
    drawn = [sources.sounds.draw(), sources.speech.draw()]
    student = tiny_student()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in student.modules():
            for key, weight in list(module.named_parameters(recurse=False)):
                setattr(module, key, nn.Parameter(torch.empty(weight.shape, device="cuda")))
        for batch in drawn:
            assert loss_of(student, batch.to(student.encoder.device)).device.type == "cuda"
        with pytest.raises(RuntimeError, match="device"):
            loss_of(student, drawn[0])


def test_a_device_that_is_not_there_is_refused_at_once():
    with pytest.raises(typer.Exit) as refused:
        pretrain.main(None, on="cuda:7")
    assert refused.value.exit_code == 2


SHORT = Options("short", minutes=1, scenes_per_step=2, speech_share=0.3, word_share=0.4)


def test_a_run_goes_on_where_it_was_interrupted(cache, monkeypatch):
    clock = iter(range(100_000))  # every step takes a second
    monkeypatch.setattr(pretrain.time, "monotonic", lambda: next(clock))
    run = begun(SHORT)
    assert not run.resumable
    run.begin(Sources.open(SHORT, 0, run.scales))
    run.leg(Sources.open(SHORT, 0, run.scales), until=3)
    run.save()
    again = begun(SHORT)
    again.resume()
    assert again.resumable and (again.steps, again.seconds) == (3, 3)
    assert set(again.scales) == {"embedding", "speech", "word"}
    for going_on in (run, again):
        torch.manual_seed(1)  # of SpecAugment
        going_on.leg(Sources.open(SHORT, 0, going_on.scales), until=6)
    for ours, theirs in zip(run.average.parameters(), again.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(run.average.encoder.cls, run.student.encoder.cls)


def test_a_checkpoint_of_other_options_is_refused_but_not_for_more_time(cache):
    begun(SHORT).save()
    begun(SHORT, minutes=9).resume()
    with pytest.raises(ValueError, match="choose another --name"):
        begun(SHORT, rate=1e-3).resume()


def test_the_best_average_is_kept_apart_and_every_probe_is_a_line_of_the_curve(cache, monkeypatch):
    run = begun(SHORT)
    for mean in (0.5, 0.7, 0.6):
        monkeypatch.setattr(validation, "measure", lambda _, m=mean: Validation(m, m, m))
        torch.nn.init.constant_(run.average.encoder.cls, mean)
        run.probe()
    rows = list(csv.DictReader((run.home / "curve.csv").open()))
    assert [row["mean"] for row in rows] == ["0.5", "0.7", "0.6"]
    kept = pretrain.load_embedded(run.home / "best.safetensors").model
    last = pretrain.load_embedded(run.home / "average.safetensors").model
    assert kept.cls[0].item() == pytest.approx(0.7, abs=1e-3)
    assert last.cls[0].item() == pytest.approx(0.6, abs=1e-3)


def test_scenes_that_validate_are_not_trained_on(cache):
    sources = Sources.open(SHORT, 0, {})
    assert len(sources.sounds.scenes) == 20


@pytest.fixture
def shards(tmp_path):
    """Ten scenes whose speech target names its scene and column."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "0000"
    folder.mkdir()
    column = np.arange(30)[None, :, None] + 100 * np.arange(10)[:, None, None]
    arrays = {
        "mel": np.repeat(column[:, :, 0], 16, axis=1)[..., None] * np.ones(128),
        "tags": rng.standard_normal((10, 9, 521)),
        "embedding": rng.standard_normal((10, 9, 1024)),
        "speech": column * np.ones(384),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(np.float16))
    return [folder]


def test_crops_keep_sound_and_speech_target_together(shards, monkeypatch):
    batches = Batches(Scenes(shards), 2)
    monkeypatch.setattr("analysis.pretraining.scenes.augment", lambda mel, rng, widest: mel)
    monkeypatch.setattr(batches, "standardise", lambda targets: targets)
    short = 0
    for _ in range(60):
        batch = batches.draw()
        speech, frames = batch.targets.speech[..., 0], batch.mel.shape[1]
        assert speech.shape == (len(batch.mel), -(-frames // 16))
        scene = batch.mel[:, : frames // 16 * 16, 0].unflatten(1, (-1, 16)).mean(dim=2)
        # A crop may begin within a column: half of one is the most it can be off.
        assert (scene - speech[:, : scene.shape[1]]).abs().max() <= 0.5
        if not batch.targets.tags.shape[1]:
            short += 1
            assert frames <= 128 and not batch.targets.embedding.shape[1]
            assert len(batch.mel) * speech.shape[1] <= 60  # no more tokens than of two scenes
    assert 10 < short < 40


def test_a_speech_batch_trains_the_speech_head_and_others_do_not(shards):
    student = tiny_student()
    mel = torch.randn(2, 480, 128)
    targets = Targets(torch.rand(2, 9, 521), torch.randn(2, 9, 1024))
    loss_of(student, Batch(mel, targets, 1)).backward()
    assert student.to_speech.weight.grad is None
    assert student.to_tags.weight.grad.abs().sum() > 0
    spoken = Targets(targets.tags, targets.embedding, torch.randn(2, 30, 384))
    loss_of(student, Batch(mel, spoken, 1)).backward()
    assert student.to_speech.weight.grad.abs().sum() > 0
    word = Batch(
        torch.randn(2, 43, 128),
        Targets(torch.ones(2, 0, 521), torch.ones(2, 0, 1024), torch.randn(2, 3, 384)),
        1,
    )
    student.zero_grad()
    loss_of(student, word).backward()
    assert student.to_speech.weight.grad.abs().sum() > 0 and student.to_tags.weight.grad is None


def test_the_schedule_warms_up_in_steps_and_ends_at_zero():
    assert schedule(0, 0.0, 100) == 0.01
    assert schedule(99, 0.0, 100) == 1.0
    assert schedule(10_000, 0.5, 100) == pytest.approx(0.5)
    assert schedule(10_000, 1.0, 100) == 0.0


def test_clips_of_test_packages_are_never_drawn():
    held_out = sorted(TEST_PACKAGES)[0]
    rows = [
        {"package": package, "kind": kind}
        for package in (held_out, PACKAGES[0].name)
        for kind in ("effects", "music", "speech", "notes")
    ]
    weights = clip_weights(np.eye(8, 521), rows)
    assert weights[:4].tolist() == [0, 0, 0, 0]
    assert weights[4:] == pytest.approx([0.6, 0.12, 0.13, 0.15])


def test_a_model_file_of_ctranslate2_is_read(tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 4.0]], np.float16)
    name = b"encoder/layer_norm/gamma\0"
    spec = b"WhisperSpec\0"
    data = struct.pack("<IH", 6, len(spec)) + spec + struct.pack("<II", 3, 1)
    data += struct.pack("<H", len(name)) + name + struct.pack("<BIIB", 2, 2, 2, 4)
    data += struct.pack("<I", values.nbytes) + values.tobytes()
    (tmp_path / "model.bin").write_bytes(data)
    tensors = ctranslate2_tensors(tmp_path / "model.bin")
    assert list(tensors) == ["encoder/layer_norm/gamma"]
    assert tensors["encoder/layer_norm/gamma"].tolist() == values.tolist()


def test_single_clips_come_whole_with_their_own_tags_and_without_test_packages(
    tmp_path, monkeypatch
):
    """Three clips of 1, 2 and 6 s and one of a test package; 6 s are too long."""
    monkeypatch.setenv("SOFTMOA_CORPUS", str(tmp_path))
    lengths, held_out = [16_000, 32_000, 96_000, 16_000], sorted(TEST_PACKAGES)[0]
    packages = [PACKAGES[0].name] * 3 + [held_out]
    samples = np.random.default_rng(0).integers(-9000, 9000, sum(lengths)).astype(np.int16)
    samples.tofile(tmp_path / "corpus.i16")
    starts = np.cumsum([0, *lengths[:-1]])
    rows = [f"{s},{n},{p}" for s, n, p in zip(starts, lengths, packages, strict=True)]
    (tmp_path / "corpus.csv").write_text("\n".join(["start,samples,package", *rows]) + "\n")
    tags = np.zeros((4, TAGS), np.float16)
    tags[np.arange(4), np.arange(4)] = 1  # clip i has tag i
    clips = Clips(tags)
    assert clips.kept.tolist() == [0, 1]
    batches = clips.batches(np.random.default_rng(0), size=4, pool=3)
    for mel, frames, said in (next(batches) for _ in range(6)):
        assert mel.shape == (4, frames.max(), 128) and said.shape == (4, TAGS)
        assert ((said[:, 0] == 1) == (frames == 98)).all()  # 1 s in windows of 25 ms
        assert ((said[:, 1] == 1) == (frames == 198)).all()
    sorted_out = [next(batches)[1].unique().numel() for _ in range(9)]
    assert sorted_out.count(1) >= 6  # at most one of three batches holds both lengths


def test_the_head_of_the_tags_is_the_logistic_solution():
    """Probabilities that a linear layer made are fitted by that layer; features far from zero and
    of unlike spread, and a tag that is never heard."""
    torch.manual_seed(0)
    x = torch.randn(800, 6) * torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 20.0]) + 3
    weight, bias = torch.randn(3, 6) / x.std(dim=0), torch.tensor([-1.0, 0.0, 2.0])
    tags = ((x - 3) @ weight.T + bias).sigmoid()
    never = torch.zeros(len(x), 1)
    both = torch.cat([tags, never], dim=1)
    found, offset = solve(x, both, steps=1000, rate=3e-2, batch=800)
    said = (x @ found.T + offset).sigmoid()
    assert (said[:, :3] - tags).abs().max() < 0.01
    assert said[:, 3].max() < 0.01
    assert torch.allclose(found[:3], weight, atol=0.02, rtol=0.05)
    again, _ = solve(x, both, (found, offset), steps=3)  # a solution stays where it is
    assert torch.allclose(again[:3], found[:3], atol=0.02, rtol=0.02)


def test_calibrated_a_first_tag_is_as_often_right_as_its_probability_says(monkeypatch):
    """Of four folders, which count alike, the first tag is right in two; it was said to be 95 %
    sure in all."""
    sure = torch.full((TAGS,), -9.0)
    sure[3] = np.log(0.95 / 0.05)
    model = SimpleNamespace(head=SimpleNamespace(linear=torch.nn.Linear(2, TAGS)))
    model.set_head = lambda weight, bias: setattr(model, "found", (weight, bias))
    folders = [({3}, [0] * 60), ({5}, [0] * 40), ({3}, [0] * 8), ({5}, [0] * 2)]
    monkeypatch.setattr(train_tags, "household", lambda: dict(enumerate(folders)))
    monkeypatch.setattr(
        train_tags, "tag_probabilities", lambda _, clips: sure.sigmoid().repeat(len(clips), 1)
    )
    slope, shift = calibrate(model)
    assert torch.sigmoid(slope * sure[3] + shift) == pytest.approx(0.5, abs=1e-3)  # 2 of 4 folders
    weight, bias = model.found
    assert torch.allclose(weight, slope * model.head.linear.weight)
    assert torch.allclose(bias, slope * model.head.linear.bias + shift)


def test_without_augmentation_a_whole_scene_is_heard_as_it_is(shards):
    batches = Batches(Scenes(shards), 2, augmented=False)
    whole = [batch for _ in range(20) if (batch := batches.draw()).mel.shape[1] == 480]
    for batch in whole:
        columns = batch.mel[:, ::16, 0] % 100
        assert columns.equal(torch.arange(30.0).expand(len(batch.mel), 30))
    assert whole


def test_a_target_without_weight_teaches_nothing():
    student = tiny_student()
    batch = Batch(
        torch.randn(2, 480, 128), Targets(torch.rand(2, 9, 521), torch.randn(2, 9, 1024)), 1
    )
    both = loss_of(student, batch).item()
    tags = loss_of(student, batch, embedding_weight=0.0)
    embedding = loss_of(student, batch, tag_weight=0.0)
    assert both == pytest.approx(tags.item() + embedding.item(), rel=1e-5)
    tags.backward()
    assert not student.to_embedding.weight.grad.any() and student.to_tags.weight.grad.any()


def test_masked_patches_are_hidden_and_told_from_nothing_at_their_variance():
    torch.manual_seed(0)
    model = MaskedPatches(AST(replace(AST_SMALL, width=12, depth=1, heads=2)))
    mel = torch.randn(4, 96, 128)
    seen = []
    heard = model.encoder.features
    model.encoder.features = lambda mel: seen.append(mel) or heard(mel)
    with torch.no_grad():
        model.to_patch.weight.zero_()
        model.to_patch.bias.zero_()
        loss = model(mel, torch.Generator().manual_seed(0)).item()
    # Standardised by the unbiased deviation, 256 values have a mean square of 255/256.
    assert loss == pytest.approx(255 / 256, abs=0.03)
    patches = seen[0].unflatten(1, (6, 16)).unflatten(3, (8, 16)).transpose(2, 3)
    hidden = (patches == 0).flatten(3).all(dim=3)  # (clips, columns, bands)
    assert 0.35 < hidden.float().mean() < 0.65
    original = mel.unflatten(1, (6, 16)).unflatten(3, (8, 16)).transpose(2, 3)
    assert patches[~hidden].equal(original[~hidden])


def test_the_table_of_ablations_keeps_one_row_a_variant_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_ablations, "TABLE", tmp_path / "table.csv")
    for variant, esc10 in (("tags", 0.9), ("start", 0.8), ("tags", 0.925)):
        pretrain_ablations.keep(
            pretrain_ablations.Row(variant, 4.0, 10_900_000, 200, 1.5, 0.5, esc10, 0.6)
        )
    lines = (tmp_path / "table.md").read_text().splitlines()[-2:]
    assert lines[0].startswith("| DINOv2, no audio | 10.9 M") and "80.0 %" in lines[0]
    assert lines[1] == "| tags alone | 10.9 M | 4 | 200 | 1.5 h | 50.0 % | 92.5 % | 60.0 % |"


def test_a_variant_that_there_is_not_is_refused_before_any_is_trained(monkeypatch, capsys):
    monkeypatch.setattr(pretrain_ablations, "run", lambda *_: pytest.fail("trained"))
    with pytest.raises(typer.Exit) as refused:
        pretrain_ablations.main(["base", "depth-5"])
    assert refused.value.exit_code == 2 and "depth-5; choose from start" in capsys.readouterr().err
