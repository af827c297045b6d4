"""The meeting of a run's processes, and how those that are left find out who is lost."""

import os
import re
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..errors import LaunchError
from .launch import Place

#: Seconds that a process waits for signs of life of the others once one is lost.
PATIENCE = 3.0
#: gloo's errors are RuntimeErrors with these words.
_OF_GLOO = re.compile(r"gloo|Connection (closed|reset) by peer|Timed out waiting", re.IGNORECASE)

#: The notice board of this process's group, which lies with rank 0 or the launcher.
_board: dist.Store | None = None


def meet(place: Place, backend: str, *, timeout: float | None, device: torch.device | None) -> None:
    """Meet the other processes and make the group. Raises LaunchError where that fails.

    Args:
        place: of this process.
        backend: nccl or gloo.
        timeout: seconds to wait for the others, here and in every exchange; None is PyTorch's.
        device: of NCCL. Told its GPU, it connects at once, and a machine that cannot is known before the model is built.
    """
    global _board
    where = place.init_method
    if where == "env://":
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    seconds = 1800.0 if timeout is None else timeout
    try:
        # By hand, so that the store can be kept: it works when the group is broken.
        store, _, _ = next(
            rendezvous(place.init_method, place.rank, place.world_size, timeout=timedelta(seconds=seconds))
        )
        store.set_timeout(timedelta(seconds=seconds))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", store),
            timeout=None if timeout is None else timedelta(seconds=timeout),
            rank=place.rank,
            world_size=place.world_size,
            device_id=device,
        )
    except dist.DistError as error:
        if "EADDRINUSE" in str(error):
            raise LaunchError(
                f"{where}: the port is taken, by another run perhaps; set another MASTER_PORT (torchrun --master-port)"
            ) from None
        raise LaunchError(
            f"{where}: rank {place.rank} of {place.world_size} did not meet the others in {seconds:g} s "
            "(--dist_timeout): have all of them been started, with this number of processes?"
        ) from None
    _board = dist.PrefixStore("lost", store)


def describe_lost(error: RuntimeError) -> str | None:
    """Return a line that names the processes which ended or hang, after an exchange with them failed.

    None where the error is of another kind. '' on all but one of the processes that are left.
    """
    if _board is None or not dist.is_initialized():
        return None
    if not isinstance(error, dist.DistError) and not _OF_GLOO.search(str(error)):
        return None
    place = Place(dist.get_rank(), dist.get_world_size())
    try:
        _board.set(str(place.rank), "")
        lost = _absent(_board, place.world_size)
    except RuntimeError:  # the board is gone, and with it who held it
        lost = [0]
    if not lost:  # all are there: one gave up waiting for another that was slow
        return f"an exchange between the {place.world_size} processes failed: {str(error).splitlines()[0]}"
    if place.rank != min(set(range(place.world_size)) - set(lost)):
        return ""
    return (
        f"{_name(lost, place.world_size)} ended, or has not answered for --dist_timeout: its own messages say why; "
        "--resume auto goes on from what was saved last"
    )


def _absent(board: dist.Store, world_size: int) -> list[int]:
    """Return the ranks that have not left a sign in a while."""
    deadline = time.monotonic() + PATIENCE
    while True:
        absent = [rank for rank in range(world_size) if not board.check([str(rank)])]
        if not absent or time.monotonic() > deadline:
            return absent
        time.sleep(0.05)


def _name(ranks: list[int], world_size: int) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} of {world_size}"
