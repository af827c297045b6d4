"""Places of the images and annotations of each split: recognised from a folder's layout, or named part by part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from util.errors import DatasetError

from .foreign import how_to_convert

#: The splits in the order in which they are shown; "val" is the validation one, whatever its folder is called.
SPLITS = ("train", "val", "test")
#: Those that flags can name.
NAMED_SPLITS = ("train", "val")
NAMING_FLAGS = " ".join(f"--{split}_{part}" for split in NAMED_SPLITS for part in ("images", "annotations"))


@dataclass(frozen=True)
class Split:
    """A folder of images and the COCO annotation file that lists them."""

    images: Path
    annotations: Path


@dataclass(frozen=True)
class FolderLayout:
    """A way to arrange a dataset: for each split, the places (images, annotations) where it may lie, best first."""

    name: str
    places: Mapping[str, tuple[tuple[str, str], ...]]
    #: Folders below the one that was named in which the whole may lie, as its archive or repository unpacks.
    inside: tuple[str, ...] = ()
    #: The split whose annotations tell this layout from those that are looked for after it.
    told_by: str | None = None

    def find(self, root: Path, annotations_root: Path) -> dict[str, Split]:
        """Return the splits whose annotation file is there; none where the folder has another layout."""
        for inside in ("", *self.inside):
            splits = {}
            for split, places in self.places.items():
                # The annotation file alone decides: a folder of images that is missing is reported later, with the
                # image that was looked for.
                found = [place for place in places if (annotations_root / inside / place[1]).is_file()]
                if found:
                    images, annotations = found[0]
                    # Two roots, because DETR's panoptic annotations lie in a folder of their own.
                    splits[split] = Split(root / inside / images, annotations_root / inside / annotations)
            # Training annotations alone may be named alike in two layouts; `told_by` is the split that differs.
            if splits and (self.told_by is None or self.told_by in splits):
                return splits
        return {}

    def looked_for(self) -> str:
        """Return the annotation file that shows this layout, with the name of the layout."""
        places = self.places[self.told_by or next(iter(self.places))]
        return f"{places[0][1]} ({self.name})"


COCO = FolderLayout("COCO", {s: ((f"{s}2017", f"annotations/instances_{s}2017.json"),) for s in ("train", "val")})
PANOPTIC = FolderLayout(
    "COCO panoptic", {s: ((f"{s}2017", f"annotations/panoptic_{s}2017.json"),) for s in ("train", "val")}
)
HGP = FolderLayout(
    "HGP",
    {s: ((f"images/{s}2017", f"images/annotations/instances_{s}2017.json"),) for s in ("train", "val")},
    inside=("HGP",),
)
ROBOFLOW = FolderLayout(
    "Roboflow",
    {
        "train": (("train", "train/_annotations.coco.json"),),
        "val": (("valid", "valid/_annotations.coco.json"), ("val", "val/_annotations.coco.json")),
        "test": (("test", "test/_annotations.coco.json"),),
    },
)
ONE_FOLDER = FolderLayout(
    "one folder of images", {s: (("images", f"annotations/{s}.json"),) for s in SPLITS}, told_by="val"
)
CPPE5 = FolderLayout(
    "CPPE-5",
    {"train": (("images", "annotations/train.json"),), "val": (("images", "annotations/test.json"),)},
    inside=("data",),
)

LABEL_STUDIO = FolderLayout(
    "Label Studio",
    {
        "train": (("train/images", "train/result.json"),),
        "val": (("val/images", "val/result.json"), ("valid/images", "valid/result.json")),
        "test": (("test/images", "test/result.json"),),
    },
)

#: What each --dataset_file may look like; where layouts resemble each other, the more particular one is first.
FOLDER_LAYOUTS: dict[str, tuple[FolderLayout, ...]] = {
    "coco": (COCO,),
    "coco_panoptic": (PANOPTIC,),
    "hgp": (HGP,),
    "cppe5": (CPPE5,),
    "custom": (COCO, HGP, ROBOFLOW, ONE_FOLDER, CPPE5, LABEL_STUDIO),
}
#: Where a dataset lies when no flag says so.
DEFAULT_PLACES = {"hgp": Path("HGP")}


@dataclass(frozen=True)
class DatasetSplits:
    """The splits of a dataset that were found; `name` of its layout ("COCO", "Roboflow", "named by flags", ...)."""

    name: str
    root: Path | None
    splits: dict[str, Split]
    layout: FolderLayout | None = None

    def split(self, name: str) -> Split:
        """Return the split "train", "val" or "test". Raises DatasetError, naming the way out, where there is none."""
        if name not in self.splits and name not in NAMED_SPLITS:
            raise DatasetError(
                f"{self.root or 'data'} ({self.name}): there is no {name} split, only {' and '.join(self.splits)}; "
                "--val_images and --val_annotations name other images to evaluate on"
            )
        if name not in self.splits:
            places = self.layout.places.get(name) if self.layout else None
            lacking = f"{places[0][1]} is not there" if places else f"there is no {name} split"
            raise DatasetError(
                f"{self.root or 'data'} ({self.name}): {lacking}; "
                f"name the parts with --{name}_images --{name}_annotations"
            )
        return self.splits[name]

    def describe(self) -> str:
        """Return a line for the whole and one for each split."""
        lines = [f"layout: {self.name}{f' in {self.root}' if self.root else ''}"]
        for name in SPLITS:
            if name in self.splits:
                split = self.splits[name]
                lines.append(f"  {name}: {split.annotations}, images in {split.images}")
        return "\n".join(lines)


def recognise_dataset(data_path: str | Path | None, *, annotations_path: str | Path | None, named: bool) -> str:
    """Return the --dataset_file that a folder looks like; the one decision for training and for the check.

    DETR's default, coco, stands for COCO's layout and for no folder at all; custom for every other one. `named`: the
    parts are named by flags, and images are then found as in one's own data.
    """
    # Only DETR's panoptic data has a second folder (--coco_panoptic_path).
    if annotations_path and data_path:
        return "coco_panoptic"
    if named:
        return "custom"
    if not data_path:
        return "coco"
    # Lazy: with COCO's files found, nobody looks for panoptic ones, and boxes are what one asks for first.
    found = (
        name for name in ("coco", "coco_panoptic") for layout in FOLDER_LAYOUTS[name] if _is_there(layout, data_path)
    )
    return next(found, "custom")


def _is_there(layout: FolderLayout, data_path: str | Path) -> bool:
    return bool(layout.find(Path(data_path), Path(data_path)))


def find_layout(
    dataset_file: str,
    data_path: str | Path | None,
    *,
    annotations_path: str | Path | None = None,
    train_images: str | Path | None = None,
    train_annotations: str | Path | None = None,
    val_images: str | Path | None = None,
    val_annotations: str | Path | None = None,
) -> DatasetSplits:
    """Recognise the layout of the folder `data_path` for the dataset `dataset_file`, one of FOLDER_LAYOUTS.

    A named split (both parts of it) stands in place of the one found; with both splits named, `data_path` is not
    needed. `annotations_path` is the folder to look for annotations in, where it is another. Raises DatasetError
    in one line: for half a split, a missing folder, or a folder without a known layout.
    """
    named = _named_splits({"train": (train_images, train_annotations), "val": (val_images, val_annotations)})
    # A default folder would add its own splits to those that were named.
    data_path = data_path or (None if named else DEFAULT_PLACES.get(dataset_file))
    if data_path is None:
        if named:
            return DatasetSplits("named by flags", None, named)
        raise DatasetError(
            f"--dataset_file {dataset_file} needs --data_path DIR (or DETR's --coco_path), the folder with "
            f"{_looked_for(FOLDER_LAYOUTS[dataset_file])}; or name the parts with {NAMING_FLAGS}"
        )
    root = Path(data_path)
    annotations_root = Path(annotations_path or data_path)
    layout, splits = _recognise(root, annotations_root, FOLDER_LAYOUTS[dataset_file])
    if layout is None and not named:
        # With one split named, the other may be left out (--eval needs val only); `split` says so where it is needed.
        raise DatasetError(_unknown(annotations_root, dataset_file))
    name = ", ".join(([layout.name] if layout else []) + (["named by flags"] if named else []))
    # What the user named wins over what was found.
    return DatasetSplits(name, root, splits | named, layout)


def _named_splits(parts: Mapping[str, tuple[str | Path | None, str | Path | None]]) -> dict[str, Split]:
    splits = {}
    for name, (images, annotations) in parts.items():
        # An annotation file alone does not say where its images are, and a guess would train on others of the same
        # names.
        if bool(images) != bool(annotations):
            given, lacking = ("images", "annotations") if images else ("annotations", "images")
            raise DatasetError(f"--{name}_{given} needs --{name}_{lacking} too: a split is named by both")
        if images and annotations:
            splits[name] = Split(Path(images), Path(annotations))
    return splits


def _recognise(
    root: Path, annotations_root: Path, layouts: Iterable[FolderLayout]
) -> tuple[FolderLayout | None, dict[str, Split]]:
    for layout in layouts:
        splits = layout.find(root, annotations_root)
        if splits:
            return layout, splits
    return None, {}


def _unknown(root: Path, dataset_file: str) -> str:
    """Describe what is wrong with a folder in which nothing was recognised."""
    looked_for = _looked_for(FOLDER_LAYOUTS[dataset_file])
    if not root.is_dir():
        return f"{root}: no such folder; --data_path is the folder with {looked_for}"
    # Named coco or hgp, and something else that we read: say which.
    other, _ = _recognise(root, root, FOLDER_LAYOUTS["custom"])
    hint = f"; it looks like {other.name}: --dataset_file custom reads that" if other else how_to_convert(root)
    return f"{root}: looked for {looked_for} and found none{hint}; or name the parts with {NAMING_FLAGS}"


def _looked_for(layouts: Iterable[FolderLayout]) -> str:
    return ", ".join(layout.looked_for() for layout in layouts)
