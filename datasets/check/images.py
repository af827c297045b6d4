"""Check of image files: they are there, can be decoded, and have the size that the annotations give."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from util.progress import with_progress

from ..annotations.findings import Action, Findings
from ..annotations.kinds import WRONG_SIZE, Kind
from ..annotations.masks import Size
from ..images import DECODE_ERRORS, DEEP_MODES, exif_orientation, one_line, quarter_turn, to_rgb

MISSING = Kind("image files that are not there", Action.REFUSED, "training would stop at the first")
BROKEN = Kind("image files that cannot be decoded", Action.REFUSED, "training would stop at the first")
OTHER_NAME = Kind("image files with another name than listed", Action.KEPT, "found by the dataset's own rule")
TURNED = Kind(
    "images that EXIF turns, with the turned size listed",
    Action.KEPT,
    "they are turned, for the boxes are those of the turned image",
)
EXIF = Kind("images that EXIF turns", Action.KEPT, "EXIF is ignored, as in DETR")
DEEP = Kind("images with 16 bits a pixel", Action.KEPT, "scaled to 8 bits")
NOT_RGB = Kind("images that are not RGB", Action.KEPT, "converted, transparency dropped")
TWICE = Kind("images listed more than once in a split", Action.KEPT, "each counts")


@dataclass(frozen=True)
class ListedImage:
    """An image as the annotations list it, and the file that is read for it."""

    image_id: int
    file_name: str
    size: Size | None
    path: Path
    #: True where the file is called otherwise than `file_name` says.
    renamed: bool = False
    #: What finds a file that is not there, for people.
    hint: str = ""


@dataclass(frozen=True)
class ImageFacts:
    """Facts of an image file: its decoded size, PIL's mode, EXIF's orientation (1: upright), a digest of its pixels.

    `turned` where loading turns it as EXIF says.

    `error` says why it cannot be decoded; then the rest says nothing. `missing` when there is no file at all.
    """

    size: Size = (0, 0)
    mode: str = ""
    orientation: int = 1
    digest: bytes = b""
    turned: bool = False
    error: str | None = None
    missing: bool = False


def inspect(path: Path, listed: Size | None = None) -> ImageFacts:
    """Decode the file at `path`, for which annotations list (height, width), as loading does."""
    try:
        with Image.open(path) as image:
            mode, orientation, turn = image.mode, exif_orientation(image), quarter_turn(image, listed)
            rgb = to_rgb(image)
        rgb = rgb if turn is None else rgb.transpose(turn)
    except FileNotFoundError:
        return ImageFacts(error="no such file", missing=True)
    except DECODE_ERRORS as error:
        return ImageFacts(error=one_line(error))
    # Of the pixels, not of the file: a copy saved anew is found. The size salts it, for 2 x 8 and 4 x 4 have as many
    # bytes.
    digest = hashlib.blake2b(rgb.tobytes(), digest_size=16, salt=b"%dx%d" % rgb.size).digest()
    size, turned = (rgb.height, rgb.width), turn is not None
    return ImageFacts(size=size, mode=mode, orientation=orientation, digest=digest, turned=turned)


def inspect_all(images: Sequence[ListedImage], *, label: str) -> list[ImageFacts]:
    """Decode many files on all cores (PIL lets go of Python's lock), showing how far it is."""
    # Threads, not processes: decoded images need not be copied between them.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = pool.map(lambda image: inspect(image.path, image.size), images)
        return list(with_progress(facts, label, unit="image", total=len(images)))


def note_images(listed: Sequence[ListedImage], facts: Sequence[ImageFacts], source: Path, findings: Findings) -> None:
    """Add what is odd about the image files that the annotation file `source` lists."""
    for image, fact in zip(listed, facts, strict=True):
        for kind, detail in _oddities(image, fact):
            findings.add(
                kind.name,
                kind.action,
                remedy=kind.remedy,
                example=f"{source}: image {image.image_id}: {image.path}{detail}",
            )


def note_repeats(listed: Sequence[ListedImage], facts: Sequence[ImageFacts], source: Path, findings: Findings) -> None:
    """Add images whose pixels were seen before in the same split."""
    first: dict[bytes, ListedImage] = {}
    for image, fact in zip(listed, facts, strict=True):
        # A file that cannot be read equals no other.
        known = first.setdefault(fact.digest, image) if fact.error is None else image
        if known is not image:
            example = f"{source}: images {known.image_id} and {image.image_id}: {known.path} and {image.path}"
            findings.add(TWICE.name, TWICE.action, remedy=TWICE.remedy, example=example)


def _oddities(image: ListedImage, fact: ImageFacts) -> list[tuple[Kind, str]]:
    """List the kinds that apply to an image, each with what its example says after the path."""
    # First: of a file that cannot be read nothing else is known.
    if fact.error is not None:
        return [(MISSING, image.hint)] if fact.missing else [(BROKEN, f": {fact.error}")]
    found = []
    if image.size is not None and image.size != fact.size:
        listed, real = (f"{size[1]} x {size[0]}" for size in (image.size, fact.size))
        found.append((WRONG_SIZE, f": {listed} listed, {real} in the file"))
    if fact.orientation != 1:
        found.append((TURNED if fact.turned else EXIF, f": EXIF orientation {fact.orientation}"))
    if fact.mode in DEEP_MODES:
        found.append((DEEP, f": mode {fact.mode}"))
    elif fact.mode != "RGB":
        found.append((NOT_RGB, f": mode {fact.mode}"))
    if image.renamed:
        found.append((OTHER_NAME, f": {image.file_name} is listed"))
    return found
