"""Darknet's own files beside YOLO labels: obj.data says where the sets and the names lie, obj.names has the names."""

from pathlib import Path
from typing import Any

from util.errors import DatasetError

from ..image_files import by_base_name

#: The keys of obj.data for the splits; without obj.data the usual names of their files.
SETS = {"train": ("train", "train.txt"), "val": ("valid", "valid.txt", "test.txt")}


def is_darknet(root: Path) -> bool:
    """Return True for a folder with obj.data or obj.names, or the only file of such an ending."""
    return any(_own_file(root, suffix).is_file() for suffix in ("data", "names"))


def read_darknet(root: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """Return the places of the sets, as data.yaml would have them, and the class names by index.

    Paths in obj.data may begin with folders of Darknet's own tree: the longest end that is below `root` counts. Raises
    DatasetError.
    """
    data_file = _own_file(root, "data")
    data = _read_data(data_file) if data_file.is_file() else {}
    # obj.data says `data/obj.names`, counted from the folder of the darknet program.
    names_file = by_base_name(root, data["names"], 0) if "names" in data else _own_file(root, "names")
    names = [line.strip() for line in _lines(names_file)]
    while names and not names[-1]:
        names.pop()
    if not names or "" in names:
        raise DatasetError(f"{names_file}: holds no names, or an empty line between them")
    # As text: `classes = 5 ` is all there is in that file.
    if data.get("classes", str(len(names))) != str(len(names)):
        raise DatasetError(f"{data_file}: classes is {data['classes']}, but {names_file} has {len(names)} names")
    config: dict[str, Any] = {}
    for split, (key, *usual) in SETS.items():
        found = [path for name in [data.get(key), *usual] if name and (path := by_base_name(root, name, 0)).is_file()]
        if found:
            config[split] = found[0].relative_to(root).as_posix()
    return config, dict(enumerate(names))


def _own_file(root: Path, suffix: str) -> Path:
    """Return obj.{suffix}, which may not exist, or the only file of that suffix; in the folder itself or in data/."""
    for folder in (root, root / "data"):
        found = sorted(folder.glob(f"*.{suffix}"))
        if folder / f"obj.{suffix}" in found or len(found) == 1:
            return folder / f"obj.{suffix}" if len(found) > 1 else found[0]
    return root / f"obj.{suffix}"


def _read_data(path: Path) -> dict[str, str]:
    """Read lines `key = value`."""
    pairs = [line.partition("=") for line in _lines(path) if "=" in line]
    return {key.strip(): value.strip() for key, _, value in pairs}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DatasetError(f"{path}: cannot be read ({reason})") from None
