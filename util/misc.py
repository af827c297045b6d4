"""DETR's scripts import these names from here: `import util.misc as utils`. This project's own files do not."""

import builtins
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .dist.distributed import all_gather as all_gather
from .dist.distributed import get_rank as get_rank
from .dist.distributed import get_world_size, init_distributed, is_main_process, reduce_mean
from .dist.distributed import is_dist_avail_and_initialized as is_dist_avail_and_initialized
from .metric_logger import MetricLogger as MetricLogger
from .metric_logger import SmoothedValue as SmoothedValue
from .nested_tensor import NestedTensor as NestedTensor
from .nested_tensor import nested_tensor_from_tensor_list
from .runs.run_info import describe_git

#: Python's own, under `setup_for_distributed`.
_PRINT = builtins.print


def collate_fn(batch: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    """Return examples (image (3, H, W), target, ...) as a NestedTensor, a tuple of targets, and so on."""
    images, *rest = zip(*batch, strict=True)
    return nested_tensor_from_tensor_list(images), *rest


def init_distributed_mode(args: Namespace) -> None:
    """Join the processes that a launcher started, and set `distributed` in `args`.

    With several processes, also `rank`, `world_size`, `dist_backend` and `gpu` (None on the CPU, where the backend is
    gloo); and only rank 0 prints from then on, see `setup_for_distributed`. Reads `device` and `dist_url`.
    Raises UserError where a machine has fewer GPUs than processes.
    """
    launch = init_distributed(
        device=getattr(args, "device", "cuda"),
        dist_url=getattr(args, "dist_url", "env://"),
        world_size=getattr(args, "world_size", 1),
    )
    args.distributed = launch.distributed
    if not launch.distributed:
        print("Not using distributed mode")
        return
    args.rank, args.world_size = launch.rank, launch.world_size
    args.gpu, args.dist_backend = launch.gpu, launch.backend
    setup_for_distributed(is_main_process())


def setup_for_distributed(is_master: bool) -> None:
    """Let `print` say nothing in this process unless it is the master, or called with `force=True`."""
    builtins.print = partial(_print_if, is_master)


def _print_if(is_master: bool, *values: object, force: bool = False, **options: Any) -> None:
    if is_master or force:
        _PRINT(*values, **options)


def save_on_master(*args: Any, **kwargs: Any) -> None:
    """Call `torch.save` on rank 0 alone."""
    if is_main_process():
        torch.save(*args, **kwargs)


def reduce_dict(input_dict: Mapping[str, Tensor], average: bool = True) -> Mapping[str, Tensor]:
    """Return means over the processes, or sums, of tensors of one shape by name; every process has the same names."""
    if get_world_size() == 1:
        return input_dict
    names = sorted(input_dict)  # in the same order everywhere
    values = reduce_mean(torch.stack([input_dict[name] for name in names]))
    # Means back to sums.
    return dict(zip(names, values if average else values * get_world_size()))


def get_sha() -> str:
    """Return commit, state and branch of this checkout on one line."""
    return describe_git()


@torch.no_grad()
def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Return for each k the percentage of rows of `output` (n, classes) with `target` (n,) among the k largest.

    Without rows, a single zero.
    """
    if not len(target):
        return [torch.zeros((), device=output.device)]
    best = output.topk(max(topk), dim=1).indices  # (n, k), the largest first
    # (n, k) against (n, 1).
    hits = best == target[:, None]
    return [100 * hits[:, :k].any(1).float().mean() for k in topk]


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: float | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Call PyTorch's function, which takes empty batches by now."""
    return functional.interpolate(input, size, scale_factor, mode, align_corners)


def _max_by_axis(the_list: Sequence[Sequence[int]]) -> list[int]:
    """Return the largest of each place."""
    return [max(sides) for sides in zip(*the_list, strict=True)]
