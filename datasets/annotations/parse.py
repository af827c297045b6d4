"""The entries of an annotation file as they are parsed, before anything is checked.

Numbers come as JSON files of the field write them: 12, 12.0, "12", and some that are none.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from util.errors import DatasetError

#: Beyond this many pixels nothing is meant; it also keeps sums and pycocotools' integers far from overflow.
FARTHEST = 1e6
_INT64 = range(-(2**63), 2**63)
#: Texts of fields that are null, and that are not there.
NULL, NOTHING = Raw(b"null"), Raw(b"")
_DECODER = msgspec.json.Decoder()


class Entry(Struct, gc=False):
    """An annotation as the file has it, None where it does not. Nothing is checked yet."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    rotation: Any = None
    #: Some exporters' own fields, among them a rotation.
    attributes: Raw = NOTHING
    #: Left as text until it is asked for: as Python objects, the polygons of COCO would take 3 GB at once.
    raw_segmentation: Raw = msgspec.field(name="segmentation", default=NULL)

    @property
    def is_rotated(self) -> bool:
        """True where the exporter says that the box is to be turned by more than nothing."""
        return bool(self.turn_about_centre or to_float(self.rotation))

    @property
    def turn_about_centre(self) -> float | None:
        """Degrees by which CVAT turns the box about its centre; None where it does not say so."""
        # Almost no file has it: without the word there is nothing to parse, and an entry costs no dictionary.
        if b"rotation" not in bytes(self.attributes):
            return None
        attributes = json.loads(bytes(self.attributes))
        return to_float(attributes.get("rotation")) if isinstance(attributes, dict) else None

    @property
    def segmentation(self) -> Any:
        """The segmentation, parsed each time. Raises ValueError where its text is no JSON."""
        return parse_segmentation(self.raw_segmentation)


class PlainEntry(Struct, gc=False):
    """An annotation with all fields that detection reads, of the types that JSON should hold, and no rotation.

    The usual file has no others. The parser checks the types as it goes, so that nobody has to look at them again.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[int | float, int | float, int | float, int | float]
    area: int | float
    iscrowd: int
    rotation: None = None
    attributes: None = None
    raw_segmentation: Raw = msgspec.field(name="segmentation", default=NULL)

    def as_entry(self) -> Entry:
        """Return the same annotation as any may be."""
        return Entry(
            id=self.id,
            image_id=self.image_id,
            category_id=self.category_id,
            bbox=list(self.bbox),
            area=self.area,
            iscrowd=self.iscrowd,
            raw_segmentation=self.raw_segmentation,
        )


class ImageEntry(Struct, gc=False):
    """An image as the file has it, None where it does not. Nothing is checked yet."""

    id: Any = None
    file_name: Any = None
    height: Any = None
    width: Any = None


def parse_segmentation(text: Raw) -> Any:
    """Parse the text of a segmentation. Raises ValueError where it is no JSON."""
    try:
        # Python's parser takes NaN, which msgspec refuses.
        return _DECODER.decode(text)
    except ValueError:
        return json.loads(bytes(text))


def to_int(value: Any) -> int | None:
    """Return an int, a decimal without fraction, or either as text, as an integer of 64 bits; None for the rest."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = _int_of_text(value)
    if isinstance(value, float):
        # Also for NaN and infinity, which are no integers.
        value = int(value) if value.is_integer() else None
    # `in` a range is arithmetic, not a search.
    return value if isinstance(value, int) and value in _INT64 else None


def to_float(value: Any) -> float | None:
    """Return `value` as a float (perhaps NaN or infinite): a number, or one as text; None for the rest."""
    if isinstance(value, bool):
        return None
    try:
        # Python reads 1_000 as a number, other readers of the file do not: such text is no number here.
        return float(value) if isinstance(value, int | float) or (isinstance(value, str) and "_" not in value) else None
    except ValueError:
        return None
    except OverflowError:
        # An integer of hundreds of digits, which JSON allows.
        return float("inf") if value > 0 else float("-inf")


def not_json(path: Path, error: Exception) -> DatasetError:
    """Make the error of a file that is no JSON, with the parser's reason on one line."""
    return DatasetError(f"{path}: not JSON ({' '.join(str(error).split())})")


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside: it would walk millions of parsed objects, none of it garbage, again and again."""
    # Whoever has turned it off before wants it off afterwards.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _int_of_text(text: str) -> int | float | None:
    try:
        return int(text) if "_" not in text else None
    except ValueError:
        return to_float(text)
