"""The exchange of gradients between processes, and the division of the optimizer's state: the flags for many GPUs.

With all of it off, every process exchanges float32 gradients in buckets of 25 MB while the backward pass goes on, and
holds the optimizer's whole state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .distributed import Launch


@dataclass(frozen=True)
class Exchange:
    """Settings of the exchange; the defaults are PyTorch's.

    Attributes:
        bucket_mb: gradients are exchanged as soon as so many megabytes of them are there; None is PyTorch's 25.
        static_graph: the same weights are used in every step, in the same order; then the exchange is planned once.
        bf16: gradients travel as bfloat16, half as many bytes, rounded to 8 bits; each process adds up in that type.
    """

    bucket_mb: float | None = None
    static_graph: bool = False
    bf16: bool = False


def without_effect(zero: bool, exchange: Exchange) -> list[str]:
    """Return the flags that are given and change nothing in a single process."""
    given = {
        "--bucket_mb": exchange.bucket_mb is not None,
        "--static_graph": exchange.static_graph,
        "--compress_gradients": exchange.bf16,
        "--zero": zero,
    }
    return [name for name, is_given in given.items() if is_given]


def wrap(model: nn.Module, launch: Launch, exchange: Exchange | None = None) -> DistributedDataParallel:
    """Return the model inside DistributedDataParallel."""
    exchange = exchange or Exchange()
    gpus = None if launch.gpu is None else [launch.gpu]
    wrapped = DistributedDataParallel(
        model,
        device_ids=gpus,
        # Views: gradients lie in the buckets that are exchanged, which saves a copy of all of them.
        gradient_as_bucket_view=True,
        static_graph=exchange.static_graph,
        bucket_cap_mb=exchange.bucket_mb,  # type: ignore[arg-type]  # a float works: it is multiplied by 2**20
    )
    if exchange.bf16:
        wrapped.register_comm_hook(None, average_in_bf16)
    return wrapped


def average_in_bf16(_: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Start the exchange of a bucket in bfloat16; its future holds the mean over the processes, in the bucket's type.

    PyTorch's own hook of this kind asks for NCCL; this one works with gloo, too.
    """
    whole = bucket.buffer()
    # Divided before it is sent, so that the sum is as large as the mean.
    sent = whole.to(torch.bfloat16).div_(torch.distributed.get_world_size())
    work = torch.distributed.all_reduce(sent, async_op=True)
    assert work is not None

    def into_bucket(done: torch.futures.Future[Any]) -> torch.Tensor:
        done.wait()
        return whole.copy_(sent)

    return work.get_future().then(into_bucket)


def sharded_adamw(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    """Return an AdamW whose state is divided among the processes: each changes its part of the weights, and sends it.

    Args:
        groups: of parameters, as for AdamW.
        settings: AdamW's.
    """
    from torch.distributed.optim import ZeroRedundancyOptimizer  # not above: it takes a second to import

    class ShardedAdamW(ZeroRedundancyOptimizer):
        """ZeroRedundancyOptimizer that leaves what it loads as it is, and puts step counts where AdamW wants them."""

        def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
            # It sets the state of other processes' parameters to None: in a copy, for the caller still needs them.
            super().load_state_dict({**state_dict, "state": dict(state_dict["state"])})
            for parameter, state in self.optim.state.items():
                # It moves them to the host, where the fused AdamW of a GPU does not look for them.
                if isinstance(step := state.get("step"), torch.Tensor):
                    state["step"] = step.to(parameter.device)

    # A class made here has no name that pickle finds, and nothing pickles an optimizer: checkpoints hold its state.
    return ShardedAdamW(groups, optimizer_class=torch.optim.AdamW, **settings)


def own_part(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that makes this process's steps and holds their state: a sharded one's part, or itself."""
    return getattr(optimizer, "optim", optimizer)


def gather_state(optimizer: torch.optim.Optimizer) -> None:
    """Bring a sharded optimizer's state together on rank 0, for `state_dict` there; every process calls it."""
    if own_part(optimizer) is not optimizer:
        optimizer.consolidate_state_dict(to=0)  # type: ignore[attr-defined]  # a ZeroRedundancyOptimizer's

