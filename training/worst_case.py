"""The largest batch that a run can meet: its place in shared memory, and --warmup_worst_case, which tries it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import datasets
from building import Detector, Setup, without_wrapper
from datasets.sizes import ImageSizes
from datasets.workers import warn_of_shared_memory
from engine import Batch, StepContext, add_gradients
from util.dist.distributed import print_once
from util.dist.exchange import own_part
from util.dist.memory import peak_memory
from util.runs.memory import OF_TRAINING, naming_memory
from util.runs.random_state import random_state, set_random_state
from util.targets import object_count


def prepare_memory(run: Setup, detector: Detector, optimizer: torch.optim.Optimizer) -> None:
    """Say where shared memory is too small for the loader's workers, and try the largest batch if that is asked for.

    Raises MemoryFullError where that does not fit.
    """
    images, canvas = run.cfg.batch_size, largest_sides(run)
    line = warn_of_shared_memory(4 * images * max(h * w for h, w in canvas), num_workers=run.cfg.num_workers)
    if line:
        print_once(line)
    if run.cfg.warmup_worst_case:
        print_once(try_largest(run, detector, optimizer))


def largest_sides(run: Setup) -> list[tuple[int, int]]:
    """Return height and width of each image of a batch that needs the largest canvas."""
    cfg = run.cfg
    if cfg.dataset_file == "shapes":
        return [(cfg.image_size, cfg.image_size)] * cfg.batch_size
    sizes = ImageSizes(image_size=cfg.image_size, max_size=cfg.max_size, train_scales=cfg.train_scales)
    short, long = min(max(sizes.scales), sizes.limit), sizes.limit
    # A tall image among wide ones: the batch is as high as the one and as wide as the others.
    return [(long, short), *[(short, long)] * (cfg.batch_size - 1)]


def largest_batch(run: Setup) -> Batch:
    """Return a batch of noise on the largest canvas, each image with as many objects as any training image has."""
    train = run.data.train
    assert train is not None
    objects = max(1, int(datasets.unwrap(train).object_counts().max()))
    generator = torch.Generator().manual_seed(0)  # its own: no number is drawn from the run's
    examples = []
    for height, width in largest_sides(run):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        target = {
            "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(objects, 1),
            "labels": torch.full((objects,), min(1, run.data.num_classes - 1)),
            "area": torch.full((objects,), 0.16 * height * width),
            "iscrowd": torch.zeros(objects, dtype=torch.int64),
            "image_id": torch.tensor([0]),
            "orig_size": torch.tensor([height, width]),
            "size": torch.tensor([height, width]),
        }
        if run.cfg.masks:
            target["masks"] = torch.ones(objects, height, width, dtype=torch.bool)
        examples.append((image, target))
    return datasets.build_collate(train, run.cfg)(examples)


def try_largest(run: Setup, detector: Detector, optimizer: torch.optim.Optimizer) -> str:
    """Run the largest batch forward and backward, with room for the optimizer's state; return a line about it.

    Weights, statistics, gradients and random generators are afterwards what they were. Raises MemoryFullError.
    """
    device, model = run.place.device, detector.model
    before = random_state(device)
    # Batch norms that train take the noise into their running statistics: they are put back below.
    buffers = {name: buffer.clone() for name, buffer in without_wrapper(model).named_buffers()}
    batch = largest_batch(run)
    model.train()
    detector.criterion.train()
    context = StepContext(run.place.precision)
    with naming_memory("--warmup_worst_case", [batch], device=device, ways=OF_TRAINING):
        # Two numbers for every weight, which AdamW makes in its first step.
        state = [] if own_part(optimizer).state else reserve(optimizer)
        for _ in range(2):  # the second beside the gradients of the first, as with --accumulate
            add_gradients(model, detector.criterion, [batch], device, context)
    del state
    drop_traces(model, buffers)
    set_random_state(before, device)
    # (B, 3, H, W) of the canvas, which is larger than any single image.
    (shape, objects) = tuple(batch[0].tensors.shape), sum(map(object_count, batch[1]))
    peak = f"peak {peak_memory(device):.0f} MiB"
    return f"--warmup_worst_case: images {shape} with {objects} objects fit: {peak}"


def reserve(optimizer: torch.optim.Optimizer) -> Sequence[Tensor]:
    """Return tensors as large as the optimizer's state will be."""
    weights = [p for group in own_part(optimizer).param_groups for p in group["params"]]
    # Zeros, because on a CPU memory that nobody has written to is not yet taken from the machine.
    return [torch.zeros_like(p) for p in weights for _ in range(2)]


def drop_traces(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Drop gradients, and put statistics back."""
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in without_wrapper(model).named_buffers():
            buffer.copy_(buffers[name])
