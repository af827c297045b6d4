"""Differences between kinds of devices, in one table: being there, waiting, memory, half precision, graph marks.

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
        falls_back: without such a device the CPU computes, with a line; else that is an error.
    """

    available: Callable[[], bool]
    synchronise: Callable[[torch.device], None] = _nothing
    peak_memory: Callable[[torch.device], int | None] = lambda device: None
    autocast: tuple[torch.dtype, ...] = (torch.bfloat16,)
    mark_step: Callable[[], None] = lambda: None
    pinned: bool = False
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
    "cpu": Accelerator(available=lambda: True),
    "cuda": Accelerator(
        available=lambda: torch.cuda.is_available(),
        synchronise=lambda device: torch.cuda.synchronize(device),
        peak_memory=lambda device: torch.cuda.max_memory_allocated(device),
        autocast=(torch.bfloat16, torch.float16),
        pinned=True,
    ),
    "mps": Accelerator(
        available=lambda: torch.backends.mps.is_available(), synchronise=lambda device: torch.mps.synchronize()
    ),
    "xpu": Accelerator(
        available=lambda: torch.xpu.is_available(),
        synchronise=lambda device: torch.xpu.synchronize(device),
        peak_memory=lambda device: torch.xpu.max_memory_allocated(device),
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
    return TABLE.get(device.type, TABLE["cpu"])
