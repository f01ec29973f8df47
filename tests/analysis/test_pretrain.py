"""The pretraining recipe: gradients over processes, targets in their places, what is held out."""

import multiprocessing
import os
import socket
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from analysis.pretraining import pretrain, train_tags, validation
from analysis.pretraining.average import mean_of
from analysis.pretraining.initialise import AST_SMALL
from analysis.pretraining.packages import PACKAGES, TEST_PACKAGES
from analysis.pretraining.pretrain import Options, Run, Sources, average_gradients
from analysis.pretraining.scenes import Clips
from analysis.pretraining.student import Student
from analysis.pretraining.teacher import TAGS, clip_weights
from analysis.pretraining.train_tags import calibrate, solve
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


def test_scenes_that_validate_are_not_trained_on(cache):
    sources = Sources.open(SHORT, 0, {})
    assert len(sources.sounds.scenes) == 20


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
    mel, frames, said = next(clips.batches(np.random.default_rng(0), size=4, pool=3))
    assert mel.shape == (4, frames.max(), 128)
    assert ((said[:, 0] == 1) == (frames == 98)).all()  # 1 s in windows of 25 ms


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


def test_the_mean_of_weights_keeps_their_precision():
    states = [{"w": torch.tensor(row, dtype=torch.half)} for row in ([1.0, 3.0], [4.0, 3.0])]
    mean = mean_of(states)["w"]
    assert mean.tolist() == [2.5, 3.0] and mean.dtype is torch.half
