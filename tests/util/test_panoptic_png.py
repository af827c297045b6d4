"""Segment ids survive the PNG, and the PNG is COCO's."""

import io

import numpy as np
from PIL import Image

from util.panoptic_png import decode_segments, encode_segments


def test_ids_up_to_24_bits_come_back() -> None:
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]])
    assert (decode_segments(io.BytesIO(encode_segments(ids))) == ids).all()


def test_red_counts_ones_green_256_and_blue_65536() -> None:
    with Image.open(io.BytesIO(encode_segments(np.array([[3 + 256 * 5 + 65536 * 7]])))) as image:
        assert image.format == "PNG" and image.mode == "RGB" and image.getpixel((0, 0)) == (3, 5, 7)
