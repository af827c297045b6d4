"""Peaks of memory, of a device and of this process."""

import sys

import torch

from .accelerator import accelerator


def peak_memory(device: torch.device) -> float:
    """Peak in MiB so far: what torch allocated on a device, else the memory of this process. Does not wait."""
    allocated = accelerator(device).peak_memory(device)
    if allocated is not None:
        return allocated / 2**20
    import resource  # of Unix; only the CPU needs it

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
