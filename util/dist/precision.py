"""The type of number that a model computes in: float32, or half precision (autocast) around the parts that bear it.

Weights, gradients of weights and the optimizer's state are always float32. Under autocast matrix products, convolutions
and attention compute in bfloat16 or float16; sums over many layers and numbers that need more than bfloat16's 8 bits
(the transformer's residual stream, position encoding, heads, matcher, losses) stay in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .accelerator import accelerator
from .distributed import print_once
from ..choices import AMP_TYPES
from ..errors import UserError

#: What Linux calls the units that multiply bfloat16 matrices: of x86 (two kinds) and of ARM.
_BF16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}

#: Kinds of devices for which every PyTorch has autocast.
ALWAYS_AUTOCAST = ("cpu", "cuda")


class Precision:
    """The type that a step computes in, and the scale of its loss.

    Args:
        device: that of the model.
        dtype: the type of products under autocast; None computes everything in float32. float16 has few exponents, so
            the loss is multiplied by `scaler`'s scale, and a step whose gradients overflow is left out.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.device_type = device.type
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def autocast(self) -> AbstractContextManager:
        """Return a context for the forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device_type, self.dtype)

    @contextmanager
    def keeping_casts(self) -> Iterator[None]:
        """Inside, weights stay as they are, and all forward passes together cast them once instead of once each."""
        if self.dtype is None:
            yield
            return
        # PyTorch keeps casts until the outermost context ends; the inner one is for what is no forward pass.
        with self.autocast(), torch.autocast(self.device_type, enabled=False):
            yield

    def restore(self, checkpoint: dict[str, Any] | None) -> None:
        """Go on with the loss scale of a checkpoint; one of another precision has none, and the scale starts anew."""
        if checkpoint and checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])


def pick_precision(amp: str, device: torch.device) -> Precision:
    """Return the precision of `--amp` (a name of `AMP_TYPES`) on a device; print a line if that is slow.

    Raises UserError for float16 without a GPU: nothing there multiplies it fast, and bfloat16 needs no scaling.
    """
    if amp == "fp16" and torch.float16 not in accelerator(device).autocast:
        raise UserError(f"--amp fp16 is for CUDA GPUs, this run is on {device.type}: give --amp bf16, or --amp off")
    if amp == "bf16" and not has_bf16_units(device):
        print_once(
            f"--amp bf16: this {device.type} has no bfloat16 units; it computes the same, more slowly than --amp off"
        )
    name = AMP_TYPES[amp]
    return Precision(device, getattr(torch, name) if name else None)


def has_bf16_units(device: torch.device) -> bool:
    """Tell if the device multiplies bfloat16 matrices in hardware; True if that cannot be found out."""
    if capability := accelerator(device).capability(device):
        return capability >= (8, 0)  # Ampere
    try:
        # The flags of all cores, as words; on other systems than Linux there is no such file.
        words = set(Path("/proc/cpuinfo").read_text().split()) if accelerator(device).host else _BF16_UNITS
    except OSError:
        return True
    return bool(words & _BF16_UNITS)


def use_tf32(device: torch.device) -> None:
    """Let float32 matrix products on a GPU round their factors to TF32 (10 bits); print a line without such a unit.

    Convolutions do so by PyTorch's default.
    """
    capability = accelerator(device).capability(device)
    if capability is None:
        print_once(f"--tf32: only GPUs have TF32, nothing changes on {device.type}")
    elif capability < (8, 0):
        print_once("--tf32: this GPU has no TF32 (Ampere and later do), nothing changes")
    else:
        # "high" is TF32, "highest" plain float32, PyTorch's default.
        torch.set_float32_matmul_precision("high")


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which products with `x` are computed: autocast's if it is on, else that of `x`."""
    return torch.get_autocast_dtype(x.device.type) if in_autocast(x.device) else x.dtype


def wide_dtype(x: Tensor) -> torch.dtype:
    """Return the type for numbers that must not be rounded: float32 under autocast, else that of `x` and the model."""
    # Not float32 always: a model in float64, as tests of gradients use it, must stay there.
    return torch.float32 if in_autocast(x.device) else x.dtype


def in_autocast(device: torch.device) -> bool:
    """Tell if products on a device are computed in half precision now."""
    # For devices that always have it nothing is asked: PyTorch 2.11's compiler cannot follow the question.
    known = device.type in ALWAYS_AUTOCAST or torch.amp.is_autocast_available(device.type)
    return known and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context that computes in the types of its inputs."""
    return torch.autocast(device.type, enabled=False) if in_autocast(device) else nullcontext()


def autocast_of_now(device: torch.device) -> Callable[[], AbstractContextManager]:
    """Return a function that makes contexts that compute as now, for work that is done later."""
    if not in_autocast(device):
        return nullcontext
    return partial(torch.autocast, device.type, torch.get_autocast_dtype(device.type))
