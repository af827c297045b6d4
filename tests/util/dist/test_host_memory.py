"""Memory that stays with the process: on Linux's CPUs, and not where a user has chosen otherwise."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from util.dist import host_memory
from util.dist.host_memory import OWN_CHOICES, keep_freed_memory


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The calls of a glibc that stands in, on a Linux where nothing is set."""
    calls: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        calls.append((name, value))
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    for name in [n for n in host_memory.os.environ if n.startswith(OWN_CHOICES)]:
        monkeypatch.delenv(name)
    return calls


def test_freed_memory_is_kept_on_the_cpu_alone(told: list[tuple[int, int]]) -> None:
    assert not keep_freed_memory(torch.device("cuda")) and told == []
    assert keep_freed_memory(torch.device("cpu"))
    assert dict(told) == {-4: 0, -1: 2**31 - 1}


def test_other_systems_and_own_choices_stay(monkeypatch: pytest.MonkeyPatch, told: list[tuple[int, int]]) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    assert not keep_freed_memory(torch.device("cpu"))
    monkeypatch.delenv("MALLOC_MMAP_MAX_")
    monkeypatch.setattr(host_memory.sys, "platform", "darwin")
    assert not keep_freed_memory(torch.device("cpu")) and told == []
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    # musl's library has no such function.
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_freed_memory(torch.device("cpu"))
