"""Zeros and Gini coefficients of attention maps by layer and head, measured while a model runs; no map is kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.attention import AttentionMaps, MultiheadAttention

#: Weights below it count as nothing in `near_zeros`, for a softmax has no exact zeros.
NEAR_ZERO = 1e-6
#: Sums (heads,) of a layer's maps by the name of what was measured.
OfLayer = dict[str, np.ndarray]


def gini(maps: Tensor) -> Tensor:
    """Return the Gini coefficient (...) of maps (..., n): 0 where all n weights are equal, 1 - 1/n for one alone."""
    n = maps.shape[-1]
    ranks = torch.arange(1, n + 1, dtype=torch.float64, device=maps.device)
    ascending = maps.sort(-1).values.double()
    # A row without any weight must not divide by 0.
    total = ascending.sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
    # With x sorted upwards: 2 sum(i x_i) / (n sum(x)) - (n + 1) / n, i from 1.
    return 2 * (ascending * ranks).sum(-1) / (n * total) - (n + 1) / n


def measure(maps: Tensor) -> OfLayer:
    """Return the shares of zeros and near zeros and the Gini coefficient (heads,) of maps (heads, ...)."""
    whole = maps.float().flatten(1)
    found = {
        "zeros": (whole == 0).double().mean(-1),
        "near_zeros": (whole < NEAR_ZERO).double().mean(-1),
        # Head by head: an encoder's maps are sorted, and a million weights of each take memory.
        "gini": torch.stack([gini(of_head) for of_head in whole]),
    }
    return {name: values.cpu().numpy() for name, values in found.items()}


class Measured(list):
    """A list of weights for layers to append to, that measures them and keeps sums over images alone.

    Args:
        maps: whose padding hides keys and queries of the maps, as those of the encoder; None where there is none.
    """

    def __init__(self, maps: AttentionMaps | None = None) -> None:
        super().__init__()
        self.maps = maps
        self.sums: list[OfLayer] = []
        self._images = 0
        self._layer = 0

    def begin(self, images: int) -> None:
        """Be ready for the layers of a batch, of which so many images count, the first."""
        self._images, self._layer = images, 0

    def append(self, weights: Tensor) -> None:
        """Take the weights (B, heads, L, S) of the next layer."""
        if self._layer == len(self.sums):
            self.sums.append({})
        for i in range(self._images):
            of_image = weights[i]
            if self.maps is not None and self.maps.padding is not None:
                seen = ~self.maps.padding[i].flatten()  # (S,)
                of_image = of_image[:, seen][:, :, seen]
            add(self.sums[self._layer], measure(of_image))
        self._layer += 1


def add(sums: OfLayer, more: Mapping[str, np.ndarray]) -> None:
    """Add to sums, which begin empty."""
    for name, values in more.items():
        sums[name] = sums.get(name, 0) + values


def means(sums: Sequence[OfLayer], images: int) -> dict[str, Any]:
    """Return means by layer and head (L, heads) as lists; nothing without layers."""
    names = sums[0] if sums else ()
    return {name: [(of_layer[name] / max(1, images)).tolist() for of_layer in sums] for name in names}


@contextmanager
def asked_for_self_attention(model: nn.Module, sink: Measured) -> Iterator[None]:
    """Have the self-attention of a model's decoder layers append its weights to `sink`, within the context."""

    def ask(module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, named | {"attention": sink}

    hooks = []
    for layer in model.modules():
        # Only a decoder's layer has both; variants' are classes of their own.
        attention = getattr(layer, "self_attn", None)
        if isinstance(attention, MultiheadAttention) and hasattr(layer, "multihead_attn"):
            hooks.append(attention.register_forward_pre_hook(ask, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
