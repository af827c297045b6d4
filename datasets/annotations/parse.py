"""From the bytes of an annotation file to COCO's three lists, or one line that says why not."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from util.errors import DatasetError

LISTS = ("images", "annotations", "categories")


class Entry(Struct, gc=False):
    """An annotation as the file has it, None where it does not. Nothing is checked yet."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    #: Left as text until it is asked for: as Python objects, the polygons of COCO would take 3 GB at once.
    raw_segmentation: Raw = msgspec.field(name="segmentation", default=Raw(b"null"))

    @property
    def segmentation(self) -> Any:
        """The segmentation, parsed each time. Raises ValueError where its text is no JSON."""
        try:
            return _DECODER.decode(self.raw_segmentation)
        except ValueError:
            return json.loads(bytes(self.raw_segmentation))


class CocoLists(Struct):
    """What is read of a COCO file."""

    images: list[dict[str, Any]]
    annotations: list[Entry]
    categories: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder()


def parse_coco(path: Path) -> CocoLists:
    """The lists of the file at `path`. Raises DatasetError, naming it, where it is absent, unreadable, or not COCO."""
    try:
        return _parse(path.read_bytes(), path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file (see --data_path)") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise not_json(path, error) from None
    except MemoryError:
        raise DatasetError(f"{path}: does not fit into memory") from None


def not_json(path: Path, error: Exception) -> DatasetError:
    """The error of a file that is no JSON, with the parser's reason on one line."""
    return DatasetError(f"{path}: not JSON ({' '.join(str(error).split())})")


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside: it would walk millions of parsed objects, none of it garbage, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(content: bytes, path: Path) -> CocoLists:
    try:
        return msgspec.json.decode(content, type=CocoLists)
    except (ValueError, RecursionError):
        # Python's own parser is slower and takes more: NaN, a byte order mark, UTF-16.
        data = json.loads(content)
    for key in LISTS:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(f'{path}: not a COCO annotation file: it has no list "{key}" of objects')
    return CocoLists(data["images"], [_entry(entry) for entry in data["annotations"]], data["categories"])


def _entry(fields: dict[str, Any]) -> Entry:
    known = {key: fields.get(key) for key in Entry.__struct_encode_fields__ if key != "segmentation"}
    return Entry(**known, raw_segmentation=Raw(json.dumps(fields.get("segmentation"))))
