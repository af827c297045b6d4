"""State of a GPU, from NVIDIA's management library (NVML): energy, power, utilisation, memory.

The package nvidia-ml-py is imported when a GPU is opened, and never else. Quantities and units:
https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import torch

from .dist.accelerator import TABLE
from .errors import UserError


@dataclass(frozen=True)
class GpuSample:
    """A GPU at one moment.

    Attributes:
        utilisation: percent of the last moments in which a kernel ran.
        memory_used: bytes, of all processes together.
        memory_total: bytes.
        power: watts.
    """

    utilisation: int
    memory_used: int
    memory_total: int
    power: float


class Gpu:
    """One GPU; made by `open_gpu`, and usable in a `with` statement."""

    def __init__(self, library: ModuleType, handle: Any) -> None:
        self._library = library
        self._handle = handle

    def energy_mj(self) -> int:
        """Return the millijoules since the driver was loaded; Volta and later count them."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def power_watts(self) -> float:
        """Return the power that it draws."""
        # NVML gives milliwatts.
        return self._ask("nvmlDeviceGetPowerUsage") / 1000

    def power_limit_watts(self) -> float:
        """Return the power that it may draw."""
        return self._ask("nvmlDeviceGetEnforcedPowerLimit") / 1000

    def name(self) -> str:
        """Return the name of its kind."""
        return self._ask("nvmlDeviceGetName")

    def sample(self) -> GpuSample:
        """Return utilisation, memory and power of now."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        utilisation = self._ask("nvmlDeviceGetUtilizationRates").gpu
        return GpuSample(utilisation, memory.used, memory.total, self.power_watts())

    def close(self) -> None:
        """Let the library go; NVML counts how often it was opened."""
        self._library.nvmlShutdown()

    def __enter__(self) -> "Gpu":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, question: str) -> Any:
        try:
            return getattr(self._library, question)(self._handle)
        except self._library.NVMLError as error:
            raise UserError(f"NVML's {question.removeprefix('nvmlDeviceGet')} of this GPU: {error}") from error


def open_gpu(index: int = 0, *, needed_by: str) -> Gpu:
    """Open the GPU that CUDA calls `index`.

    Raises UserError, in the name of the flag `needed_by`, without nvidia-ml-py, without NVIDIA's driver, or where NVML
    does not know the GPU.
    """
    try:
        import pynvml
    except ImportError as error:
        raise UserError(f"{needed_by}: nvidia-ml-py is missing: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f"{needed_by}: no NVML here ({error}): it needs an NVIDIA GPU and its driver") from error
    try:
        name = cuda_name(index, os.environ)
        ask = pynvml.nvmlDeviceGetHandleByIndex if isinstance(name, int) else pynvml.nvmlDeviceGetHandleByUUID
        return Gpu(pynvml, ask(name))
    except pynvml.NVMLError as error:
        # Opened above, and nobody is left to close it.
        pynvml.nvmlShutdown()
        raise UserError(f"{needed_by}: NVML does not know the GPU cuda:{index}: {error}") from error


def cuda_name(index: int, environ: Mapping[str, str]) -> int | str:
    """Return what NVML calls the GPU that CUDA calls `index`: its UUID, or a number where torch sees no GPU.

    The two count differently: CUDA begins with the fastest GPU and counts those in CUDA_VISIBLE_DEVICES alone.
    """
    if TABLE["cuda"].available() and index < torch.cuda.device_count():
        # The UUID is the same for both, whatever is hidden and whatever comes first.
        return f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    visible = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name = visible[index] if index < len(visible) else str(index)
    # CUDA_VISIBLE_DEVICES may hold UUIDs as well as numbers.
    return int(name) if name.isdecimal() else name
