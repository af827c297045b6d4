"""The file of counts: what changed is named, other versions of PyTorch are left alone, buckets are DDP's."""

import pytest
import torch.distributed as dist
from torch import empty

from benchmarks import counts

KNOWN = {
    "always": {"gpu": {"convolution FLOPs": 5, "all-reduce bytes by bucket": [1, 2]}},
    "torch": {"2.1": {"gpu": {"operators by name": {"mm": 3, "slice": 7}}}},
}


def now(slices: int, flops: int = 5) -> dict:
    gpu = {"operators by name": {"mm": 3, "slice": slices}}
    return {
        "always": {"gpu": KNOWN["always"]["gpu"] | {"convolution FLOPs": flops}},
        "torch": {counts.version(): {"gpu": gpu}},
    }


def test_a_change_is_named_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "version", lambda: "2.1")
    assert counts.compare(KNOWN, now(7)) == []
    assert counts.compare(KNOWN, now(9)) == ["gpu: operators by name: slice: 7 -> 9"]
    assert counts.compare(KNOWN, now(7, flops=6)) == ["gpu: convolution FLOPs: 5 -> 6"]


def test_operators_of_another_version_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "version", lambda: "2.2")
    assert counts.compare(KNOWN, now(9)) == []


@pytest.mark.parametrize("sizes", [[1, 2, 3], [2**20, 5, 26 * 2**20, 4], [2**19] * 120])
def test_buckets_are_those_of_distributed_data_parallel(sizes: list[int]) -> None:
    tensors = [empty(size, device="meta").char() for size in sizes]
    found, _ = dist._compute_bucket_assignment_by_size(tensors, counts.BUCKETS, [False] * len(sizes))
    assert counts.fill_buckets(sizes) == [sum(sizes[i] for i in bucket) for bucket in found]
