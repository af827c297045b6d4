"""The time of a training step on many GPUs, as formulas: all-reduces beside the backward pass, and the host's part.

Pure functions of seconds and bytes; `scaling_model.py` gives them counts and rates, `exchange_check.py` measured times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Network:
    """Links between GPUs.

    Attributes:
        per_node: GPUs of a node.
        inside: bytes a second that an all-reduce among a node's GPUs moves, each way.
        outside: bytes a second of all network adapters of a node together, each way.
        hop_inside: seconds of a message between two GPUs of a node.
        hop_outside: seconds of a message between two nodes.
        start: seconds that any all-reduce takes, however small.
    """

    per_node: int
    inside: float
    outside: float
    hop_inside: float
    hop_outside: float
    start: float


@dataclass(frozen=True)
class Work:
    """One GPU's seconds in a step, without any exchange.

    Attributes:
        forward: forward pass and loss, without the matcher.
        matcher: the assignments on the host, for which the GPU waits.
        backward: of the model's parts, in the order in which gradients come: (bytes of gradients, seconds).
        optimizer: clipping and weights.
        loader: to make one batch; it goes on beside the step.
    """

    forward: float
    matcher: float
    backward: tuple[tuple[float, float], ...]
    optimizer: float
    loader: float = 0.0


@dataclass(frozen=True)
class Step:
    """Seconds of a step and what they are: computing, matching, and waiting for the exchange or for the loader."""

    compute: float
    matcher: float
    exchange: float
    loader: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.matcher + self.exchange + self.loader


def ring(size: float, ranks: int, bandwidth: float, hop: float) -> float:
    """Seconds of an all-reduce on a ring: 2 (n - 1) messages of an n-th of the bytes (Patarasu and Yuan, 2009)."""
    return 2 * (ranks - 1) * (size / ranks / bandwidth + hop)


def tree(size: float, ranks: int, bandwidth: float, hop: float) -> float:
    """Seconds on two binary trees, each with half of the bytes, up and down (Sanders, Speck and Traeff, 2009)."""
    # Every link carries all bytes up and down, but a message passes log2(n) levels only.
    return 2 * (size / bandwidth + math.ceil(math.log2(ranks)) * hop) if ranks > 1 else 0.0


def all_reduce(size: float, gpus: int, network: Network) -> float:
    """Seconds of an all-reduce: in each node, then between nodes by the faster of ring and tree, then in each node."""
    if gpus == 1:
        return 0.0
    inside = ring(size, min(gpus, network.per_node), network.inside, network.hop_inside)
    nodes = math.ceil(gpus / network.per_node)
    # Each of a node's GPUs sends its share of the bytes through its share of the adapters: together all through all.
    outside = min(way(size, nodes, network.outside, network.hop_outside) for way in (ring, tree))
    return network.start + inside + outside


def ready_times(buckets: Sequence[float], backward: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds after the start of the backward pass at which each bucket is full.

    Args:
        buckets: bytes, in the order in which they fill.
        backward: bytes of gradients and seconds of the model's parts; inside a part gradients come evenly.
    """
    bytes_done = np.cumsum([0.0, *(size for size, _ in backward)])
    seconds = np.cumsum([0.0, *(time for _, time in backward)])
    # Sizes may be counted by other rules (padding): the last bucket is full at the end.
    filled = np.cumsum(buckets) * (bytes_done[-1] / sum(buckets))
    return [float(time) for time in np.interp(filled, bytes_done, seconds)]


def last_exchange(ready: Sequence[float], exchanges: Sequence[float]) -> float:
    """Return when the last bucket's exchange ends: one after the other, each not before its bucket is full."""
    end = 0.0
    for full, seconds in zip(ready, exchanges, strict=True):
        end = max(end, full) + seconds
    return end


def step(work: Work, exchanges: Sequence[float], buckets: Sequence[float]) -> Step:
    """Return the time of a step whose exchange goes on beside the backward pass.

    Args:
        work: one GPU's.
        exchanges: seconds of the all-reduce of each bucket.
        buckets: bytes of each, in the order in which they fill.
    """
    backward = sum(seconds for _, seconds in work.backward)
    end = last_exchange(ready_times(buckets, work.backward), exchanges)
    waits = max(0.0, end - backward)
    compute = work.forward + backward + work.optimizer
    # Batches are made ahead: the loader counts only where it is slower than all of the step.
    return Step(compute, work.matcher, waits, max(0.0, work.loader - compute - work.matcher - waits))


def fit_line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return (seconds at size 0, seconds a byte) of the least-squares line through measured times, neither below 0."""
    slope, start = np.polyfit(sizes, seconds, 1)
    return max(0.0, float(start)), max(0.0, float(slope))
