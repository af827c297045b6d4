"""From a dataset to padded batches whose order and augmentation depend only on seed, epoch and rank."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from util.errors import DatasetError

from .collate import Collate
from .samplers import AspectGroupedSampler

#: Pads the images of a batch as DETR does: to the largest height and width among them.
collate_fn = Collate()


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
    num_workers: int,
    seed: int,
    rank: int,
    world_size: int,
    collate: Callable = collate_fn,
    aspects: np.ndarray | None = None,
    pin_memory: bool = False,
) -> DataLoader:
    """Build the loader of one process; call `set_epoch` before each epoch.

    Every process gets the same number of images: with `world_size` > 1 the last few are repeated to make it even.
    Where a process has fewer images than a batch, `drop_last` would leave nothing: it trains on one smaller
    batch instead, and rank 0 says so. `aspects` (n,), width / height of each image, puts like ones together
    (`AspectGroupedSampler`, always shuffled, no batch dropped). `pin_memory` is for copies to a GPU only: elsewhere
    it is one copy more. Workers live for one epoch: then what they draw depends on its number alone, and starting
    them costs little beside an epoch. Raises DatasetError for a dataset without images.
    """
    if len(dataset) == 0:
        raise DatasetError("the dataset has no images: nothing to train or evaluate on")
    # Also in a single process: its order then depends on seed and epoch alone, not on what drew random numbers before.
    sampler = DistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)
    if aspects is not None:
        sampler = AspectGroupedSampler(aspects, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
    if drop_last and len(sampler) < batch_size:
        drop_last = False
        if rank == 0:
            print(f"Fewer images ({len(sampler)} per process) than --batch_size {batch_size}: one smaller batch.")
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    set_epoch(loader, 0)
    return loader


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Make the loader's next pass that of `epoch`, whatever was run before.

    The generator seeds the workers. Without workers (`num_workers=0`) transforms draw from the process's own
    random state, which the caller reseeds for each epoch.
    """
    sampler = loader.sampler
    sampler.set_epoch(epoch)
    state = np.random.SeedSequence([sampler.seed % 2**64, epoch, sampler.rank]).generate_state(1, np.uint64)
    loader.generator.manual_seed(int(state[0]))
