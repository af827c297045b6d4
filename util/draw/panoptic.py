"""Panoptic images for people: every segment in the colour of its class, with its outline and its name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .boxes import class_colour, enlarged, line_width
from .names import draw_names

#: How much of the class's colour lies over the image.
OPACITY = 0.6


def draw_panoptic(
    image: Image.Image, ids: np.ndarray, segments: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Image.Image:
    """Return an RGB copy of the image with its segments; a small image is enlarged as by `draw_detections`.

    Args:
        image: drawn over a copy of it.
        ids: (height, width) the segment of each pixel.
        segments: {id, category_id} of each segment.
        names: the name of each segment.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects  # slow to import

    canvas = enlarged(image.convert("RGB"))
    places = Image.fromarray(ids.astype(np.int32)).resize(canvas.size, Image.Resampling.NEAREST)
    numbers = np.asarray(places) + 1  # find_objects leaves 0 out
    pixels = np.asarray(canvas).astype(np.float32)
    centres, colours, shown = [], [], []
    slices = find_objects(numbers)
    for segment, name in zip(segments, names, strict=True):
        part = slices[segment["id"]] if segment["id"] < len(slices) else None
        if part is None:  # it has no pixels
            continue
        inside, colour = numbers[part] == segment["id"] + 1, class_colour(segment["category_id"])
        pixels[part][inside] += OPACITY * (np.array(colour, dtype=np.float32) - pixels[part][inside])
        # The name lies where the segment is widest; padded, so that the image's edge counts as an edge.
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        centres.append(np.tile((part[1].start + column, part[0].start + row), 2))  # a box without extent
        colours.append(colour)
        shown.append(name)
    edges = np.zeros(numbers.shape, dtype=bool)
    # A pixel is an edge where its left or upper neighbour belongs to another segment.
    edges[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    edges[1:] |= numbers[1:] != numbers[:-1]
    pixels[binary_dilation(edges, iterations=max(1, line_width(canvas) // 2))] *= 0.25
    canvas.paste(Image.fromarray(pixels.round().astype(np.uint8)))
    draw_names(canvas, np.array(centres).reshape(-1, 4), colours, shown)
    return canvas
