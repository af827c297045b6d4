"""The canvas of a batch, padded lists of objects, and the way of targets from a worker."""

import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from datasets.collate import Collate, ObjectSizes, TargetBatch, percentile_sizes
from util.errors import ImageError
from util.targets import object_count


def example(height: int, width: int, image_id: int = 1) -> tuple[torch.Tensor, dict]:
    """An image of ones with its id."""
    return torch.ones(3, height, width), {"image_id": torch.tensor([image_id]), "labels": torch.zeros(0)}


def objects(count: int, height: int = 4) -> dict:
    """A target of `count` objects with everything that a target can have."""
    return {
        "labels": torch.arange(1, count + 1),
        "boxes": torch.rand(count, 4),
        "area": torch.rand(count),
        "iscrowd": torch.zeros(count, dtype=torch.int64),
        "masks": torch.ones(count, height, 5, dtype=torch.bool),
        "image_id": torch.tensor([7]),
        "size": torch.tensor([height, 5]),
    }


@pytest.mark.parametrize(
    ("collate", "expected"),
    [
        (Collate(), (37, 64)),
        (Collate(multiple=32), (64, 64)),
        (Collate(multiple=50), (50, 100)),
        (Collate(canvas=(100, 70)), (100, 70)),
    ],
)
def test_the_canvas_of_a_batch_and_its_mask_are_exact(collate: Collate, expected: tuple[int, int]) -> None:
    samples, _ = collate([example(20, 64), example(37, 31)])
    assert samples.tensors.shape[2:] == samples.mask.shape[1:] == expected
    for tensors, mask, (height, width) in zip(samples.tensors, samples.mask, [(20, 64), (37, 31)]):
        assert tensors[:, :height, :width].eq(1).all() and tensors.sum() == 3 * height * width
        assert not mask[:height, :width].any() and (~mask).sum() == height * width


@pytest.mark.parametrize("canvas", [(36, 64), (37, 63)])
def test_an_image_larger_than_the_canvas_is_named_in_one_line(canvas: tuple[int, int]) -> None:
    with pytest.raises(ImageError) as error:
        Collate(canvas=canvas)([example(20, 30), example(37, 64, image_id=12)])
    message = str(error.value)
    assert f"--pad_size {canvas[0]} {canvas[1]}" in message and "image id 12" in message and "37 x 64" in message
    assert "\n" not in message


@pytest.mark.parametrize(("count", "padded"), [(0, 2), (1, 2), (2, 2), (3, 5), (5, 5), (6, 6)])
def test_objects_are_padded_to_the_next_length(count: int, padded: int) -> None:
    given = objects(count)
    before = {key: value.clone() for key, value in given.items()}
    made = ObjectSizes(sizes=(2, 5), no_object=9).pad(given)
    assert object_count(made) == count
    for key in ("labels", "boxes", "area", "iscrowd", "masks"):
        assert len(made[key]) == padded and made[key].dtype == given[key].dtype, key
        assert torch.equal(made[key][:count], given[key]), key
    assert made["labels"][count:].eq(9).all() and made["boxes"][count:].eq(0.5).all()
    assert not made["masks"][count:].any() and torch.equal(made["size"], given["size"])
    assert given.keys() == before.keys() and all(torch.equal(given[key], before[key]) for key in before)


def test_lengths_are_percentiles_of_the_counts() -> None:
    counts = np.array([0, 1, 1, 2, 3, 5, 8, 13, 21])
    assert percentile_sizes(counts, 1) == (21,)
    assert percentile_sizes(counts, 2) == (3, 21)
    assert percentile_sizes(counts, 4) == (1, 3, 8, 21)
    assert percentile_sizes(counts, 100)[:2] == (1, 2), "no length below 1"
    assert percentile_sizes(np.array([4, 4, 4]), 3) == (4,), "equal percentiles are one length"


def test_the_last_length_is_extended_to_the_largest_image_of_another_split() -> None:
    counts = np.array([1, 2, 3, 4])
    assert percentile_sizes(counts, 2, largest=30) == (2, 30)
    assert percentile_sizes(counts, 2, largest=3) == (2, 4)


def test_targets_survive_the_way_from_a_worker() -> None:
    sent = TargetBatch([objects(3, height=20_000), ObjectSizes(sizes=(4,), no_object=9).pad(objects(0))])
    got = pickle.loads(bytes(ForkingPickler.dumps(sent)))
    assert isinstance(got, TargetBatch) and len(got) == 2
    for a, b in zip(sent, got):
        assert a.keys() == b.keys()
        for key, value in a.items():
            same = torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key]
            assert same and type(value) is type(b[key]), key
    got[1]["boxes"] += 1  # writable, as any tensor


def test_small_tensors_take_no_shared_memory_and_large_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []
    reduce = torch.UntypedStorage._share_fd_cpu_
    monkeypatch.setattr(
        torch.UntypedStorage, "_share_fd_cpu_", lambda self, *a: shared.append(self.nbytes()) or reduce(self, *a)
    )
    ForkingPickler.dumps(TargetBatch([objects(3)]))
    assert shared == []
    ForkingPickler.dumps(TargetBatch([objects(3, height=20_000)]))
    assert shared == [3 * 20_000 * 5]
