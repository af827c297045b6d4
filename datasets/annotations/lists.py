"""Parse the bytes of an annotation file to COCO's three lists, or say in one line why not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from util.errors import DatasetError
from util.progress import with_progress

from .json_stream import JsonStream, NotStreamed, Parse
from .listed import ListedObjects
from .parse import Entry, ImageEntry, PlainEntry, not_json

LISTS = ("images", "annotations", "categories")
#: Files from this size on are read in parts of `PART_BYTES`: at once they take up to ten times their size.
LEAST_STREAMED = 64 << 20
#: The objects of a part stay in the processor's cache while they become columns: 16 MB took twice the time.
PART_BYTES = 256 << 10
#: Larger files are read in parts or not at all.
MOST_WHOLE = 2 << 30
#: Parts without a plain list, more than with one, until nobody tries any more.
PATIENCE = 3
#: Annotations that become columns at a time.
ROWS = 1 << 16


@dataclass
class CocoLists:
    """The lists of a COCO file; `annotations` is None where it has no such key, as files of test images."""

    images: list[ImageEntry]
    categories: list[dict[str, Any]]
    annotations: ListedObjects | None = None


class _Whole(Struct):
    """The file as msgspec parses it."""

    images: list[ImageEntry]
    categories: list[dict[str, Any]]
    annotations: list[Entry] | None = None


def parse_coco(path: Path) -> CocoLists:
    """Read the lists of the file at `path`. Raises DatasetError where it is absent, unreadable, or not COCO."""
    try:
        size = path.stat().st_size
        if size >= LEAST_STREAMED:
            try:
                return _in_parts(path, size)
            except NotStreamed as reason:
                if size > MOST_WHOLE:
                    raise DatasetError(f"{path}: not a COCO annotation file ({reason})") from None
        # It says what is wrong with a file, and takes what only Python's own parser understands.
        return _at_once(path.read_bytes(), path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file (see --data_path)") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise not_json(path, error) from None
    except MemoryError:
        raise DatasetError(f"{path}: does not fit into memory") from None


def _at_once(content: bytes, path: Path) -> CocoLists:
    try:
        # The fast way, and the one that leaves polygons as text.
        lists = msgspec.json.decode(content, type=_Whole)
        return CocoLists(lists.images, lists.categories, _listed(lists.annotations))
    except (ValueError, RecursionError):
        # Python's own parser is slower and takes more: NaN, a byte order mark, UTF-16.
        data = json.loads(content)
    for key in LISTS:
        # Files of test images have no such list; one that is null is a mistake.
        if key == "annotations" and isinstance(data, dict) and key not in data:
            continue
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise _no_list(path, key)
    entries = list(map(_entry, data["annotations"])) if "annotations" in data else None
    return CocoLists(list(map(_image, data["images"])), data["categories"], _listed(entries))


def _in_parts(path: Path, size: int) -> CocoLists:
    """Read a file a part at a time. Raises NotStreamed, and DatasetError where a list is missing."""
    found: dict[str, Any] = {}
    with open(path, "rb") as file:
        parts, total = iter(partial(file.read, PART_BYTES), b""), -(-size // PART_BYTES)
        blocks = with_progress(parts, f"reading {path.name}", unit="part", total=total)
        for key, entries in JsonStream(blocks).lists(make_parsers()):
            # A list begins: the last one of a name counts.
            if entries is None:
                found[key] = ListedObjects() if key == "annotations" else []
            else:
                found[key].extend(entries)
    for key in ("images", "categories"):
        if key not in found:
            raise _no_list(path, key)
    return CocoLists(**found)


def make_parsers() -> dict[str, Parse]:
    """Return the parsers of the three lists, by their names."""
    return {
        "images": _parser(_image, ImageEntry),
        "categories": _parser(dict, dict[str, Any]),
        "annotations": _parser(_entry, Entry, plain=PlainEntry),
    }


def _parser(of_fields: Callable[[dict[str, Any]], Any], kind: Any, *, plain: Any = None) -> Parse:
    """Return the parser of a list of `plain`, where all elements are, else of `kind`.

    `of_fields` makes one of what Python's own parser returns.
    """
    strict = None if plain is None else msgspec.json.Decoder(list[plain])
    decoder = msgspec.json.Decoder(list[kind])
    # Parts of the file that were plain, less those that were not.
    lead = 0

    def parse(text: bytes, *, patient: bool) -> list[Any]:
        nonlocal lead
        # Where mostly something is odd, trying the strict parser first only takes time.
        if strict is not None and lead > -PATIENCE:
            try:
                entries = strict.decode(text)
                lead += 1
                return entries
            except msgspec.ValidationError:
                lead -= 1
            except (ValueError, RecursionError):
                pass  # no JSON, or not all of an element: the others say so, too
        try:
            return decoder.decode(text)
        except (ValueError, RecursionError):
            if not patient:
                raise
        entries = json.loads(text)
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("not a list of objects")
        return list(map(of_fields, entries))

    return parse


def _no_list(path: Path, key: str) -> DatasetError:
    return DatasetError(f'{path}: not a COCO annotation file: it has no list "{key}" of objects')


def _listed(entries: list[Entry] | None) -> ListedObjects | None:
    if entries is None:
        return None
    listed = ListedObjects()
    for first in range(0, len(entries), ROWS):
        listed.extend(entries[first : first + ROWS])
    return listed


def _entry(fields: dict[str, Any]) -> Entry:
    raw = ("segmentation", "attributes")
    # By the names in the file, of which `segmentation` is another one than the field's.
    known = {key: fields.get(key) for key in Entry.__struct_encode_fields__ if key not in raw}
    # Back to text, as msgspec leaves it: from here on both parsers' entries are alike.
    segmentation, attributes = (Raw(json.dumps(fields.get(key))) for key in raw)
    return Entry(**known, raw_segmentation=segmentation, attributes=attributes)


def _image(fields: dict[str, Any]) -> ImageEntry:
    return ImageEntry(**{key: fields.get(key) for key in ImageEntry.__struct_fields__})
