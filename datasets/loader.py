"""From a dataset to padded batches whose order and augmentation depend only on seed, epoch and rank."""

import signal
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from util.errors import DatasetError

from .collate import Collate
from .interface import DatasetOrSubset
from .repeats import RepeatedImages, RepeatSampler
from .resumable import ResumableLoader
from .samplers import AspectGroupedSampler
from .workers import end_on_lost_batches, end_workers_at_exit

#: Pads the images of a batch as DETR does: to the largest height and width among them.
collate_fn = Collate()


class EpochSampler(Protocol):
    """The order of one process, which depends on seed, epoch and rank alone."""

    seed: int
    rank: int

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...


def make_sampler(
    dataset: DatasetOrSubset,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    rank: int,
    world_size: int,
    aspects: np.ndarray | None = None,
    repeats: RepeatedImages | None = None,
) -> EpochSampler:
    """Order the images of one process.

    Every process gets the same number of images: with `world_size` > 1 the last few are repeated to make it even.

    Args:
        dataset: only its length counts.
        batch_size: images per process and step.
        shuffle: a new order in every epoch.
        seed, rank, world_size: as for torch's `DistributedSampler`.
        aspects: width / height of each image (n,); puts like ones together (`AspectGroupedSampler`, always shuffled).
        repeats: how often each image comes in an epoch, always shuffled; without it once.

    Raises:
        DatasetError: for a dataset without images.
    """
    if len(dataset) == 0:
        raise DatasetError("the dataset has no images: nothing to train or evaluate on")
    if aspects is not None:
        place = {"seed": seed, "rank": rank, "world_size": world_size}
        return AspectGroupedSampler(aspects, batch_size=batch_size, repeats=repeats, **place)
    if repeats is not None:
        return RepeatSampler(repeats, seed=seed, rank=rank, world_size=world_size)
    # Also in a single process: its order then depends on seed and epoch alone, not on what drew random numbers before.
    data = cast(Dataset, dataset)
    return DistributedSampler(data, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)


def make_loader(
    dataset: DatasetOrSubset,
    sampler: EpochSampler,
    *,
    batch_size: int,
    drop_last: bool,
    num_workers: int,
    collate: Callable = collate_fn,
    pin_memory: bool = False,
) -> ResumableLoader:
    """Build the loader of one process; call `set_epoch` before each epoch.

    Workers live for one epoch: then what they draw depends on its number alone, and starting them costs little beside
    an epoch.

    Args:
        dataset: the images of `sampler`.
        sampler: their order, from `make_sampler`.
        batch_size: images per process and step.
        drop_last: leave out a last batch that is not full. Where a process has fewer images than a batch, that would
            leave nothing: it trains on one smaller batch instead, and rank 0 says so.
        num_workers: processes that load; 0 loads in this one.
        collate: makes a batch of examples.
        pin_memory: for copies to a GPU; elsewhere it is one copy more.
    """
    if drop_last and len(sampler) < batch_size:
        drop_last = False
        if sampler.rank == 0:
            print(f"Fewer images ({len(sampler)} per process) than --batch_size {batch_size}: one smaller batch.")
    if num_workers:
        end_workers_at_exit()
    loader = ResumableLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        # Its own: the loader would draw a number from the global generator at the start of each pass, and move
        # everything after.
        generator=torch.Generator(),
        worker_init_fn=partial(_start_worker, Image.MAX_IMAGE_PIXELS),
    )
    set_epoch(loader, 0)
    return loader


def _start_worker(most_pixels: int | None, worker: int) -> None:
    """Take over PIL's limit, which a worker that is spawned, not forked, does not have; leave signals to the run.

    A scheduler and Ctrl-C send theirs to all processes: a worker that ended would break the step that is to be saved.
    """
    Image.MAX_IMAGE_PIXELS = most_pixels
    end_on_lost_batches()
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # Only the first: by another one the loader itself ends a worker that hangs.
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Make the loader's next pass that of `epoch`, from its beginning, whatever was run before.

    The generator seeds the workers. Without workers (`num_workers=0`) transforms draw from the process's own
    random state, which the caller reseeds for each epoch.
    """
    if isinstance(loader, ResumableLoader):
        loader.begin_at(0)
    sampler = cast(EpochSampler, loader.sampler)
    # Without it every epoch has the order of the first: the well-known trap of DistributedSampler.
    sampler.set_epoch(epoch)
    # The rank too: with equal seeds, the workers of all processes would augment alike.
    state = np.random.SeedSequence([sampler.seed % 2**64, epoch, sampler.rank]).generate_state(1, np.uint64)
    loader.generator.manual_seed(int(state[0]))
