"""Out of memory: one line on what was under way and which flags help; PyTorch's snapshot of a GPU's memory."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..dist.accelerator import accelerator
from ..dist.distributed import get_rank, print_once
from ..dist.memory import peak_memory
from ..errors import MemoryFullError
from ..targets import Target, object_count

#: Flags that need less memory, in the order of what they cost.
OF_TRAINING = (
    "--eval_batch_size 1 where an evaluation needs more, --amp bf16 (rounding), --grad_checkpoint (a third more time), "
    "{smaller}--mask_chunk 8 with --masks, a smaller --image_size"
)
OF_EVALUATION = "--eval_batch_size {half} (the same images), --amp bf16 (rounding), --mask_chunk 8 with --masks"
OF_PREDICTION = "--batch_size {half}, --amp bf16 (rounding), --device cpu"
#: Allocations and frees that a snapshot remembers, the last ones.
SNAPSHOT_ENTRIES = 100_000

#: The system's refusals, which PyTorch raises as RuntimeErrors.
_OF_THE_HOST = re.compile(r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory")
_WANTED = re.compile(r"[Tt]ried to allocate ([\d.]+ \w+)")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for a GPU's memory that is used up, and for the host's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_OF_THE_HOST.search(str(error)))


@contextmanager
def naming_memory(
    what: str, batches: Sequence[tuple[Any, Sequence[Target]]], *, device: torch.device, ways: str
) -> Iterator[None]:
    """Turn an error of memory within the context into one line. Raises MemoryFullError.

    Args:
        what: is under way, such as "a training step".
        batches: those of the step: images, with `tensors` or themselves a tensor (B, C, H, W), and targets.
        device: that computes.
        ways: one of the constants above.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        shapes = [tuple(getattr(getattr(images, "tensors", images), "shape", (1,))) for images, _ in batches]
        # The largest of the step's batches is the one that did not fit.
        shape = max(shapes, key=math.prod)
        listed = " and ".join(map(str, shapes))
        count = sum(object_count(target) for _, targets in batches for target in targets)
        objects = f" with {count} objects" if count else ""
        wanted = _WANTED.search(str(error))
        asked = f", {wanted[1]} more were asked for" if wanted else ""
        # The batch of a step is the same in smaller parts: nothing of it changes without being told.
        half = max(1, shape[0] // 2)
        smaller = (
            f"--batch_size {half} --accumulate {2 * len(batches)} (the same step in smaller parts), "
            if shape[0] > 1
            else ""
        )
        raise MemoryFullError(
            f"out of memory on {device} in {what}: images {listed}{objects}, peak {peak_memory(device):.0f} MiB"
            f"{asked}. In the order of their cost: {ways.format(half=half, smaller=smaller)}"
        ) from error


@contextmanager
def memory_snapshot(path: str | None, device: torch.device) -> Iterator[None]:
    """Write PyTorch's snapshot of a GPU's memory at the end of the context, also after an error; None: do nothing.

    https://pytorch.org/memory_viz draws the file. Ranks but the first add their number to its name.
    """
    if path is None:
        yield
        return
    if not accelerator(device).cuda:
        print_once(f"--memory_snapshot {path}: PyTorch records the memory of CUDA GPUs alone, nothing is written")
        yield
        return
    file = Path(path).with_name(Path(path).name + (f".{get_rank()}" if get_rank() else ""))
    # Bounded: each allocation is kept with its call stack, in the host's memory.
    torch.cuda.memory._record_memory_history(max_entries=SNAPSHOT_ENTRIES)
    try:
        yield
    finally:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.cuda.memory._dump_snapshot(str(file))
        torch.cuda.memory._record_memory_history(enabled=None)
        print(f"wrote {file}: https://pytorch.org/memory_viz draws it", flush=True)
