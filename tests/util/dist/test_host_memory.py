"""Memory that stays with the process: on Linux's CPUs, and not where a user has chosen otherwise."""

import ctypes
import itertools
from types import SimpleNamespace

import pytest
import torch

import main
from tests.helpers import TINY
from util.dist import host_memory
from util.dist.host_memory import OWN_CHOICES, FreedMemory, keep_freed_memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The calls of a glibc that stands in, on a Linux where nothing is set."""
    calls: list[tuple[int, ...]] = []

    def note(*numbers: int) -> int:
        calls.append(numbers)
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=note, malloc_trim=note))
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    for name in [n for n in host_memory.os.environ if n.startswith(OWN_CHOICES)]:
        monkeypatch.delenv(name)
    return calls


def test_freed_memory_is_kept_on_the_cpu_alone(told: list[tuple[int, ...]]) -> None:
    assert not keep_freed_memory(CUDA) and told == []
    assert keep_freed_memory(CPU)
    assert told == [(-4, 0), (-1, 2**31 - 1)]


def trims_after(sizes: list[int], told: list, monkeypatch: pytest.MonkeyPatch, device: torch.device = CPU) -> list[int]:
    """Numbers of the batches, from 1, after which memory was given back; `sizes` is what the process has after each."""
    memory, found = FreedMemory(device), []
    for number, size in enumerate(sizes, start=1):
        monkeypatch.setattr(host_memory, "_resident_bytes", lambda size=size: size)
        memory.after_batch()
        if told:
            assert told.pop() == (0,) and not told
            found.append(number)
    return found


def test_batches_of_one_size_give_nothing_back(told: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert trims_after([1000] + [1200] * 300, told, monkeypatch) == []


def test_memory_goes_back_when_it_is_more_than_a_batch_needs(
    told: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1000 for one batch: more than 1250 is too much. After that a batch of 1100 allows 1375, and one of 900 no less.
    sizes = [1000, 1240, 1260, 1100, 1370, 1380, 900, 1370, 1380]
    assert trims_after(sizes, told, monkeypatch) == [3, 6, 9]
    assert trims_after(sizes, told, monkeypatch, CUDA) == []


@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_a_run_counts_steps_and_evaluated_batches(told: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    # Ever more, and far more each time.
    grows = itertools.count()
    monkeypatch.setattr(host_memory, "_resident_bytes", lambda: 10 ** next(grows))
    assert main.cli(f"{TINY} --train_size 6 --val_size 4 --batch_size 2 --epochs 1".split()) == 0
    # Kept from the start. Of three steps and two batches of the evaluation every second one is measured, the next one
    # too much.
    assert told == [(-4, 0), (-1, 2**31 - 1), (0,), (0,)] and next(grows) == 5


def test_other_systems_and_own_choices_stay(monkeypatch: pytest.MonkeyPatch, told: list[tuple[int, ...]]) -> None:
    def nothing_is_done() -> bool:
        return trims_after([1, 100], told, monkeypatch) == [] and not keep_freed_memory(CPU) and told == []

    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    assert nothing_is_done()
    monkeypatch.delenv("MALLOC_MMAP_MAX_")
    monkeypatch.setattr(host_memory.sys, "platform", "darwin")
    assert nothing_is_done()
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    # musl's library has neither function.
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert nothing_is_done()
