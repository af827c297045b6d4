"""Masks that are computed on demand: training needs those of matched queries only."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from util.chunks import in_chunks


class QueryMasks:
    """Stands for mask logits (B, Q, h, w) and computes what is asked for.

    `masks[image, query]`, with index tensors (N,), computes these N and returns (N, h, w); all else that can be done
    with a tensor, functions of torch included, computes all B * Q once and does it with them.

    Args:
        compute: mask logits (N, h, w) of the queries `query` (N,) of the images `image` (N,).
        images, queries: B and Q.
        chunk: at most so many masks are computed at a time; 0: no limit.
        device: where indices live.
    """

    def __init__(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        *,
        images: int,
        queries: int,
        chunk: int,
        device: torch.device,
    ) -> None:
        self._compute = compute
        self._images, self._queries = images, queries
        self._chunk = chunk
        self._device = device

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, tuple) and len(index) == 2 and all(isinstance(i, Tensor) for i in index):
            # Indices (N,) each; the loss's own, so that unmatched queries never pass the mask head.
            return in_chunks(self._compute, *index, chunk=self._chunk) if self._chunk else self._compute(*index)
        return self.all[index]

    @cached_property
    def all(self) -> Tensor:
        """Masks of all queries of all images (B, Q, h, w)."""
        # 0 .. B * Q - 1 as (image, query), made on the device: nothing is copied there.
        place = torch.arange(self._images * self._queries, device=self._device)
        image = place.div(self._queries, rounding_mode="floor")
        return self[image, place - image * self._queries].unflatten(0, (self._images, self._queries))

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run a function of torch on the masks of all queries."""
        kwargs = kwargs or {}
        return func(*map(_computed, args), **{name: _computed(value) for name, value in kwargs.items()})

    def __len__(self) -> int:
        return self._images

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "all":  # what copy and pickle look for, and an error in computing the masks
            raise AttributeError(name)
        # `.shape`, `.cpu()` and all else of a tensor: whoever asks pays for all B * Q masks.
        return getattr(self.all, name)


def _computed(value: Any) -> Any:
    return value.all if isinstance(value, QueryMasks) else value
