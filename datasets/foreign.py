"""Data of others: which format a folder looks like, the command that converts it, and copies with other ids."""

from collections.abc import Mapping
from pathlib import Path

#: Names of the formats that datasets.convert reads.
CONVERTIBLE = {"voc": "Pascal VOC", "yolo": "YOLO", "labelme": "LabelMe", "hf": "Hugging Face's Parquet files"}
#: CPPE-5's classes in the order of their ids, which are 1 to 5 in the authors' files and 0 to 4 on Hugging Face's hub.
CPPE5_NAMES = ("Coverall", "Face_Shield", "Gloves", "Goggles", "Mask")


def kind_to_convert(root: Path) -> str | None:
    """Return voc, yolo, labelme or hf, as datasets.convert calls the format of a folder; None for another."""
    if any(any(root.glob(name)) for name in ("data/train-*.parquet", "train-*.parquet", "train.parquet")):
        return "hf"
    # XML is VOC's alone; a YAML file or a folder `labels` may lie beside anything.
    voc = (root / "Annotations").is_dir() or any(root.glob("*.xml")) or any(root.glob("*/*.xml"))
    darknet = any(any(root.glob(name)) for name in ("*.names", "data/*.names", "obj.data"))
    yolo = any(root.glob("*.yaml")) or any(root.glob("*.yml")) or darknet or (root / "labels").is_dir()
    if voc or yolo:
        return "voc" if voc else "yolo"
    return "labelme" if _is_labelme(root) else None


def how_to_convert(root: Path) -> str:
    """Name the command that converts a folder of another format, "" for none."""
    kind = kind_to_convert(root)
    if kind is None and (root / "result.json").is_file():
        return (
            f"; it looks like an export of Label Studio: export training and validation images apart, to {root}/train "
            f"and {root}/val (each with result.json and images)"
        )
    if kind is None:
        return ""
    # Beside the folder, not in it: a second conversion would find its own output there.
    dest = root.resolve().with_name(f"{root.resolve().name}_coco")
    command = f"python -m datasets.convert {kind} {root} {dest}"
    return f"; it looks like {CONVERTIBLE[kind]}: {command} converts it, then give --data_path {dest}"


def _is_labelme(root: Path) -> bool:
    """Return True if the first JSON file of the folder, or of one in it, begins like LabelMe's."""
    # One file is enough, and the first by name is the same on every machine.
    path = next(iter(sorted([*root.glob("*.json"), *root.glob("*/*.json")])), None)
    if path is None:
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            # LabelMe writes version, flags and shapes before imageData, whose base64 text can be megabytes.
            return '"shapes"' in file.read(2000)
    except OSError:
        return False


def note_on_ids(names: Mapping[int, str]) -> str:
    """Say that a data set's ids are those of a copy, with what follows; "" for ids as their authors wrote them."""
    # Names and ids together: the authors' file has the same names, one id later.
    if dict(names) != dict(enumerate(CPPE5_NAMES)):
        return ""
    return (
        "CPPE-5 with ids from 0, as on Hugging Face's hub: --match_classes takes checkpoints of the authors' ids 1 to 5"
    )
