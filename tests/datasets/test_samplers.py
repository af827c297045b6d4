"""Batches of like shape: every image comes, all ranks keep step, and seed and epoch say everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.samplers import AspectGroupedSampler

MIXED = np.random.default_rng(0).choice([0.5, 0.75, 1.0, 4 / 3, 2.0], size=600)


def sampler(aspects: np.ndarray = MIXED, *, rank: int = 0, world_size: int = 1, **changed: int) -> AspectGroupedSampler:
    settings = {"batch_size": 4, "seed": 42, **changed}
    return AspectGroupedSampler(aspects, rank=rank, world_size=world_size, **settings)


def batches(made: AspectGroupedSampler, epoch: int = 0) -> np.ndarray:
    """Indices of one epoch, a row a batch."""
    made.set_epoch(epoch)
    return np.array(list(made)).reshape(-1, made.batch_size)


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.integers(-(2**70), 2**70))
def test_every_image_comes_and_all_ranks_have_as_many_batches(
    n: int, batch_size: int, world_size: int, epoch: int, seed: int
) -> None:
    aspects = np.linspace(0.3, 3, n)
    ranks = [
        sampler(aspects, batch_size=batch_size, world_size=world_size, rank=rank, seed=seed)
        for rank in range(world_size)
    ]
    orders = [batches(made, epoch) for made in ranks]
    assert len({order.shape for order in orders}) == 1 and orders[0].size == len(ranks[0])
    seen = np.bincount(np.concatenate([order.flatten() for order in orders]), minlength=n)
    assert seen.min() >= 1
    if n >= batch_size * world_size:  # only what fills the last batch comes twice
        assert seen.sum() - n < batch_size * world_size and seen.max() <= 2
        assert orders[0].shape[1] == batch_size


def test_batches_hold_like_shapes_and_steps_too() -> None:
    grouped = MIXED[np.stack([batches(sampler(rank=rank, world_size=2)) for rank in range(2)], axis=1)]
    shuffled = MIXED[np.random.default_rng(1).permutation(600)].reshape(-1, 2, 4)
    spread = lambda a, axis: np.ptp(np.log(a), axis=axis).mean()
    assert spread(grouped, 2) < 0.05 * spread(shuffled, 2)
    assert spread(grouped.reshape(-1, 8), 1) < 0.1 * spread(shuffled.reshape(-1, 8), 1)


def test_an_epoch_is_its_seed_and_number_whatever_ran_before() -> None:
    made = sampler()
    epochs = [batches(made, epoch) for epoch in range(3)]
    assert np.array_equal(batches(sampler(), 2), epochs[2]) and np.array_equal(batches(made, 0), epochs[0])
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], batches(sampler(seed=43), 0))
    rows = [{tuple(sorted(row)) for row in order.tolist()} for order in epochs[:2]]
    assert len(rows[0] & rows[1]) < 0.2 * len(rows[0]), "images of one shape meet others every epoch"


def test_batches_do_not_come_sorted_by_shape() -> None:
    means = np.log(MIXED)[batches(sampler())].mean(1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


@pytest.mark.parametrize(("n", "world_size", "size"), [(2, 1, 2), (5, 2, 3), (1, 2, 1)])
def test_fewer_images_than_a_batch_make_a_smaller_one(n: int, world_size: int, size: int) -> None:
    made = sampler(np.ones(n), world_size=world_size, batch_size=4)
    assert batches(made).shape == (1, size)


def test_among_equal_shapes_the_order_is_that_of_the_shuffle() -> None:
    """Python's sort is stable: it gives the rows that come, in some order, of one neighbourhood of 64 batches."""
    shuffled = np.random.default_rng([42, 0]).permutation(256).tolist()
    expected = np.array(sorted(shuffled, key=lambda index: MIXED[index])).reshape(-1, 4)
    assert set(map(tuple, batches(sampler(MIXED[:256])).tolist())) == set(map(tuple, expected.tolist()))
