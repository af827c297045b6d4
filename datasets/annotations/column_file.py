"""Named columns of numbers in one file that is read by mapping it into memory; no pickle, nothing in it can run.

The file: MAGIC; the header's length (8 bytes, little endian) and CRC-32 (4 bytes); the header in JSON, which lists each
column's name, type, shape and CRC-32; then the columns, each from a multiple of ALIGNMENT on. A column whose integers
are all equal, as the ends of masks in a file of boxes, is kept as that one number, and is not to be written into.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

MAGIC = b"COLUMNS1"
#: Bytes; that of a cache line, and of any type of a column.
ALIGNMENT = 64
TYPES = ("bool", "uint8", "int32", "int64", "float64")


def write_columns(file: BinaryIO, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write `columns`, and `about`, which JSON can hold. Raises OSError."""
    listed: list[dict[str, Any]] = []
    bodies: list[np.ndarray | None] = []
    for name, column in columns.items():
        body = np.ascontiguousarray(column)
        # Of floats 0 and -0 are equal and not the same.
        same = body.dtype.kind in "biu" and bool(body.size) and bool((body == body.flat[0]).all())
        listed.append(
            {
                "name": name,
                "type": str(body.dtype),
                "shape": list(body.shape),
                "same": body.flat[0].item() if same else None,
                "crc": 0 if same else zlib.crc32(_bytes(body)),
            }
        )
        bodies.append(None if same else body)
    header = json.dumps({"about": about, "columns": listed}).encode()
    file.write(MAGIC + len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little") + header)
    place = 20 + len(header)
    for kept in bodies:
        if kept is not None:
            file.write(bytes(-place % ALIGNMENT))
            file.write(_bytes(kept))
            place += -place % ALIGNMENT + kept.nbytes


def read_about(path: Path) -> dict[str, Any]:
    """Return what `write_columns` got as `about`. Raises OSError, and ValueError for a file that is not whole."""
    with open(path, "rb") as file:
        return _header(file)[0]["about"]


def read_columns(path: Path) -> dict[str, Tensor]:
    """Return the columns, mapped: processes share their pages; what one writes into them stays its own.

    Every byte is checked. Raises OSError, and ValueError for a file that is not whole.
    """
    with open(path, "rb") as file:
        header, place = _header(file)
    # Copy on write ("c"): sizes of images may be corrected in memory, and the file must not change by that.
    data = np.memmap(path, np.uint8, mode="c")
    columns: dict[str, Tensor] = {}
    try:
        for entry in header["columns"]:
            if entry["type"] not in TYPES:
                raise ValueError(f"a column of type {entry['type']}")
            dtype, shape = np.dtype(entry["type"]), tuple(entry["shape"])
            if entry["same"] is not None:
                # One number seen through an array of stride 0: no memory, whatever the shape.
                columns[entry["name"]] = torch.from_numpy(np.full(1, entry["same"], dtype)).expand(shape)
                continue
            place += -place % ALIGNMENT
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            body = data[place : place + size]
            if len(body) != size or zlib.crc32(body.data) != entry["crc"]:
                raise ValueError(f"the column {entry['name']} is cut or damaged")
            columns[entry["name"]] = torch.from_numpy(np.asarray(body).view(dtype).reshape(shape))
            place += size
    except (KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"no list of columns ({error})") from None
    if place != len(data):
        raise ValueError("it goes on after its last column")
    return columns


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header, and the place behind it."""
    start = file.read(20)
    # A damaged length must not ask for exabytes: no more than the file has.
    length = min(int.from_bytes(start[8:16], "little"), Path(file.name).stat().st_size)
    content = file.read(length)
    if not start.startswith(MAGIC) or start[16:20] != zlib.crc32(content).to_bytes(4, "little"):
        raise ValueError("its header is cut or damaged")
    try:
        header = json.loads(content)
        if not isinstance(header["about"], dict) or not isinstance(header["columns"], list):
            raise ValueError("its header is not one of columns")
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header is not one of columns ({error})") from None
    return header, 20 + len(content)


def _bytes(column: np.ndarray) -> memoryview:
    return column.reshape(-1).view(np.uint8).data
