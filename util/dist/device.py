"""The device to compute on, and the seeds of every random stream."""

import os
import random

import numpy as np
import torch

from .accelerator import TABLE, accelerator
from .distributed import print_once
from ..errors import UserError

_KNOWN = "cuda, cuda:1, mps, xpu, hpu, cpu"
_LARGEST_SEED = 2**32 - 1
#: The values with which cuBLAS is deterministic (its documentation, section on results reproducibility).
_CUBLAS_WORKSPACES = (":4096:8", ":16:8")


def pick_device(name: str) -> torch.device:
    """Return the device called `name`: cpu, cuda, cuda:N, mps, xpu or hpu.

    Where the machine has no such accelerator the CPU is used, with one printed line.
    Raises UserError for a name that is none of these, the number of a GPU that is not there, and hpu without Intel's
    package.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no such device; take one of {_KNOWN}") from None
    if device.type not in TABLE:
        raise UserError(f"--device {name}: not supported; take one of {_KNOWN}")
    if not accelerator(device).available():
        # A CPU is a sensible answer for cuda, which is DETR's default. hpu needs a package of its own: who names it
        # means it.
        if not accelerator(device).falls_back:
            raise UserError(f"--device {name}: torch finds no {device.type} device here")
        print_once(f"--device {name}: torch finds no {device.type} device here, computing on the CPU")
        return torch.device("cpu")
    count = accelerator(device).count()
    if count is not None and (device.index or 0) >= count:
        raise UserError(f"--device {name}: this machine has {count} GPUs, the first is {device.type}:0")
    return device


def seed_everything(seed: int, *, rank: int = 0, epoch: int | None = None) -> None:
    """Seed torch (all devices), numpy and random.

    Without `epoch` every generator gets `seed + rank`, as in DETR. With it they get a number mixed from
    (seed + rank, epoch), so that what epoch k draws does not depend on whether the epochs before it were run.
    Raises UserError for a seed below 0 or above 2**32 - 1 (numpy's limits).
    """
    own = seed + rank
    if not 0 <= own <= _LARGEST_SEED:
        raise UserError(f"--seed {seed}: must be between 0 and {_LARGEST_SEED - rank}")
    if epoch is not None:
        # Mixed, not added: seed 1 in epoch 2 must not draw as seed 2 in epoch 1.
        own = int(np.random.SeedSequence([own, epoch]).generate_state(1)[0])
    # Of all devices' generators, too.
    torch.manual_seed(own)
    np.random.seed(own)
    random.seed(own)


def use_deterministic_algorithms() -> None:
    """Make every operation give the same bits for the same input and hardware, or stop where PyTorch cannot.

    Follows PyTorch's notes on reproducibility: deterministic kernels only, no choice of convolutions by timing, and
    a fixed workspace for cuBLAS, which reads its variable when the first product is computed. Memory is not
    filled before use: that finds reads of uninitialised memory, of which there are none here, and takes time.
    Raises UserError where CUBLAS_WORKSPACE_CONFIG is set to what does not fix the results.
    """
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACES[0])
    if workspace not in _CUBLAS_WORKSPACES:
        raise UserError(
            f"--deterministic: CUBLAS_WORKSPACE_CONFIG is {workspace!r} in the environment; "
            f"unset it, or set it to {' or '.join(_CUBLAS_WORKSPACES)}"
        )
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set up when imported
    torch.backends.cudnn.benchmark = False
