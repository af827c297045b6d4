"""Choosing the device and seeding."""

import os
import random

import numpy as np
import pytest
import torch

from util.dist.device import pick_device, seed_everything, use_deterministic_algorithms
from util.errors import UserError


@pytest.fixture(autouse=True)
def keep_random_state():
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)


def draw():
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_cpu_is_cpu(capsys):
    assert pick_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_without_a_gpu_the_cpu_is_used_with_one_line(name, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(name) == torch.device("cpu")
    out = capsys.readouterr().out
    assert f"--device {name}" in out and out.count("\n") == 1


def test_with_gpus_the_one_asked_for_is_used(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda") == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="--device cuda:2: this machine has 2 GPUs"):
        pick_device("cuda:2")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UserError, match=f"--device {name}: .*cuda"):
        pick_device(name)


def test_seeding_is_what_detr_does():
    seed_everything(42, rank=3)
    ours = draw()
    torch.manual_seed(45)
    np.random.seed(45)
    random.seed(45)
    assert ours == draw()


def test_an_epoch_has_its_own_stream_whatever_ran_before():
    seed_everything(42, epoch=5)
    fifth = draw()
    seed_everything(42, epoch=4)
    fourth = draw()
    seed_everything(42, epoch=5)
    assert draw() == fifth != fourth


def test_streams_differ_between_ranks_epochs_and_seeds():
    seen = set()
    for seed, rank, epoch in [(42, 0, None), (42, 0, 0), (42, 0, 1), (42, 1, 0), (42, 1, 1), (0, 0, 0), (1, 0, 0)]:
        seed_everything(seed, rank=rank, epoch=epoch)
        seen.add(draw())
    # seed 0 on rank 1 is seed 1 on rank 0 in DETR's rule; none of these coincide
    assert len(seen) == 7


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_numpy_cannot_take_are_refused(seed):
    with pytest.raises(UserError, match=f"--seed {seed}"):
        seed_everything(seed)


@pytest.fixture
def keep_algorithms():
    torch_state = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(torch_state[0])
    torch.utils.deterministic.fill_uninitialized_memory = torch_state[1]


@pytest.mark.parametrize(("given", "expected"), [(None, ":4096:8"), (":16:8", ":16:8"), (":4096:8", ":4096:8")])
def test_deterministic_algorithms_fix_every_choice(given, expected, monkeypatch, keep_algorithms):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given or "")
    if given is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    use_deterministic_algorithms()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == expected
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark


def test_a_workspace_that_fixes_nothing_is_refused_in_one_line(monkeypatch, keep_algorithms):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(UserError, match=r"--deterministic: CUBLAS_WORKSPACE_CONFIG is ':0:0'.*:4096:8 or :16:8"):
        use_deterministic_algorithms()
    assert not torch.are_deterministic_algorithms_enabled()
