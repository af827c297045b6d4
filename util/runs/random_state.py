"""The state of this process's random generators, in plain types that a checkpoint can hold."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..dist.accelerator import accelerator

#: Python's, NumPy's and PyTorch's state; with a GPU in use also that of its generator.
RandomState = Sequence[Any]


def random_state(device: torch.device | None = None) -> RandomState:
    """Return the state of all generators; of a GPU's too where `device` is one. Nothing waits for the GPU."""
    of_device = accelerator(device).random_state if device is not None else None
    return [
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state().numpy(),  # bytes: a tensor would go from a loader's worker through shared memory
        of_device(device).numpy() if device is not None and of_device is not None else None,
    ]


def set_random_state(state: RandomState, device: torch.device | None = None) -> None:
    """Bring the generators to a state of `random_state`, also after it was made plain."""
    (version, words, gauss), (kind, keys, *rest), cpu, gpu = state
    random.setstate((version, tuple(words), gauss))
    # 624 words of 32 bits, which a checkpoint holds as int64.
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.as_tensor(cpu, dtype=torch.uint8))
    restore = accelerator(device).set_random_state if device is not None else None
    if gpu is not None and device is not None and restore is not None:
        restore(torch.as_tensor(gpu, dtype=torch.uint8), device)


def as_tensors(state: RandomState) -> RandomState:
    """Return a state whose long parts are tensors, which a checkpoint stores as they are."""
    python, (kind, keys, *rest), cpu, gpu = state
    tensors = [None if part is None else torch.as_tensor(np.asarray(part, dtype=np.uint8)) for part in (cpu, gpu)]
    return [python, (kind, torch.as_tensor(np.asarray(keys, dtype=np.int64)), *rest), *tensors]
