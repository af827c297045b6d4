"""COCO panoptic segmentation: every pixel of an image belongs to a segment, a thing (dog) or stuff (sky).

The annotation file lists the segments of each image; a PNG beside it says which pixel is whose. Boxes are those around
the segments' pixels, one pixel smaller than COCO's boxes, as in DETR; crowd segments are trained on, as there.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset

from util.box_ops import masks_to_boxes
from util.errors import DatasetError, ImageError
from util.panoptic_png import decode_segments
from util.targets import Target

from .annotations.cache import PLAIN, Reading, ReadOptions, open_annotations
from .annotations.findings import Findings
from .annotations.panoptic import read_panoptic_file
from .geometry import Example, image_size
from .image_files import by_file_name
from .images import DECODE_ERRORS, load_transformed, one_line, read_image
from .pixels import read_pixels
from .transforms import Transform, make_coco_transforms


class CocoPanoptic(Dataset):
    """The images that `ann_file` lists, in the order of their ids, with the segments of the PNGs in `ann_folder`.

    `ds[i]` is the image and its target after `transforms`, `ds.load(i)` before them. Targets have the keys of
    `CocoDetection`, `masks` (n, H, W) bool with `return_masks`. `is_thing` has each category id, True for things.
    Segments without a single pixel in their PNG are left out. Raises DatasetError for a folder or file that
    is absent, no panoptic annotation file, or contradicts itself; with `num_classes` for a label beyond it.
    `options` are those of reading the instance annotations.
    """

    def __init__(
        self,
        img_folder: str | Path,
        ann_folder: str | Path,
        ann_file: str | Path,
        transforms: Transform | None = None,
        return_masks: bool = True,
        *,
        instances_file: str | Path | None = None,
        num_classes: int | None = None,
        options: ReadOptions = PLAIN,
    ) -> None:
        self.img_folder, self.ann_folder, self.ann_file = Path(img_folder), Path(ann_folder), Path(ann_file)
        # Before the JSON is read, which takes seconds.
        for folder, content in ((self.img_folder, "image"), (self.ann_folder, "panoptic PNG")):
            if not folder.is_dir():
                raise DatasetError(f"{folder}: no such {content} folder (COCO's layout is expected, see --data_path)")
        self.instances_file, self.options = instances_file, options
        self.transforms = transforms
        self.return_masks = return_masks
        data = read_panoptic_file(self.ann_file)
        self.categories = data["categories"]
        categories = sorted(self.categories, key=lambda category: category["id"])
        self.class_names = {category["id"]: str(category.get("name", category["id"])) for category in categories}
        self.is_thing = {category["id"]: bool(category["isthing"]) for category in categories}
        self.num_classes = max(self.class_names) + 1 if num_classes is None else num_classes
        if max(self.class_names) >= self.num_classes:
            raise DatasetError(
                f"{ann_file}: category id {max(self.class_names)} is outside 0..{self.num_classes - 1}; "
                f"--num_classes must be at least {max(self.class_names) + 1}"
            )
        self.images: list[dict[str, Any]] = sorted(data["images"], key=lambda image: image["id"])
        of_image = {annotation["image_id"]: annotation for annotation in data["annotations"]}
        self.annotations: list[dict[str, Any]] = [of_image[image["id"]] for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        return load_transformed(self, index)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the evaluation's ground truth behind: a worker process does not need it."""
        # A cached property lies in __dict__ under its name once it was asked for.
        return {key: value for key, value in self.__dict__.items() if key != "coco"}

    @property
    def listed(self) -> dict[str, Any]:
        """The content of the annotation file, as `read_panoptic_file` returned it; its entries are not copied."""
        return {"images": self.images, "annotations": self.annotations, "categories": self.categories}

    @cached_property
    def coco(self) -> COCO:
        """Ground truth that boxes are judged by: the things of the instance annotations, as in DETR.

        Raises DatasetError where they are not there.
        """
        if self.instances_file is None:
            raise DatasetError(f"{self.ann_file}: judging boxes needs COCO's instances_*.json beside the images")
        return open_annotations(self.instances_file, Reading(), self.options, findings=Findings()).to_coco()

    def image_id(self, index: int) -> int:
        """Return the id, in the annotation file, of image number `index`."""
        return self.images[index]["id"]

    def get_height_and_width(self, index: int) -> tuple[int, int] | None:
        """Return the size of image number `index` as the annotation file gives it, if it does."""
        image = self.images[index]
        return (image["height"], image["width"]) if "height" in image and "width" in image else None

    def labels_of(self, index: int) -> np.ndarray:
        """Return the category ids (k,) of an image's segments; no image is opened."""
        segments = self.annotations[index]["segments_info"]
        return np.array([segment["category_id"] for segment in segments], dtype=np.int64)

    def object_counts(self) -> np.ndarray:
        """Count the segments of each image (n,); no image is opened."""
        return np.array([len(annotation["segments_info"]) for annotation in self.annotations])

    def aspect_ratios(self) -> np.ndarray:
        """Return width / height of each image (n,), by the annotation file, or else by the image itself."""
        sizes = (self.get_height_and_width(i) or self.load(i)[1]["size"].tolist() for i in range(len(self)))
        return np.array([width / height for height, width in sizes])

    def image_path(self, index: int) -> Path:
        """Return the file of image number `index`."""
        return by_file_name(self.img_folder, self.images[index]["file_name"], self.image_id(index))

    def segments_path(self, index: int) -> Path:
        """Return the PNG that holds the segments of image number `index`."""
        return by_file_name(self.ann_folder, self.annotations[index]["file_name"], self.image_id(index))

    def load(self, index: int) -> tuple[Image.Image, Target]:
        """Return the RGB image and its target, boxes `xyxy` in pixels. Raises ImageError when one cannot be read."""
        return self._load(index, read_image)

    def load_pixels(self, index: int) -> tuple[Tensor, Target]:
        """Return what `load` does, the image as a uint8 tensor (3, H, W), which is decoded faster."""
        return self._load(index, read_pixels)

    def _load(self, index: int, read: Callable[..., Any]) -> tuple[Any, Target]:
        image_id = self.image_id(index)
        listed = self.get_height_and_width(index)
        image = read(self.image_path(index), described=f"the image with image id {image_id}", listed=listed)
        owners = read_segments(self.segments_path(index), described=f"the segments of image id {image_id}")
        height, width = image_size(image)
        if owners.shape != (height, width):
            raise ImageError(
                f"{self.segments_path(index)}: its size {owners.shape[1]} x {owners.shape[0]} is not that of "
                f"the image with image id {image_id}, {width} x {height}"
            )
        return image, self._target(image_id, self.annotations[index]["segments_info"], owners)

    def _target(self, image_id: int, segments: list[dict[str, Any]], owners: Tensor) -> Target:
        # (H, W) ids against (n, 1, 1): the masks (n, H, W).
        masks = owners == torch.tensor([segment["id"] for segment in segments], dtype=torch.int64)[:, None, None]
        # A listed segment without a pixel has no box: it is dropped.
        seen = masks.flatten(1).any(1)
        masks, segments = masks[seen], [segment for segment, kept in zip(segments, seen.tolist()) if kept]
        # (2,): height, width
        size = torch.tensor(owners.shape)
        target = {
            "image_id": torch.tensor([image_id]),
            # x1 is the last pixel's column, not the one behind it: DETR's boxes are a pixel smaller than COCO's.
            "boxes": masks_to_boxes(masks),
            "labels": torch.tensor([segment["category_id"] for segment in segments], dtype=torch.int64),
            "area": torch.tensor([segment["area"] for segment in segments], dtype=torch.float32),
            "iscrowd": torch.tensor([segment["iscrowd"] for segment in segments], dtype=torch.int64),
            "orig_size": size,
            "size": size.clone(),
        }
        return target | ({"masks": masks} if self.return_masks else {})


