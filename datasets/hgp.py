"""Hands, Guns and Phones: 1,989 training and 210 validation images, classes 0 phone, 1 gun, 2 hand.

The annotations call an image "00000012.png" where the file is T00000012.png (training) or V00000012.png (held out).
Images are looked up by what the annotations say, `file_name` first and then the id, never by their position.
"""

from functools import partial
from os.path import isfile
from pathlib import Path

from .images import FindImage

PREFIXES = {"train": "T", "val": "V"}


def image_finder(image_set: str) -> FindImage:
    """How the images of a split are found; the splits "train" and "val" have names of their own."""
    return partial(find_image, prefixes=(PREFIXES[image_set],) if image_set in PREFIXES else ("T", "V"))


def find_image(folder: Path, file_name: str, image_id: int, *, prefixes: tuple[str, ...]) -> Path:
    """The file of `file_name`, or else the first of {prefix}{image_id:08d}.png that exists.

    The last of the places that were tried is returned when none exists.
    """
    path = folder / file_name
    if isfile(path):
        return path
    places = [folder / f"{prefix}{image_id:08d}.png" for prefix in prefixes]
    return next((place for place in places if isfile(place)), places[-1])
