"""Memory of the host that stays with the process, so that a step does not ask the system for the same pages again."""

import ctypes
import os
import sys

import torch

from .accelerator import accelerator

#: glibc's numbers for what `mallopt` sets (malloc.h), and the values: no block is mapped by itself, and up to 2 GiB
#: of free memory at the end stay.
SETTINGS = {-4: 0, -1: 2**31 - 1}
#: A user who has set one of glibc's variables, or another allocator, keeps it.
OWN_CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory(device: torch.device) -> bool:
    """Have the process keep memory that tensors free, where `device` is the CPU; True if it is done.

    By default glibc maps every large block anew and gives it back, so each of a step's maps is first filled with
    zeros by the system, page by page: a tenth of a step or more. Numbers do not change. Only on Linux with glibc; an
    environment variable of `OWN_CHOICES` (for example `MALLOC_MMAP_MAX_=65536`, glibc's own value) leaves all as it is.
    """
    if not accelerator(device).host or sys.platform != "linux":
        return False
    if any(name.startswith(OWN_CHOICES) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl has none, and glibc answers 1 where it has understood.
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in SETTINGS.items())