def read_segments(path: Path, *, described: str) -> Tensor:
    """Read the segment id of each pixel (H, W) int64 of a panoptic PNG. Raises ImageError where it cannot be read."""
    try:
        return torch.from_numpy(decode_segments(path))
    except DECODE_ERRORS as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise ImageError(f"{path}: cannot read {described} ({reason})") from None


def build(image_set: str, args: Any) -> CocoPanoptic:
    """Build a split of COCO's layout as the original does: `image_set` "train" or "val", float images.

    Reads `coco_path`, `coco_panoptic_path` and `masks` of the flags. Raises DatasetError as CocoPanoptic does.
    """
    return open_split(
        img_folder=Path(args.coco_path) / f"{image_set}2017",
        ann_file=Path(args.coco_panoptic_path) / "annotations" / f"panoptic_{image_set}2017.json",
        transforms=make_coco_transforms(image_set),
        return_masks=args.masks,
    )


def open_split(
    *,
    img_folder: str | Path,
    ann_file: str | Path,
    transforms: Transform | None = None,
    return_masks: bool = True,
    num_classes: int | None = None,
    options: ReadOptions = PLAIN,
) -> CocoPanoptic:
    """Open the split of an annotation file panoptic_*.json, with the rest of it where COCO has it.

    The PNGs are in a folder of the annotation file's name, beside it (as COCO's archive unpacks) or beside its folder
    (as DETR has it); the instance annotations that boxes are judged by, in annotations/ beside `img_folder`.
    Raises DatasetError as CocoPanoptic does.
    """
    ann_file, img_folder = Path(ann_file), Path(img_folder)
    # DETR's --coco_panoptic_path has panoptic_train2017 beside `annotations`; COCO's archive unpacks it inside.
    folders = (ann_file.parent.parent / ann_file.stem, ann_file.with_suffix(""))
    instances = img_folder.parent / "annotations" / ann_file.name.replace("panoptic_", "instances_")
    return CocoPanoptic(
        img_folder=img_folder,
        ann_folder=next((folder for folder in folders if folder.is_dir()), folders[0]),
        ann_file=ann_file,
        # Without "panoptic_" in its name the replaced name is the file itself, which holds no instances.
        instances_file=instances if instances.is_file() and instances != ann_file else None,
        transforms=transforms,
        return_masks=return_masks,
        num_classes=num_classes,
        options=options,
    )
