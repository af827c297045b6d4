"""Several processes that train one model: joining them, asking which one this is, and combining what each has.

Every function also works in a single process, which communicates with no other.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .accelerator import accelerator
from ..errors import UserError
from .launch import Place, find_place, has_gpu_of_its_own, launch_rank
from .meeting import meet

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """The process as `init_distributed` found it; `gpu` is for DistributedDataParallel, None on the CPU."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    distributed: bool = False
    backend: str | None = None
    gpu: int | None = None


def init_distributed(
    *, device: str, dist_url: str = "env://", world_size: int = 1, timeout: float | None = None
) -> Launch:
    """Join the other processes when torchrun or `srun` started several; return this one's place.

    `device` ("cpu", "cuda", ...) decides the backend: NCCL for GPUs, gloo for the rest. Each process takes the GPU
    of its local rank. `dist_url` other than `env://` is where the processes meet. `world_size` is DETR's flag; the
    number of processes is the launcher's to decide, so another value above 1 only prints a line. `timeout` is how many
    seconds one process waits for another, here and in every exchange; None is PyTorch's.
    Raises UserError when a machine has fewer GPUs than processes, the launcher's variables make no sense, the port is
    taken, or not all processes come.
    """
    place = find_place(os.environ, dist_url)
    if place.world_size > 1 and world_size not in (1, place.world_size):
        print_once(f"--world_size {world_size}: the launcher decides, and has started {place.world_size} processes")
    if place.world_size == 1:
        if place.launcher is None and world_size > 1:
            print_once(
                f"--world_size {world_size}: the launcher decides how many processes there are, and this is the only "
                f"one; torchrun --nproc_per_node={world_size} main.py ... starts them"
            )
        return Launch()
    gpu = _take_gpu(place) if accelerator(torch.device(device)).cuda else None
    backend = "gloo" if gpu is None or not dist.is_nccl_available() else "nccl"  # gloo knows GPUs too, more slowly
    device_id = torch.device("cuda", gpu) if backend == "nccl" and gpu is not None else None
    meet(place, backend, timeout=timeout, device=device_id)
    print_once(f"{place.world_size} processes ({place.launcher}, {backend})")
    return Launch(place.rank, place.world_size, place.local_rank, True, backend, gpu)


def is_dist_avail_and_initialized() -> bool:
    """Tell if this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Return the number of this process; outside the life of the group, the one its launcher gave it."""
    # The launcher's, because an error before the group or after it should be printed once too.
    return dist.get_rank() if is_dist_avail_and_initialized() else launch_rank(os.environ)


def get_world_size() -> int:
    """Return the number of processes in the group, 1 without one."""
    return dist.get_world_size() if is_dist_avail_and_initialized() else 1


def is_main_process() -> bool:
    """Tell if this is rank 0: the one that prints and writes files."""
    return get_rank() == 0


def print_once(*values: object) -> None:
    """Print on rank 0 only, and at once, so that the lines of a killed run are not lost."""
    if is_main_process():
        print(*values, flush=True)


def reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean of `tensor` (any shape) over the processes; the tensor itself in a single one.

    Nothing waits for the result: it stays on the device.
    """
    if get_world_size() == 1:
        return tensor
    total = tensor.detach().clone()  # all_reduce writes into its argument
    # A sum, divided below: gloo has no mean.
    dist.all_reduce(total)
    return total / get_world_size()


def all_gather(value: T) -> list[T]:
    """Return the `value` of every process, in the order of ranks. Any value that can be pickled."""
    if get_world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * get_world_size()
    # Pickled to bytes and exchanged: for small things between steps, not for gradients.
    dist.all_gather_object(gathered, value)
    return gathered


def only_rank_0(act: Callable[[], object]) -> None:
    """Do something on rank 0, and wait for it; what it raises as a UserError is raised on every rank."""
    error = None
    if is_main_process():
        try:
            act()
        except UserError as refused:
            error = refused
    # All wait here: rank 0 until the others come, the others until it is done.
    error = all_gather(error)[0]
    if error is not None:
        raise error


def barrier() -> None:
    """Wait until every process is here."""
    if is_dist_avail_and_initialized():
        dist.barrier()


def shutdown() -> None:
    """Leave the group; call it at the end of the program, also after an error."""
    if is_dist_avail_and_initialized():
        dist.destroy_process_group()


def _take_gpu(place: Place) -> int:
    """Make the GPU of this local rank the current one and return its index."""
    count = torch.cuda.device_count()
    # With its own GPU alone in sight, every task counts it as number 0, whatever its rank on the machine.
    gpu = 0 if count == 1 and has_gpu_of_its_own(os.environ) else place.local_rank
    if gpu >= count:
        raise UserError(
            f"process {gpu + 1} on this machine has no GPU: there are {count}; "
            f"start at most {count} processes here, or give --device cpu"
        )
    torch.cuda.set_device(gpu)
    return gpu
