"""A sheet of training images as the model sees them: after augmentation, with boxes, masks and class names."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from PIL import Image
from torch.utils.data import DataLoader

from building import Setup
from datasets.loader import set_epoch
from util.box_ops import box_cxcywh_to_xyxy
from util.dist.device import seed_everything
from util.draw.boxes import GRID_TILE, draw_detections
from util.draw.sheets import contact_sheet
from util.nested_tensor import NestedTensor
from util.targets import Target, object_count

#: Images in a row of the sheet.
COLUMNS = 4


def save_augmented(run: Setup, loader: DataLoader, *, epoch: int) -> None:
    """Write augmented.png with the first --save_augmented images of an epoch; without the flag, do nothing.

    They come from the loader itself, in its order and with its random numbers. Training draws none less for it: every
    epoch seeds all generators anew.
    """
    count, folder = run.cfg.save_augmented, run.folder
    if not count or folder is None:
        return
    set_epoch(loader, epoch)
    # The numbers that the epoch itself starts from: the sheet shows the very images of its first steps.
    seed_everything(run.cfg.seed, rank=run.place.launch.rank, epoch=epoch)
    tiles: list[tuple[Image.Image, str]] = []
    for images, targets in loader:
        tiles += draw_batch(images, targets, run.data.class_names)
        if len(tiles) >= count:
            break
    tiles = tiles[:count]
    path = folder / "augmented.png"
    title = f"{len(tiles)} training images of epoch {epoch} as the model sees them"
    contact_sheet(tiles, columns=COLUMNS, path=path, title=title)
    print(f"{path}: {title}")


def draw_batch(
    images: NestedTensor, targets: Sequence[Target], class_names: Mapping[int, str]
) -> Iterator[tuple[Image.Image, str]]:
    """Yield each image (3, H, W) uint8 of a batch, without its padding, with its objects, and a caption."""
    for pixels, target in zip(images.tensors, targets, strict=True):
        height, width = target["size"].tolist()
        count = object_count(target)  # lists may be padded, too
        # Relative to the image without its padding, and so scaled by its own size: (n, 4) xyxy in pixels.
        boxes = box_cxcywh_to_xyxy(target["boxes"][:count]) * torch.tensor([width, height, width, height])
        masks = target["masks"][:count].numpy() if "masks" in target else None
        # (3, H, W) on the padded canvas -> (h, w, 3); contiguous, because Pillow reads the buffer as it lies in memory.
        image = Image.fromarray(pixels[:, :height, :width].permute(1, 2, 0).contiguous().numpy())
        drawn = draw_detections(
            image,
            boxes,
            target["labels"][:count],
            masks=masks,
            class_names=class_names,
            longer_side=GRID_TILE,
        )
        yield drawn, f"image id {int(target['image_id'])}, {width} x {height}, objects: {count}"
