"""Padding, order and augmentation of batches: the same for the same seed, epoch and rank, whatever ran before."""

import random
from collections.abc import Iterator
from multiprocessing import active_children

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.loader import collate_fn, make_loader, make_sampler, set_epoch
from tests.processes import Started
from util.errors import DatasetError


class Numbered(Dataset):
    """Images of one pixel with the index in it, and a random number as "augmentation"."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        drawn = torch.tensor([random.random(), torch.rand(()).item()])
        return torch.full((3, 1, 1), float(index)), {"image_id": torch.tensor([index]), "drawn": drawn}


def loader(size: int = 10, *, rank: int = 0, world_size: int = 1, **changed: int) -> DataLoader:
    """A training loader of batches of 3, where nothing else is said."""
    settings = {"batch_size": 3, "shuffle": True, "drop_last": True, "num_workers": 0, "seed": 42, **changed}
    images, batch_size = Numbered(size), settings.pop("batch_size")
    order = {key: settings.pop(key) for key in ("shuffle", "seed", "aspects") if key in settings}
    sampler = make_sampler(images, batch_size=batch_size, rank=rank, world_size=world_size, **order)
    return make_loader(images, sampler, batch_size=batch_size, **settings)


def batches(made: DataLoader) -> list[list[int]]:
    """Indices per batch of one pass."""
    return [[t["image_id"].item() for t in targets] for _, targets in made]


def draws(made: DataLoader) -> Iterator[float]:
    """The random numbers drawn in one pass."""
    return (value for _, targets in made for t in targets for value in t["drawn"].tolist())


def test_collate_pads_images_and_keeps_targets() -> None:
    first, second = {"image_id": torch.tensor([1])}, {"image_id": torch.tensor([2])}
    padded, targets = collate_fn([(torch.ones(3, 2, 4), first), (torch.ones(3, 3, 1), second)])
    assert padded.tensors.shape == (2, 3, 3, 4) and padded.tensors[1].sum() == 9
    assert padded.mask[0].tolist() == [[False] * 4, [False] * 4, [True] * 4]
    assert targets == (first, second)


def test_training_drops_the_last_batch_and_evaluation_keeps_order() -> None:
    assert [len(b) for b in batches(loader())] == [3, 3, 3]
    assert batches(loader(shuffle=False, drop_last=False)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_each_epoch_has_its_own_order_whatever_ran_before() -> None:
    made = loader()
    orders = []
    for epoch in range(4):
        set_epoch(made, epoch)
        orders.append(batches(made))
    assert len({str(order) for order in orders}) == 4
    torch.manual_seed(7)
    resumed = loader()
    set_epoch(resumed, 3)
    assert batches(resumed) == orders[3]
    assert batches(loader(seed=43)) != orders[0]


def test_ranks_share_the_images_and_repeat_few() -> None:
    seen = [index for rank in range(2) for batch in batches(loader(9, rank=rank, world_size=2)) for index in batch]
    assert len(seen) == 6  # five each, of which the last two fill no batch
    seen = [
        index
        for rank in range(2)
        for batch in batches(loader(9, rank=rank, world_size=2, drop_last=False))
        for index in batch
    ]
    assert len(seen) == 10 and set(seen) == set(range(9))


def test_workers_draw_by_seed_epoch_and_rank_only() -> None:
    made = loader(6, num_workers=2)
    first = list(draws(made))
    set_epoch(made, 1)
    second = list(draws(made))
    torch.manual_seed(99)
    random.seed(99)
    resumed = loader(6, num_workers=2)
    set_epoch(resumed, 1)
    assert list(draws(resumed)) == second
    assert not set(first) & set(second)
    # In every batch, each of the two workers has its own numbers.
    assert len(set(second)) == len(second) == 12


def test_ranks_seed_their_workers_differently() -> None:
    seeds = {loader(rank=rank, world_size=2, seed=seed).generator.initial_seed() for rank in (0, 1) for seed in (-1, 0)}
    assert len(seeds) == 4


def test_fewer_images_than_a_batch_train_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(batches(loader(2))[0]) == [0, 1]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "(2 per process)" in said and "--batch_size 3" in said
    assert len(loader(4, rank=1, world_size=2)) == 1
    assert capsys.readouterr().out == ""


def test_exactly_one_batch_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(loader(3)) == 1
    assert capsys.readouterr().out == ""


def test_no_images_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no images"):
        loader(0)


def test_an_image_that_cannot_be_read_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Numbered, index: int) -> None:
        raise DatasetError(f"image {index} cannot be read")

    before = active_children()
    monkeypatch.setattr(Numbered, "__getitem__", fail)
    with pytest.raises(DatasetError, match="cannot be read") as error:
        batches(loader(num_workers=2))
    # While the error, and with it the pass, is still held.
    assert error.value.__traceback__ is not None and active_children() == before


def leave_a_loader_open() -> int:
    """Read one batch, and end with the pass under way in a name that nothing clears."""
    globals()["under_way"] = reading = iter(loader(num_workers=1))
    return len(next(reading)[1])


@pytest.mark.slow
def test_a_program_ends_that_leaves_a_pass_under_way() -> None:
    """Its worker ignores the first SIGTERM, the only one that multiprocessing would send before it waits."""
    code, _, err = Started(leave_a_loader_open).end(timeout=30)
    assert code == 3 and "Traceback" not in err, err  # PyTorch raises where a worker ends by a signal
