"""The file of a folder that an annotation means: by its name, or by the rules of a dataset whose names differ.

Hands, Guns and Phones calls an image "00000012.png" where the file is T00000012.png (training) or V00000012.png
(validation). CPPE-5's names carry the folder of the machine on which they were written.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from os.path import exists, isfile  # false for names that no file can have, where Path.is_file raises
from pathlib import Path
from urllib.parse import unquote

from .layout import HGP, DatasetSplits

#: From (folder, file_name, image id) to the path of an image; which may not exist.
FindImage = Callable[[Path, str, int], Path]

#: What Label Studio puts before the name of an uploaded file.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
HGP_PREFIXES = {"train": "T", "val": "V"}


def image_finder(dataset_file: str, layout: DatasetSplits, image_set: str) -> FindImage:
    """Return how the image files of a split are found: by the dataset's own names where it has such."""
    if dataset_file == "hgp" or layout.name == HGP.name:
        prefixes = (HGP_PREFIXES[image_set],) if image_set in HGP_PREFIXES else tuple(HGP_PREFIXES.values())
        return partial(by_hgp_name, prefixes=prefixes)
    return by_base_name if dataset_file in ("custom", "cppe5") else by_file_name


def by_file_name(folder: Path, file_name: str, image_id: int) -> Path:
    """Return the file that `file_name` says; its accents may be composed or not (macOS takes them apart)."""
    path = folder / file_name
    if file_name.isascii() or isfile(path):
        return path
    other = folder
    for part in Path(file_name).parts:  # a folder may have another form than the file in it
        forms = (other / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
        other = next((form for form in forms if exists(form)), other / part)
    return other if isfile(other) else path


def by_base_name(folder: Path, file_name: str, image_id: int, *, least_parts: int = 1) -> Path:
    """Return the file that `file_name` says, or else that of its longest end that is there.

    Names may carry folders of the machine where they were written, with slashes of either kind, be written as in a URL,
    and carry Label Studio's prefix of an upload. `least_parts` is 2 for a name whose last part alone may mean another
    image.
    """
    path = by_file_name(folder, file_name, image_id)
    if isfile(path):
        return path
    found = (by_file_name(folder, end, image_id) for name in _spellings(file_name) for end in _ends(name, least_parts))
    return next((other for other in found if isfile(other)), path)


def _spellings(file_name: str) -> Iterator[str]:
    """Yield the name with plain slashes, without the escapes of a URL, and without the prefix of an upload."""
    name = file_name.replace("\\", "/")
    plain = unquote(name)
    start, slash, last = plain.rpartition("/")
    # Each only if it is another name: looking for a file takes time.
    yield from dict.fromkeys((name, plain, f"{start}{slash}{UPLOAD_PREFIX.sub('', last)}"))


def _ends(name: str, least_parts: int) -> Iterator[str]:
    """Yield the longest end first: the more folders agree, the surer it is the file that is meant."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ("/".join(parts[start:]) for start in range(len(parts) - least_parts + 1))


def hint_for_missing(folder: Path, file_name: str) -> str:
    """Return the way out for a file that is not where its name says, and would be found as one of own data; or ""."""
    found = by_base_name(folder, file_name, 0)
    return f"; --dataset_file custom finds it as {found}" if isfile(found) else ""


def by_hgp_name(folder: Path, file_name: str, image_id: int, *, prefixes: tuple[str, ...]) -> Path:
    """Return the file of `file_name`, or else the first of {prefix}{image_id:08d}.png that exists.

    The last of the places that were tried is returned when none exists.
    """
    path = folder / file_name
    if isfile(path):
        return path
    places = [folder / f"{prefix}{image_id:08d}.png" for prefix in prefixes]
    return next((place for place in places if isfile(place)), places[-1])
