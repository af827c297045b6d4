"""From the bytes of an annotation file to COCO's three lists, or one line that says why not."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from util.errors import DatasetError

LISTS = ("images", "annotations", "categories")


def parse_coco(path: Path) -> dict[str, Any]:
    """The file as a dictionary whose images, annotations and categories are lists of dictionaries.

    Raises DatasetError, naming the file, where it is absent, unreadable, not JSON or not COCO.
    """
    try:
        data = _loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file (see --data_path)") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({' '.join(str(error).split())})") from None
    except MemoryError:
        raise DatasetError(f"{path}: does not fit into memory") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    for key in LISTS:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(f'{path}: not a COCO annotation file: it has no list "{key}" of objects')
    return data


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside: it would walk millions of parsed objects, none of which is garbage, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _loads(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # Python's own parser is slower and takes more: NaN, a byte order mark, UTF-16.
        return json.loads(content)
