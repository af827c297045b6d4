"""Flags for the first hours with new data: sensible settings, does it learn at all, and at which learning rate."""

import argparse


def add_start_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flag that chooses others, and those that try a few steps and end the run."""
    group.add_argument(
        "--preset",
        default=None,
        choices=("auto",),
        help="auto: look at data and machine, choose image size, model, batch, epochs, learning rates and more, and "
        "say why; a flag that was typed wins",
    )
    group.add_argument(
        # A model that cannot learn a few images by heart has wrong labels, boxes or rates: found in minutes, not in
        # days.
        "--overfit",
        default=0,
        type=int,
        metavar="N",
        help="train and evaluate on the same N training images, without augmentation, for a hundred seconds or "
        "--max_steps; say if data, labels and model can learn at all, and end; 0: off (%(default)s)",
    )
    group.add_argument(
        # The loss falls, stays and then blows up: the rate to take lies well below that.
        "--lr_find",
        action="store_true",
        help="raise the learning rate from step to step until the loss blows up, suggest one (a picture in "
        "--output_dir), and end; 150 steps, fewer where these take over a minute and a half, or --max_steps",
    )
