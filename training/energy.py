"""Joules of a run (--energy): NVML's counter of the GPU, read where training and evaluation begin and end.

The counter moves every few hundredths of a second, far too seldom for the phases of a step; over an epoch that does not
matter, and reading it there makes no step wait.
"""

from collections.abc import Mapping
from typing import Any

import torch

from util.dist.accelerator import accelerator
from util.dist.distributed import all_gather, get_world_size
from util.errors import UserError
from util.nvml import Gpu, open_gpu

from .evaluation import Evaluation


class EnergyMeter:
    """Counts the joules of all processes' GPUs; without a GPU (--energy is off) it does nothing.

    Every process calls each method at the same place, for they add up what theirs used.

    Args:
        gpu: of this process.
        device: the same, as torch knows it.
    """

    def __init__(self, gpu: Gpu | None, device: torch.device) -> None:
        self.gpu = gpu
        self.device = device
        self._begun = 0

    def begin(self) -> None:
        """Note the counter; what `taken` returns is from here on."""
        if self.gpu is not None:
            self._begun = self._read(self.gpu)

    def of_training(self, *, steps: int, images: int) -> Mapping[str, float]:
        """Return joules since `begin`, for each step and each image, and the limit of a GPU's power in watts.

        `steps` are those since `begin`, and `images` those of one process.
        """
        if self.gpu is None or not steps:
            return {}
        # Of all processes; each made the same number of steps, on images of its own.
        joules = self._taken(self.gpu)
        per_image = joules / (images * get_world_size())
        shares = {"joules_per_step": joules / steps, "joules_per_image": per_image}
        return {"joules": joules, **shares, "power_limit": self.gpu.power_limit_watts()}

    def around(self, evaluate_now: Evaluation) -> Evaluation:
        """Return an evaluation whose statistics have its joules."""
        gpu = self.gpu
        if gpu is None:
            return evaluate_now

        def evaluate_and_count() -> Any:
            self.begin()
            stats, evaluator = evaluate_now()
            return stats | {"joules": self._taken(gpu)}, evaluator

        return evaluate_and_count

    def _taken(self, gpu: Gpu) -> float:
        """Joules of all processes since `begin`."""
        # NVML counts millijoules since the driver was loaded: only differences mean something.
        mine = (self._read(gpu) - self._begun) / 1000
        return sum(all_gather(mine)) if get_world_size() > 1 else mine

    def _read(self, gpu: Gpu) -> int:
        accelerator(self.device).synchronise(self.device)  # what was asked of the GPU belongs to the phase that asked
        return gpu.energy_mj()


def start_meter(device: torch.device, *, wanted: bool) -> EnergyMeter:
    """Return the meter of a run. Raises UserError where it is wanted and this device's energy is not counted."""
    if not wanted:
        return EnergyMeter(None, device)
    if not accelerator(device).cuda:
        raise UserError(f"--energy counts the joules of an NVIDIA GPU, and this run computes on {device}")
    gpu = open_gpu(torch.cuda.current_device() if device.index is None else device.index, needed_by="--energy")
    gpu.energy_mj()  # GPUs before Volta do not count: said here, not after an epoch
    return EnergyMeter(gpu, device)
