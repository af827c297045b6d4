"""Images of rare classes more often: repeat-factor sampling (LVIS, arXiv 1908.03195, as in Detectron2)."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler


def class_factors(labels: Sequence[np.ndarray], threshold: float) -> dict[int, float]:
    """Return r(c) = max(1, sqrt(threshold / f(c))) of each class c that is in a part f(c) of the images.

    `labels` (n_i,) are those of the objects of each image.
    """
    every, lengths = _flat(labels)
    most = int(every.max(initial=0)) + 1
    # One number for image and class together: a class counts once an image.
    pairs = np.sort(np.repeat(np.arange(len(labels)), lengths) * most + every)
    # By hand: np.unique takes ten times as long.
    images = np.bincount(pairs[np.diff(pairs, prepend=-1) > 0] % most)
    classes = np.flatnonzero(images)
    images = images[classes]
    # f(c) is images / len(labels). A class at a quarter of the threshold comes twice as often, not four times.
    factors = np.sqrt(threshold * len(labels) / images).clip(min=1)
    return dict(zip(classes.tolist(), factors.tolist(), strict=True))


def image_factors(labels: Sequence[np.ndarray], of_class: Mapping[int, float]) -> np.ndarray:
    """Return the largest r(c) of the classes in each image (n,) float64; 1 for an image without objects."""
    every, lengths = _flat(labels)
    of_label = np.ones(int(every.max(initial=0)) + 1)
    of_label[list(of_class)] = list(of_class.values())
    factors, some = np.ones(len(labels)), lengths > 0
    if some.any():
        # Objects lie image by image: the largest of each stretch, which ends where the next one begins.
        factors[some] = np.maximum.reduceat(of_label[every], (np.cumsum(lengths) - lengths)[some])
    return factors


def _flat(labels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of all images one behind the other (m,), and how many each has (n,)."""
    return np.concatenate([np.zeros(0, np.int64), *labels]), np.fromiter(map(len, labels), np.int64, len(labels))


class RepeatedImages:
    """n images, of which image i comes factors[i] times an epoch on average, and each epoch has as many.

    factors: (n,), at least 1.
    """

    def __init__(self, factors: np.ndarray) -> None:
        self.factors = factors

    def __len__(self) -> int:
        # Rounded first: a sum of 12.000000001 is 12.
        return math.ceil(round(float(self.factors.sum()), 6))

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the images of an epoch in random order (len(self),).

        Each comes its factor rounded down or up, up with the probability of its fraction.
        """
        # Rounded down; the fractions are dealt with below.
        times = self.factors.astype(int)
        order = rng.permutation(len(times))
        # The fractions as stretches of one line, in random order: those in which a point u + k lies are rounded up. So
        # many as the line is long, to one, where independent draws would make every epoch another length.
        ends = np.cumsum((self.factors - times)[order]) + rng.random()
        times[order] += np.diff(np.floor(ends), prepend=0).astype(int)
        images = rng.permutation(np.repeat(np.arange(len(times)), times))
        return np.resize(images, len(self))


class RepeatSampler(Sampler[int]):
    """The order of one process over repeated images; processes have as many each, for which the first come once more.

    Equal seed and epoch give equal orders, whatever ran before. `seed`, `rank` and `world_size` are as for
    `DistributedSampler`.
    """

    def __init__(self, images: RepeatedImages, *, seed: int, rank: int, world_size: int) -> None:
        self.images = images
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = self.images.shuffled(np.random.default_rng([self.seed % 2**64, self.epoch]))
        # Every world_size-th image, as DistributedSampler deals them.
        yield from np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size].tolist()
