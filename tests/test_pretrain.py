"""The pretraining recipe: gradients over processes, targets in their places, what is held out."""

import multiprocessing
import os
import socket
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import typer
from torch import nn

from analysis import pretrain_ablations
from analysis.initialise import AST_SMALL
from analysis.packages import PACKAGES, TEST_PACKAGES
from analysis.pretrain import average_gradients, schedule
from analysis.pretrain_ablations import MaskedPatches
from analysis.scenes import Batch, Batches, Clips, Scenes, Targets
from analysis.speech_teacher import ctranslate2_tensors
from analysis.student import Student, loss_of
from analysis.teacher import TAGS, clip_weights
from analysis.train_tags import HEARD, present_in, rarity, solve
from softmoa.ast import AST


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
    monkeypatch.setattr("analysis.scenes.augment", lambda mel, rng, widest: mel)
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
    torch.manual_seed(0)
    tiny = AST(AST_SMALL.__class__(**{**AST_SMALL.__dict__, "width": 12, "depth": 1, "heads": 2}))
    student = Student(tiny)
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


def test_scenes_with_rare_tags_are_drawn_more_often(tmp_path):
    tags = np.full((60, 2, TAGS), -9.0, np.float32)
    tags[:59, 1, 0] = 3  # one tag in all scenes but the last, where only a second one is
    tags[59, 0, 1] = 3
    shard = tmp_path / "0000"
    shard.mkdir()
    for name, array in {
        "tags": tags,
        "mel": np.zeros(60),
        "embedding": np.zeros((60, 2, 3)),
    }.items():
        np.save(shard / f"{name}.npy", array)
    scenes = Scenes([shard])
    weights = rarity(present_in(scenes))
    assert np.allclose(weights[:59], 1 / 59 + 1 / 60)
    assert np.isclose(weights[59], 1 / 20 + 1 / 60)  # as if it were in twenty
    drawn = Batches(scenes, weights=weights)._next(3000)
    expected = 3000 * weights[59] / weights.sum()
    assert abs((drawn == 59).sum() - expected) < 5 * np.sqrt(expected)


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
    weights = rarity(clips.tags[clips.kept] >= HEARD)
    assert weights[0] == weights[1]
    batches = clips.batches(np.random.default_rng(0), weights, size=4, pool=3)
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
    found, offset = solve(x, torch.cat([tags, never], dim=1), rate=3e-2, batch=800)
    said = (x @ found.T + offset).sigmoid()
    assert (said[:, :3] - tags).abs().max() < 0.01
    assert said[:, 3].max() < 0.01
    assert torch.allclose(found[:3], weight, atol=0.02, rtol=0.05)


def test_without_augmentation_a_whole_scene_is_heard_as_it_is(shards):
    batches = Batches(Scenes(shards), 2, augmented=False)
    whole = [batch for _ in range(20) if (batch := batches.draw()).mel.shape[1] == 480]
    for batch in whole:
        columns = batch.mel[:, ::16, 0] % 100
        assert columns.equal(torch.arange(30.0).expand(len(batch.mel), 30))
    assert whole


def test_a_target_without_weight_teaches_nothing():
    torch.manual_seed(0)
    student = Student(AST(replace(AST_SMALL, width=12, depth=1, heads=2)))
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
