"""Batches of images of like shape, so that less of them is padding."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .repeats import RepeatedImages

#: Batches (of all processes together) among whose images the like ones are put together. Few enough that a batch
#: differs from epoch to epoch, many enough that its images are alike.
NEIGHBOURHOOD = 64


class AspectGroupedSampler(Sampler[int]):
    """The order of one process in which every `batch_size` images that follow each other have a like aspect ratio.

    Every epoch shuffles all images, sorts neighbourhoods of them by aspect ratio, cuts these into batches, and shuffles
    the batches. What the processes load at the same step is alike too. Each image comes at least once an epoch; the
    first of the shuffle come twice where a last batch has to be filled, so that all batches are whole and all
    processes have as many. Equal seed and epoch give equal batches, whatever ran before.

    Args:
        aspects: width / height of each image (n,).
        batch_size: images per process and step; fewer images than that per process make one smaller batch.
        seed, rank, world_size: as for `DistributedSampler`.
        repeats: how often each image comes; without it once.
    """

    def __init__(
        self,
        aspects: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        repeats: RepeatedImages | None = None,
    ) -> None:
        self.aspects = aspects
        self.repeats = repeats
        count = len(aspects) if repeats is None else len(repeats)
        self.batch_size = min(batch_size, math.ceil(count / world_size))
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.steps = math.ceil(count / (self.batch_size * world_size))

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed % 2**64, self.epoch])
        # What all processes load in one step; `resize` repeats the order from its beginning to fill the last step.
        together = self.batch_size * self.world_size
        images = rng.permutation(len(self.aspects)) if self.repeats is None else self.repeats.shuffled(rng)
        order = np.resize(images, self.steps * together)
        # 64 steps' images at a time, each part (<= 64 * together,) of the shuffle.
        parts = np.split(order, range(NEIGHBOURHOOD * together, len(order), NEIGHBOURHOOD * together))
        # Stable: the order among equal ratios is then the shuffle's, on every processor and numpy.
        order = np.concatenate([part[np.argsort(self.aspects[part], kind="stable")] for part in parts])
        # Steps in a new random order, so that shapes do not rise over the epoch.
        # (steps, processes, batch): `permutation` shuffles the first axis only, so a step's batches stay alike.
        batches = order.reshape(self.steps, self.world_size, self.batch_size)
        yield from rng.permutation(batches)[:, self.rank].flatten().tolist()
