"""Time the parts of a training step, and count its reads of the device and its operations, for any DETR.

Parts are timed by wrapping methods that every implementation has: the model's forward, the criterion and its matcher,
`backward` and the optimizer. The rest of the step is the engine's own: moving the batch, the log.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

#: Operations whose result the host has to wait for: a number in Python, or a shape that depends on values.
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal")


class StepParts:
    """Seconds of the parts of a step, collected until `take`.

    `matcher` lies inside the criterion: `loss` is the criterion without it. On a GPU every part waits for it.
    """

    def __init__(self, model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, cuda: bool) -> None:
        self.seconds: dict[str, float] = {}
        self.cuda = cuda
        self._wrap(model, "forward", "forward")
        self._wrap(criterion, "forward", "loss")
        # Ours matches all decoder layers at once; the original calls forward for each.
        method = "match_layers" if hasattr(criterion.matcher, "match_layers") else "forward"
        self._wrap(criterion.matcher, method, "matcher")
        # On the class: the loss is a new tensor in every step.
        self._wrap(torch.Tensor, "backward", "backward")
        self._wrap(optimizer, "step", "optimizer")

    def take(self, whole: float) -> dict[str, float]:
        """Return the parts of a step that took `whole` seconds; `rest` is the time that none of them accounts for."""
        parts, self.seconds = self.seconds, {}
        # The matcher runs inside the criterion and was timed twice.
        parts["loss"] = parts.get("loss", 0.0) - parts.get("matcher", 0.0)
        return parts | {"rest": whole - sum(parts.values())}

    def _wrap(self, owner: Any, method: str, part: str) -> None:
        call = getattr(owner, method)

        def timed(*args, **kwargs):
            start = self._now()
            try:
                return call(*args, **kwargs)
            finally:
                # Summed, for the original's matcher is called once a layer.
                self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - start

        setattr(owner, method, timed)

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


class _Reads(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        #: Operators but views and the optimizer's (which is fused): on a GPU each is a launch or more.
        self.operators = 0
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.operators += not self.paused and not func.is_view
        # Indexing with a mask gives a shape that depends on values, so a GPU makes the host wait.
        by_mask = func.name().startswith("aten::index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool for i in (args[1] if len(args) > 1 else None) or ()
        )
        # A name is followed by its overload: aten::nonzero.out.
        self.count += not self.paused and (by_mask or func.name().split(".")[0] in READS)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(model: nn.Module, optimizer: torch.optim.Optimizer, found: dict[str, int]) -> Iterator[None]:
    """Count the `reads`, `flops` and `operators` of one step, which is slower for it, into `found`.

    Reads count from the beginning of the forward pass on: before, the batch is still the host's. On the CPU, too, every
    `.cpu()` counts, because it would wait on a GPU. AdamW's do not: its counters of steps are the host's.
    """
    reads, move = _Reads(), Tensor.cpu
    began: list[int] = []

    def cpu(self: Tensor, *args, **kwargs) -> Tensor:
        reads.count += 1
        return move(self, *args, **kwargs)

    # What was read before the first forward pass is the loader's: it is subtracted below.
    hooks = [
        model.register_forward_pre_hook(lambda *_: began.append(reads.count) if not began else None),
        optimizer.register_step_pre_hook(lambda *_: setattr(reads, "paused", True)),
        optimizer.register_step_post_hook(lambda *_: setattr(reads, "paused", False)),
    ]
    Tensor.cpu = cpu
    try:
        with FlopCounterMode(display=False) as flops, reads:
            yield
    finally:
        Tensor.cpu = move
        for hook in hooks:
            hook.remove()
    found |= {"reads": reads.count - (began or [0])[0], "flops": flops.get_total_flops(), "operators": reads.operators}


@contextmanager
def counted_kernels(device: torch.device, found: dict[str, int]) -> Iterator[None]:
    """Count the `kernels` that a GPU is given in one step into `found`; without a GPU, nothing."""
    if device.type != "cuda":
        yield
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        yield
        torch.cuda.synchronize()
    found["kernels"] = sum(map(is_kernel, profile.events()))


def is_kernel(event: Any) -> bool:
    """Return True for a profiler's event on the GPU that is neither a copy, nor a fill, nor a named range."""
    # Ranges by record_function appear on the GPU's side, too, and are no work.
    on_gpu = event.device_type == torch.autograd.DeviceType.CUDA
    return on_gpu and not event.is_user_annotation and not event.name.startswith(("Memcpy", "Memset"))


def best_rate(device: torch.device, dtype: torch.dtype, *, size: int = 4096, repeats: int = 3) -> float:
    """Most operations a second of a product of two square matrices or a 3 x 3 convolution: a step's upper bound.

    Both are tried, because on some CPUs the library of convolutions is faster than that of products.
    """
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    channels, side = max(1, size // 16), max(1, size // 64)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    # Channels last, the layout in which both cuDNN and oneDNN are fastest.
    maps = torch.randn(2, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    # The least of some: the first also chooses kernels and fills caches.
    product = min(_seconds(lambda: a @ b, device) for _ in range(repeats + 1))
    convolution = min(_seconds(lambda: torch.conv2d(maps, weight, padding=1), device) for _ in range(repeats + 1))
    # A multiplication and an addition count as two. Padding keeps the sides, so outputs are as many as inputs.
    return max(2 * size**3 / product, 2 * maps.numel() * channels * 9 / convolution)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
