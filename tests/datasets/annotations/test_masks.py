"""Run lengths are decompressed as pycocotools does, and what it would read wrongly never reaches it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle_tools

from datasets.annotations.masks import LARGEST_SIDE, compress, decompress, empty_mask, read_run_lengths


@pytest.mark.slow
@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=30))
def test_decompressing_undoes_pycocotools(runs: list[int]) -> None:
    text = rle_tools.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"]
    assert decompress(text).tolist() == runs


def test_the_largest_image_in_one_run() -> None:
    pixels = LARGEST_SIDE**2
    assert decompress(empty_mask((LARGEST_SIDE, LARGEST_SIDE))["counts"]).tolist() == [pixels]


# "P" is 32: one more to follow, which never comes; the last is eight times five bits.
@pytest.mark.parametrize("text", [b"", b"P", b"0P", b"/", b"\x70", b"d0 1", b"PPPPPPP0"])
def test_broken_text_is_none(text: bytes) -> None:
    assert decompress(text) is None


@given(st.text(st.characters(min_codepoint=47, max_codepoint=112), max_size=12))
def test_any_text_that_passes_is_a_mask_of_the_image(text: str) -> None:
    mask = read_run_lengths({"size": [3, 4], "counts": text}, (3, 4))
    if mask is not None:
        decoded = rle_tools.decode(mask)
        assert decoded.shape == (3, 4) and rle_tools.area(mask) == decoded.sum()


def test_plain_and_compressed_are_the_same_mask() -> None:
    pixels = np.zeros((5, 6), dtype=np.uint8)
    pixels[1:3, 2:5] = 1
    text = rle_tools.encode(np.asfortranarray(pixels))["counts"].decode()
    plain = {"size": [5, 6], "counts": [11, 2, 3, 2, 3, 2, 7]}
    assert read_run_lengths(plain, None) == read_run_lengths({"size": [5, 6], "counts": text}, (5, 6))
    assert np.array_equal(rle_tools.decode(read_run_lengths(plain, (5, 6))), pixels)


@pytest.mark.parametrize("size", [None, [5], [5, 6, 7], [0, 6], [5, -6], ["five", 6], [5, LARGEST_SIDE + 1], "56"])
def test_impossible_sizes(size: Any) -> None:
    assert read_run_lengths({"size": size, "counts": [30]}, None) is None


def test_size_must_be_the_images() -> None:
    assert read_run_lengths({"size": [5, 6], "counts": [30]}, (6, 5)) is None
    assert compress([30], (5, 6)) == read_run_lengths({"size": [5, 6], "counts": [30]}, (5, 6))
