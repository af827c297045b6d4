"""Looks into a model with numbers that a test knows."""

import numpy as np
from PIL import Image

from inference.attention.maps import Inside

NAMES = {1: "cat", 2: "dog </script><b>&"}


def inside(
    *,
    cells: tuple[int, int] = (3, 4),
    size: tuple[int, int] = (90, 120),
    encoder: int = 2,
    decoder: int = 3,
    heads: int = 2,
    queries: int = 2,
    found: bool = True,
) -> Inside:
    """Random maps of 32-pixel cells over an image of noise `size` (height, width), of layers, heads and queries.

    Query n of every layer is a cat (even) or a dog with 0.9 - 0.1 * n in the last layer and 0.2 less in each before;
    its box moves to the right by a tenth of the image with every layer.
    """
    rng = np.random.default_rng(0)
    (h, w), layers = cells, np.arange(decoder)
    from_cells = rng.exponential(size=(encoder, h, w, h * w)) ** 2
    to_cells = rng.exponential(size=(decoder, heads, queries, h * w)) ** 2
    probabilities = np.full((decoder, queries, 4), 0.01)
    boxes = np.zeros((decoder, queries, 4))
    for n in range(queries):
        score = 0.9 - 0.1 * n - 0.2 * (decoder - 1 - layers)
        probabilities[:, n, 1 + n % 2] = score
        probabilities[:, n, 3] = 0.98 - score
        left = 0.1 * layers + 0.05 * n
        boxes[:, n] = np.stack([left, 0 * left + 0.2, left + 0.3, 0 * left + 0.7], axis=1)
    return Inside(
        image=Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)),
        seen=size,
        extent=(32 * h / size[0], 32 * w / size[1]),
        encoder=(from_cells / from_cells.sum(-1, keepdims=True)).reshape(encoder, h, w, h, w).astype(np.float32),
        decoder=(to_cells / to_cells.sum(-1, keepdims=True)).reshape(decoder, heads, queries, h, w).astype(np.float32),
        boxes=boxes.astype(np.float32),
        probabilities=probabilities.astype(np.float32),
        queries=np.arange(queries) + 10,
        found=found,
        class_names=NAMES,
    )
