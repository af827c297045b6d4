"""Differences between kinds of devices, in one table: being there, waiting, memory, half precision, graph marks.

Nobody else asks for the kind of a device but code that computes: a fused kernel that only the CPU has or lacks is chosen
where it stands, by the tensor at hand (tests/util/dist/test_accelerator.py lists those places).

Nobody here has had Gaudi hardware (`hpu`): its row follows Intel's documentation of `habana_frameworks` and is tested with
a stand-in.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from ..errors import UserError


def _nothing(device: torch.device) -> None:
    """Do nothing: the host computes, and is never waited for."""


@dataclass(frozen=True)
class Accelerator:
    """A kind of device.

    Attributes:
        available: whether the machine has one.
        synchronise: wait until a device has done all that was asked of it.
        peak_memory: bytes that torch allocated at most on a device; None where it does not count.
        autocast: number types in which products can be computed there.
        mark_step: end the graph that is being collected, where operations wait for it.
        pinned: copies from pinned memory of the host do not wait.
        host: the CPU, whose memory is that of the process.
        cuda: has CUDA's events, ranges and profilers (of AMD's GPUs HIP's), and NVIDIA's counters of energy.
        count: how many there are; None where only one can be.
        name: of the hardware; None where torch does not know it.
        capability: CUDA's number for what the hardware can do; None elsewhere.
        memory: bytes that it has in all; None where torch does not know them.
        random_state, set_random_state: of its generator; None where it has none of its own.
        falls_back: without such a device the CPU computes, with a line; else that is an error.
    """

    available: Callable[[], bool]
    synchronise: Callable[[torch.device], None] = _nothing
    peak_memory: Callable[[torch.device], int | None] = lambda device: None
    autocast: tuple[torch.dtype, ...] = (torch.bfloat16,)
    mark_step: Callable[[], None] = lambda: None
    pinned: bool = False
    host: bool = False
    cuda: bool = False
    count: Callable[[], int | None] = lambda: None
    name: Callable[[torch.device], str | None] = lambda device: None
    capability: Callable[[torch.device], tuple[int, int] | None] = lambda device: None
    memory: Callable[[torch.device], int | None] = lambda device: None
    random_state: Callable[[torch.device], torch.Tensor] | None = None
    set_random_state: Callable[[torch.Tensor, torch.device], None] | None = None
    falls_back: bool = True


def _habana(part: str = "hpu") -> ModuleType:
    """Import a part of Intel's package for Gaudi, whose import makes `hpu` a device of torch. Raises UserError."""
    try:
        return importlib.import_module(f"habana_frameworks.torch.{part}")
    except ImportError as error:
        raise UserError(
            "--device hpu needs Intel's package habana_frameworks and its driver, which are not here: run in Intel's "
            "Gaudi container, or give --device cuda or cpu"
        ) from error


def lazy_mode() -> bool:
    """Return True where Gaudi collects operations to graphs (PT_HPU_LAZY_MODE=1) instead of running each at once."""
    return os.environ.get("PT_HPU_LAZY_MODE", "1") == "1"


def _mark_hpu_step() -> None:
    if lazy_mode():
        _habana("core").mark_step()


#: By torch's name of the kind.
TABLE = {
    "cpu": Accelerator(available=lambda: True, host=True),
    "cuda": Accelerator(
        # Lambdas, not torch's functions: tests replace these, and a name is then looked up when it is called.
        available=lambda: torch.cuda.is_available(),
        synchronise=lambda device: torch.cuda.synchronize(device),
        peak_memory=lambda device: torch.cuda.max_memory_allocated(device),
        autocast=(torch.bfloat16, torch.float16),
        pinned=True,
        cuda=True,
        count=lambda: torch.cuda.device_count(),
        name=lambda device: torch.cuda.get_device_name(device),
        capability=lambda device: torch.cuda.get_device_capability(device),
        memory=lambda device: torch.cuda.get_device_properties(device).total_memory,
        random_state=lambda device: torch.cuda.get_rng_state(device),
        set_random_state=lambda state, device: torch.cuda.set_rng_state(state, device),
    ),
    "mps": Accelerator(
        available=lambda: torch.backends.mps.is_available(),
        synchronise=lambda device: torch.mps.synchronize(),
        random_state=lambda device: torch.mps.get_rng_state(),
        set_random_state=lambda state, device: torch.mps.set_rng_state(state),
    ),
    "xpu": Accelerator(
        available=lambda: torch.xpu.is_available(),
        synchronise=lambda device: torch.xpu.synchronize(device),
        peak_memory=lambda device: torch.xpu.max_memory_allocated(device),
        count=lambda: torch.xpu.device_count(),
        name=lambda device: torch.xpu.get_device_name(device),
        memory=lambda device: torch.xpu.get_device_properties(device).total_memory,
        random_state=lambda device: torch.xpu.get_rng_state(device),
        set_random_state=lambda state, device: torch.xpu.set_rng_state(state, device),
    ),
    "hpu": Accelerator(
        available=lambda: bool(_habana().is_available()),
        synchronise=lambda device: _habana().synchronize(),
        peak_memory=lambda device: _habana().max_memory_allocated(),
        mark_step=_mark_hpu_step,
        falls_back=False,
    ),
}


def accelerator(device: torch.device) -> Accelerator:
    """Return what is known of a device's kind; of an unknown kind, that it needs nothing."""
    # "meta", for one: nothing to wait for, and no memory of its own.
    return TABLE.get(device.type, TABLE["cpu"])
