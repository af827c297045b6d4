"""Busy backgrounds for the generated `shapes` images; nothing may look like an ellipse, rectangle, triangle or star.

A canvas is planar, (3, S, S) float32 with values around 0..1; `random_background` is the main entry.
All chance is `Generator.random`, the stream that numpy changes least between versions, and all arithmetic elementwise:
a matrix product would round differently on other processors, and its threads would fight with those of the training.
"""

import math
from functools import lru_cache

import numpy as np

#: Nodes per side and amplitude of the layers of coloured noise, from slow colour drifts to fine mottle.
NOISE_LAYERS = ((2, 0.30), (4, 0.20), (9, 0.13), (28, 0.09))
GRAIN_AMPLITUDE = 0.045
#: Backgrounds keep this part of their contrast around mid-grey: busy, but no rival to the shapes' own colours.
CONTRAST = 0.45
STRIPE_PROBABILITY = 0.6
MAX_BLOBS = 5
MIN_STROKES, MAX_STROKES = 2, 8


def random_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a (3, size, size) float32 canvas, roughly in 0..1: noise, stripes, soft blobs, thin strokes, grain."""
    canvas = _noise_and_blobs(rng, size)
    if rng.random() < STRIPE_PROBABILITY:
        _add_stripes(canvas, rng)
    for _ in range(MIN_STROKES + int(rng.random() * (MAX_STROKES - MIN_STROKES + 1))):
        _add_stroke(canvas, rng)
    np.clip(canvas, 0.0, 1.0, out=canvas)
    # Less contrast around mid-grey, in place.
    canvas -= 0.5
    canvas *= CONTRAST
    canvas += 0.5
    return canvas


def add_grain(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Add sensor-like pixel noise to a (3, S, S) canvas in place."""
    size = canvas.shape[-1]
    tile = _grain_tile(size)
    # One of size^2 cuts of a fixed tile: two random numbers instead of 3 S^2.
    top, left = (rng.random(2) * size).astype(int)
    canvas += tile[:, top : top + size, left : left + size]


def _noise_and_blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Add random grids of growing resolution to a base colour, then soft blobs; only the finest is drawn in full."""
    strength = 0.6 + 0.8 * rng.random()
    # A base colour away from black and white, so that shapes of either can stand out.
    canvas = np.zeros((3, 2, 2), np.float32) + (0.2 + 0.6 * rng.random((3, 1, 1))).astype(np.float32)
    for nodes, amplitude in NOISE_LAYERS:
        canvas = _enlarge(canvas, nodes, smooth=True)
        canvas += ((rng.random((3, nodes, nodes)) * 2 - 1) * (amplitude * strength)).astype(np.float32)
    for _ in range(int(rng.random() * (MAX_BLOBS + 1))):
        canvas += _blob(rng, canvas.shape[-1])
    return _enlarge(canvas, size)


def _blob(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a coloured spot without an outline, (3, size, size): it fades as (1 - x^2)^2 along both axes."""
    centres, widths = rng.random((2, 1)), 0.06 + 0.2 * rng.random((2, 1))
    tint = (rng.random((3, 1, 1)) * 2 - 1) * 0.35
    # (2, size): how it falls along y and along x; their product has no edge to be taken for a shape's.
    fall = np.maximum(0.0, 1 - ((np.arange(size) / size - centres) / widths) ** 2) ** 2
    return (tint * fall[0][:, None] * fall[1]).astype(np.float32)


def _add_stripes(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Add one set of wavy stripes; they fade in and out over the image."""
    size = canvas.shape[-1]
    angle, period, shift, waviness, contrast = rng.random(5).tolist()
    warp, fade = _enlarge(rng.random((2, 4, 4)).astype(np.float32), size, smooth=True)
    along = np.arange(size, dtype=np.float32) / ((0.04 + 0.12 * period) * size)
    # (S, S): position across the stripes in periods, warped by slow noise.
    phase = along * math.cos(math.pi * angle) + (along * math.sin(math.pi * angle))[:, None]
    phase += warp * 4 * waviness + shift
    # A triangle wave from -1 to 1: elementwise and exact everywhere, where a sine may differ in the last bit.
    wave = np.abs(phase - np.rint(phase)) * 4 - 1
    tint = (0.08 + 0.16 * contrast) * (0.4 + 0.6 * rng.random(3))
    wave *= fade
    for plane, strength in zip(canvas, tint.astype(np.float32), strict=True):
        plane += strength * wave


def _add_stroke(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a thin straight stroke, antialiased, on its own bounding box only."""
    size = canvas.shape[-1]
    x, y, turn, length, width = rng.random(5).tolist()
    half_length = (0.03 + 0.15 * length) * size
    half_width = (0.4 + 0.7 * width) * size / 160
    cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
    reach_x, reach_y = abs(cos) * half_length + half_width + 1, abs(sin) * half_length + half_width + 1
    left, right = max(0, int(x * size - reach_x)), min(size, int(x * size + reach_x) + 1)
    top, bottom = max(0, int(y * size - reach_y)), min(size, int(y * size + reach_y) + 1)
    dx = np.arange(left, right, dtype=np.float32) - x * size
    dy = (np.arange(top, bottom, dtype=np.float32) - y * size)[:, None]
    # Signed distances in pixels from the sides and from the ends of the stroke; the larger one counts.
    across = np.abs(dy * cos - dx * sin) - half_width
    beyond = np.abs(dx * cos + dy * sin) - half_length
    alpha = np.clip(0.5 - np.maximum(across, beyond), 0.0, 1.0)
    colour = rng.random(3).astype(np.float32)[:, None, None]
    region = canvas[:, top:bottom, left:right]
    region += alpha * (colour - region)


def _enlarge(grid: np.ndarray, size: int, *, smooth: bool = False) -> np.ndarray:
    """Interpolate a (C, n, n) grid to (C, size, size), linearly or, without creases at its nodes, by smoothstep."""
    left, part = _between_nodes(grid.shape[-1], size, smooth)
    # (C, n, n) to (C, n, size) to (C, size, size): two passes of one axis each cost less than one of both.
    wide = _blend(grid.take(left, axis=2), grid.take(left + 1, axis=2), part)
    return _blend(wide.take(left, axis=1), wide.take(left + 1, axis=1), part[:, None])


def _blend(near: np.ndarray, far: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return near + part * (far - near), made in the memory of `far`."""
    far -= near
    far *= part
    far += near
    return far


@lru_cache(maxsize=32)
def _between_nodes(nodes: int, size: int, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return, for `size` points spread evenly over `nodes`, the node to the left and the way on to the next (0..1)."""
    # First and last pixel lie on the first and last node.
    position = np.arange(size) * ((nodes - 1) / (size - 1))
    left = np.minimum(position.astype(int), nodes - 2)
    part = position - left
    # Smoothstep: its slope is 0 at the nodes.
    part = part * part * (3 - 2 * part) if smooth else part
    return left, part.astype(np.float32)


@lru_cache(maxsize=4)
def _grain_tile(size: int) -> np.ndarray:
    """Return fixed pixel noise (3, 2 size, 2 size): a random part of it is far cheaper than fresh noise."""
    tile = np.random.Generator(np.random.PCG64(0)).random((3, 2 * size, 2 * size), dtype=np.float32)
    tile = (tile * 2 - 1) * np.float32(GRAIN_AMPLITUDE)
    tile.flags.writeable = False
    return tile
