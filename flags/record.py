"""Flags of what a run leaves beside its results."""

import argparse


def add_record_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of further files of a run."""
    group.add_argument(
        "--log_gpu",
        action="store_true",
        help="write utilisation, memory and power of the GPU to gpu.csv in --output_dir, a row a second (NVML)",
    )
    group.add_argument(
        "--metrics_file",
        default=None,
        metavar="FILE",
        help="write AP table, times, peak memory, distinct input shapes and recompiles to this JSON file, anew after "
        "every epoch and evaluation",
    )


def add_more_evaluation_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of many checkpoints, and of a part of an evaluation."""
    group.add_argument(
        "--eval_checkpoints",
        default=None,
        metavar="GLOB",
        help="evaluate each checkpoint of a quoted pattern: AP over the epochs as table, CSV and plot in --output_dir; "
        "what is known from an earlier call is not evaluated again",
    )
    group.add_argument(
        "--max_inf_frames",
        default=0,
        type=int,
        metavar="N",
        help="evaluate on the first N images alone; 0: all (%(default)s)",
    )
    # For timing and profiling, and where another job evaluates the checkpoints.
    group.add_argument("--train_only", action="store_true", help="train without evaluations: no AP and no best.pth")
    group.add_argument(
        "--save_images",
        default=None,
        metavar="DIR",
        help="write every evaluated image with its detections to this folder, after --eval or the last epoch",
    )
    group.add_argument(
        # For pictures alone. AP needs the detections of every score.
        "--threshold",
        default=0.5,
        type=float,
        metavar="X",
        help="--save_images: least score of a detection that is drawn (%(default)s)",
    )
    group.add_argument(
        # DETR's own files with a number come before each drop of the learning rate and every 100 epochs.
        "--ckpt_store_interval_epochs",
        default=0,
        type=int,
        metavar="N",
        help="keep a checkpoint####.pth after every N epochs, too; 0: DETR's alone (%(default)s)",
    )
