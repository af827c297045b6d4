"""Memory of the host that stays with the process for a while: a step does not ask the system for the same pages again."""

import ctypes
import os
import sys
from collections.abc import Callable

import torch

from .accelerator import accelerator

#: glibc's numbers for what `mallopt` sets (malloc.h), and the values: no block is mapped by itself, and up to 2 GiB
#: of free memory at the end stay.
SETTINGS = {-4: 0, -1: 2**31 - 1}
#: A user who has set one of glibc's variables, or another allocator, keeps it.
OWN_CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


#: Batches between two times that free memory is given back: its pages cost about a tenth of a step to ask for again.
BATCHES_KEPT = 100


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
    """Gives kept memory back to the system after every so many batches; does nothing where none is kept.

    Batches of changing sizes leave gaps that later ones do not fit in: without this a process grew from 1.7 to 3.4 GB
    in 1,500 steps, and went on growing.
    """

    def __init__(self, device: torch.device) -> None:
        self._trim = _function_of_glibc("malloc_trim", device)
        self._batches = 0

    def after_batch(self) -> None:
        """Count a batch, and give back what is free if it is time."""
        self._batches += 1
        if self._trim is not None and self._batches % BATCHES_KEPT == 0:
            self._trim(0)  # bytes to keep free


def _function_of_glibc(name: str, device: torch.device) -> Callable[..., int] | None:
    """Return a function of glibc's memory; None elsewhere, for a GPU, and where a user has chosen otherwise."""
    if not accelerator(device).host or sys.platform != "linux":
        return None
    if any(variable.startswith(OWN_CHOICES) for variable in os.environ):
        return None
    return getattr(ctypes.CDLL(None), name, None)  # musl has none of them
