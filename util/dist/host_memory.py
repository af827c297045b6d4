"""Memory of the host that stays with the process for a while: a step does not ask the system for the same pages again."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from .accelerator import accelerator

#: glibc's numbers for what `mallopt` sets (malloc.h), and the values: no block is mapped by itself, and up to 2 GiB
#: of free memory at the end stay.
SETTINGS = {-4: 0, -1: 2**31 - 1}
#: A user who has set one of glibc's variables, or another allocator, keeps it.
OWN_CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
#: Memory goes back once it is so many times what a single batch needs: its pages cost a tenth of a step to ask for
#: again.
MOST_KEPT = 1.25


def keep_freed_memory(device: torch.device) -> bool:
    """Have the process keep memory that tensors free, where `device` is the CPU; True if it is done.

    By default glibc maps every large block anew and gives it back, so each of a step's maps is first filled with
    zeros by the system, page by page: a tenth of a step or more. Numbers do not change. Only on Linux with glibc; an
    environment variable of `OWN_CHOICES` (for example `MALLOC_MMAP_MAX_=65536`, glibc's own value) leaves all as it is.
    """
    mallopt = _function_of_glibc("mallopt", device)
    # glibc answers 1 where it has understood.
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in SETTINGS.items())


class FreedMemory:
    """Gives kept memory back to the system where it has become much more than a batch needs.

    Batches of changing sizes leave gaps that later ones do not fit in: without this a process grew from 1.7 to 3.4 GB
    in 1,500 steps, and went on growing. With batches of one size nothing is ever given back. Where nothing is kept
    (`keep_freed_memory`), it does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._trim = _function_of_glibc("malloc_trim", device)
        self._limit = 0.0  # bytes
        self._has_trimmed = True  # before the first batch there are no gaps

    def after_batch(self) -> None:
        """Look at the memory of this process, and give back what is free if it is too much."""
        if self._trim is None:
            return
        resident = _resident_bytes()
        if self._has_trimmed:
            # One batch since then: what it needs, and no gaps. The largest batch so far decides.
            self._limit = max(self._limit, MOST_KEPT * resident)
        self._has_trimmed = resident > self._limit
        if self._has_trimmed:
            self._trim(0)  # bytes to keep free


def _resident_bytes() -> int:
    """Memory of this process, from Linux's list of counts in pages: the second is what is resident."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _function_of_glibc(name: str, device: torch.device) -> Callable[..., int] | None:
    """Return a function of glibc's memory; None elsewhere, for a GPU, and where a user has chosen otherwise."""
    if not accelerator(device).host or sys.platform != "linux":
        return None
    if any(variable.startswith(OWN_CHOICES) for variable in os.environ):
        return None
    return getattr(ctypes.CDLL(None), name, None)  # musl has none of them
