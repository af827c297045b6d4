"""Memory that stays with the process: on Linux's CPUs, and not where a user has chosen otherwise."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

import main
from tests.helpers import TINY
from util.dist import host_memory
from util.dist.host_memory import BATCHES_KEPT, OWN_CHOICES, FreedMemory, keep_freed_memory

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


def test_what_is_free_goes_back_after_every_so_many_batches(told: list[tuple[int, ...]]) -> None:
    memory, of_a_gpu = FreedMemory(CPU), FreedMemory(CUDA)
    for _ in range(2 * BATCHES_KEPT + 1):
        memory.after_batch()
        of_a_gpu.after_batch()
    assert told == [(0,), (0,)]


@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_a_run_counts_steps_and_evaluated_batches(told: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "BATCHES_KEPT", 1)
    assert main.cli(f"{TINY} --train_size 6 --val_size 4 --batch_size 2 --epochs 1".split()) == 0
    # Kept from the start; three steps, then two batches of the evaluation.
    assert told == [(-4, 0), (-1, 2**31 - 1), *[(0,)] * 5]


def test_other_systems_and_own_choices_stay(monkeypatch: pytest.MonkeyPatch, told: list[tuple[int, ...]]) -> None:
    def nothing_is_done() -> bool:
        memory = FreedMemory(CPU)
        for _ in range(BATCHES_KEPT):
            memory.after_batch()
        return not keep_freed_memory(CPU) and told == []

    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    assert nothing_is_done()
    monkeypatch.delenv("MALLOC_MMAP_MAX_")
    monkeypatch.setattr(host_memory.sys, "platform", "darwin")
    assert nothing_is_done()
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    # musl's library has neither function.
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert nothing_is_done()
