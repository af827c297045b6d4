"""Maps of weights as short text: bytes on a scale of each map's own, deflated, in base64.

A page of under 3 MB has to hold them: those of a 6-layer encoder over 850 cells are 17 MB as floats.
"""

import base64
import io
import zlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

#: Steps of the scale above 0, finest first; 15 steps are enough for a picture.
STEPS = (255, 63, 31, 15)
#: The weight that stands for those that round to nothing and are not exactly 0.
ALMOST = 1e-30


@dataclass(frozen=True)
class Packed:
    """Maps as text.

    Attributes:
        text: base64 of the deflated bytes: M float32 maxima (little endian), then the codes, M maps of T bytes.
        steps: code 0 stands for a weight of exactly 0, a code c above for maximum * ((c - 1) / (steps - 1))^2: small
            weights get the finer steps, and those that round to nothing are `ALMOST` nothing.
    """

    text: str
    steps: int


def pack(maps: np.ndarray, budget: int) -> Packed | None:
    """Pack maps (M, T) with the finest steps with which they take at most `budget` bytes of text; None if none do."""
    maxima = maps.max(-1, keepdims=True, initial=0).astype("<f4")
    # Square roots in 0..1: steps between the codes are finest near 0, where most weights lie. A map of zeros stays
    # zeros.
    shares = np.sqrt(maps / np.maximum(maxima, np.finfo(np.float32).tiny))
    for steps in STEPS:
        # Some maps tell what all will take: deflating in vain takes seconds.
        some = slice(None, None, max(1, len(maps) // 100))
        share = len(maps[some]) / max(1, len(maps))
        # A tenth, and a hundred bytes for headers, in favour of trying: the part may compress worse than the whole.
        if len(_deflate(maxima[some], shares[some], steps)) > 1.1 * share * budget + 100:
            continue
        text = _deflate(maxima, shares, steps)
        if len(text) <= budget:
            return Packed(text, steps)
    return None


def _deflate(maxima: np.ndarray, shares: np.ndarray, steps: int) -> str:
    codes = np.where(shares > 0, 1 + np.rint(shares * (steps - 1)), 0).astype(np.uint8)
    return base64.b64encode(zlib.compress(maxima.tobytes() + codes.tobytes(), 6)).decode()


def unpack(packed: Packed, shape: tuple[int, int]) -> np.ndarray:
    """Return the maps (M, T) float32 as the page shows them."""
    data = zlib.decompress(base64.b64decode(packed.text))
    maxima = np.frombuffer(data, "<f4", count=shape[0])
    codes = np.frombuffer(data, np.uint8, offset=maxima.nbytes).reshape(shape)
    above = np.maximum(maxima[:, None] * ((codes - np.float32(1)) / (packed.steps - 1)) ** 2, np.float32(ALMOST))
    return np.where(codes > 0, above, np.float32(0))


def pack_encoder(encoder: np.ndarray, budget: int) -> tuple[Packed, int, int]:
    """Pack maps (E, h, w, h, w) from cells to cells in at most `budget` bytes, on coarser grids if it must be.

    Returns the maps (E * rows, columns of blocks), and the sides of the blocks of cells from which, and to which they
    lead: the maps themselves stay sharp for longer than the grid of points to choose from.
    """
    side_from = side_to = 1
    while True:
        joined = blocks_to(blocks_from(encoder, side_from), side_to)
        packed = pack(joined.reshape(int(np.prod(joined.shape[:3])), int(np.prod(joined.shape[3:]))), budget)
        if packed:
            return packed, side_from, side_to
        if side_from > side_to:
            side_to *= 2
        else:
            side_from *= 2


def blocks_to(encoder: np.ndarray, side: int) -> np.ndarray:
    """Join the cells to which (E, ., ., h, w) lead in blocks of `side` x `side`: their weights add up.

    Blocks at the right and lower edge may be smaller.
    """
    if side == 1:
        return encoder
    h, w = encoder.shape[-2:]
    # -w % side cells are missing to a multiple of the side: zeros, which add nothing to a sum of weights.
    maps = F.pad(torch.from_numpy(encoder).flatten(0, 2)[:, None], (0, -w % side, 0, -h % side))
    # Mean times cells is the sum: the weights of a map still add up to 1.
    return (F.avg_pool2d(maps, side) * side**2).reshape(*encoder.shape[:3], -(-h // side), -(-w // side)).numpy()


def blocks_from(encoder: np.ndarray, side: int) -> np.ndarray:
    """Join the cells from which (E, h, w, ., .) lead in blocks: their maps are averaged."""
    if side == 1:
        return encoder
    layers, h, w = encoder.shape[:3]
    maps = torch.from_numpy(encoder).flatten(3).permute(0, 3, 1, 2)  # (E, to, h, w)
    # With ceil_mode a smaller block at the edge is divided by the cells it has.
    means = F.avg_pool2d(maps, side, ceil_mode=True).permute(0, 2, 3, 1)
    return means.unflatten(-1, encoder.shape[3:]).numpy()


def pack_image(image: Image.Image, budget: int, longer_side: int = 1066) -> str:
    """Return an image as a JPEG's data address of at most `budget` bytes, resized to a longer side that fits."""
    while True:
        small = image.copy()
        small.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)  # never enlarges
        for quality in (88, 75, 60):
            file = io.BytesIO()
            small.save(file, "JPEG", quality=quality)
            text = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
            if len(text) <= budget:
                return text
        # Quality first, then size: below 60 JPEG's blocks show before missing pixels do.
        longer_side = longer_side * 3 // 4
