"""A loader that begins within an epoch yields the very batches that the rest of the epoch would have had."""

import random

import numpy as np
import pytest
import torch

from datasets.loader import make_loader, make_sampler, set_epoch


class Dice(torch.utils.data.Dataset):
    """Examples of random numbers, some more than others: a number shows all that was drawn before it."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> tuple:
        torch.rand(index % 3)
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def batches(workers: int, first: int = 0, states: list | None = None) -> tuple[list, list]:
    """Return the batches of an epoch from number `first` on, and the workers' states after each."""
    sampler = make_sampler(Dice(), batch_size=2, shuffle=True, seed=1, rank=0, world_size=1)
    loader = make_loader(Dice(), sampler, batch_size=2, drop_last=True, num_workers=workers, collate=list)
    set_epoch(loader, 3)
    loader.begin_at(first, states)
    found, after = [], [list(loader.states)]
    for batch in loader:
        found.append(batch)
        after.append(list(loader.states))
    return found, after


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_the_rest_of_an_epoch_is_drawn_as_in_the_whole(workers: int) -> None:
    whole, after = batches(workers)
    assert len(whole) == 11
    for first in (1, 5, 9):
        rest, later = batches(workers, first, after[first])
        assert rest == whole[first:]
        again, _ = (
            batches(workers, first + 2, later[-1 - (len(rest) - 2)]) if len(rest) > 2 else (whole[first + 2 :], 0)
        )
        assert again == whole[first + 2 :], "the states after a resumed part lead on as well"


def test_without_workers_the_order_goes_on() -> None:
    whole, _ = batches(0)
    rest, _ = batches(0, 4, [])
    assert [[index for index, *_ in batch] for batch in rest] == [[index for index, *_ in batch] for batch in whole[4:]]


def test_another_number_of_workers_is_said(capsys: pytest.CaptureFixture) -> None:
    assert len(batches(0, 4, [None, None])[0]) == 7
    assert "--num_workers 0, not 2" in capsys.readouterr().out
