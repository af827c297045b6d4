"""From a dataset to padded batches whose order and augmentation depend only on seed, epoch and rank."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from util.errors import DatasetError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list

Target = dict[str, Tensor]


def collate_fn(batch: Sequence[tuple[Tensor, Target]]) -> tuple[NestedTensor, tuple[Target, ...]]:
    """Pad the pictures (3, H, W) of a batch to one NestedTensor (B, 3, H, W); the targets stay as they are."""
    images, targets = zip(*batch)
    return nested_tensor_from_tensor_list(images), targets


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
) -> DataLoader:
    """Build the loader of one process; call `set_epoch` before each epoch.

    Every process gets the same number of pictures: with `world_size` > 1 the last few are repeated to make it even.
    Where a process has fewer pictures than a batch, `drop_last` would leave nothing: it trains on one smaller
    batch instead, and rank 0 says so. Raises DatasetError for a dataset without pictures.
    """
    if len(dataset) == 0:
        raise DatasetError("the dataset has no pictures: nothing to train or evaluate on")
    # Also in a single process: its order then depends on seed and epoch alone, not on what drew random numbers before.
    sampler = DistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)
    if drop_last and len(sampler) < batch_size:
        drop_last = False
        if rank == 0:
            print(f"Fewer pictures ({len(sampler)} per process) than --batch_size {batch_size}: one smaller batch.")
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate_fn,
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
