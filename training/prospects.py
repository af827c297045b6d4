"""One line before a run that will most likely find nothing: plain DETR, few images, nothing to start from."""

import argparse

import datasets
from run_data import Data
from settings import Weights

#: Below so many training images a plain DETR that starts without a trained detector is warned about.
FEW_IMAGES = 5000


def warn_of_few_images(cfg: argparse.Namespace, data: Data, weights: Weights) -> str | None:
    """Return the line for a training run that cannot be expected to work, None for any other.

    A run on a part of the images (--fast_dev_run) is judged by all of them: it is there to try things out. So is
    `shapes`, whose images are made as many and as easy as one likes, and so is --overfit.
    """
    if data.train is None or cfg.overfit or cfg.dataset_file == "shapes" or cfg.queries != "learned" or weights.paths:
        return None
    # `unwrap`: of --fast_dev_run 0.01 on COCO nobody wants to hear that 1,182 images are few.
    images = len(datasets.unwrap(data.train))
    if images >= FEW_IMAGES:
        return None
    return (
        f"warning: plain DETR on {images:,} images without a trained detector to start from will find next to nothing "
        "for thousands of steps (on COCO it takes 118,000 images and 300 epochs). For few images: --queries encoder "
        "--focal --local_attention --feature_map c4, or --init_from a trained detector; --preset auto chooses for you"
    )
