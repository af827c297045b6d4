"""The batch that costs and memory are counted for: its shape after scales, crops and padding, and its objects."""

import argparse
import math
import random
from statistics import fmean

import datasets
from datasets.geometry import resized_shape
from datasets.sizes import ImageSizes
from run_data import Data

#: Batches whose shapes are drawn.
BATCHES = 64
#: Height and width of a file whose annotations do not tell: COCO's usual.
UNKNOWN = (480, 640)


def typical_objects(data: Data) -> int:
    """Objects of a training image in the mean, at least 1."""
    counts = datasets.unwrap(data.val if data.train is None else data.train).object_counts()
    return max(1, round(float(counts.mean()))) if len(counts) else 1


def typical_size(cfg: argparse.Namespace, data: Data) -> tuple[int, int]:
    """Height and width of a training batch: of as many pixels as batches have in the mean, padding included.

    Shapes of some batches are drawn as the augmentation draws them, by a generator of their own; no image is opened.
    """
    if cfg.pad:
        height, width = cfg.pad_size or datasets.DEFAULT_PAD_SIZE
        return height, width
    if cfg.dataset_file == "shapes":
        return cfg.image_size, cfg.image_size
    dataset = datasets.unwrap(data.val if data.train is None else data.train)
    generator = random.Random(0)  # its own: the run's random numbers stay where they are
    chosen = [generator.randrange(len(dataset)) for _ in range(BATCHES * cfg.batch_size)]
    files = [dataset.get_height_and_width(index) or UNKNOWN for index in chosen]
    if cfg.aspect_grouping:  # batches are made of images of like shape: neighbours are alike
        files.sort(key=lambda size: size[1] / size[0])
    images = [drawn_size(cfg, *file, generator) for file in files]
    batches = [images[i : i + cfg.batch_size] for i in range(0, len(images), cfg.batch_size)]
    # A batch is as high as the highest and as wide as the widest of its images.
    heights = [max(height for height, _ in batch) for batch in batches]
    widths = [max(width for _, width in batch) for batch in batches]
    pixels = fmean(height * width for height, width in zip(heights, widths))
    # Of the mean pixels, in the proportion of the mean sides.
    aspect = fmean(widths) / fmean(heights)
    multiple = cfg.pad_multiple or 1
    height, width = (
        math.ceil(side / multiple) * multiple for side in (math.sqrt(pixels / aspect), math.sqrt(pixels * aspect))
    )
    return height, width


def drawn_size(cfg: argparse.Namespace, height: int, width: int, generator: random.Random) -> tuple[int, int]:
    """Draw height and width of a training image of a file of this height and width, as its transforms would."""
    sizes = ImageSizes(
        image_size=cfg.image_size,
        max_size=cfg.max_size,
        train_scales=cfg.train_scales,
        crop_resize=cfg.crop_resize,
        crop_size=cfg.crop_size,
    )
    if cfg.scale_jitter is not None or cfg.overfit:  # the canvas is that of the evaluation
        return resized_shape(width, height, sizes.shorter, sizes.limit)
    if generator.random() < cfg.crop_probability:
        if cfg.crop_sides is None:
            height, width = resized_shape(width, height, generator.choice(sizes.first_scales))
            least, most = sizes.crop
            sides = [generator.randint(min(least, side, most), min(side, most)) for side in (height, width)]
        else:
            sides = [max(1, round(side * generator.uniform(*cfg.crop_sides))) for side in (height, width)]
        height, width = sides
    return resized_shape(width, height, generator.choice(sizes.scales), sizes.limit)
