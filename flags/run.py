"""Flags of the run: device, number type, checkpoints, evaluation."""

import argparse

from util.choices import AMP_TYPES
from util.environment import PrintEnvironment

from .processes import add_process_flags


def add_run_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of output, device and checkpoints."""
    group.add_argument(
        # SUPPRESS: not a flag of the run, so it must not appear among those that a checkpoint keeps.
        "--env",
        action=PrintEnvironment,
        nargs=0,
        default=argparse.SUPPRESS,
        dest=argparse.SUPPRESS,
        help="print versions, driver and devices, and end",
    )
    _add_device_flags(group)
    _add_checkpoint_flags(group)
    _add_evaluation_flags(group)
    add_process_flags(group)


def _add_device_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the folder, the device and the number type."""
    group.add_argument(
        # DETR's default is empty text, not None; its scripts test it for truth.
        "--output_dir",
        default="",
        help="folder for checkpoints, logs and images; none: nothing is saved",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="start anew in an --output_dir that holds a run of other flags or data"
    )
    group.add_argument(
        "--device", default="cuda", help="cuda, mps, xpu, hpu or cpu (%(default)s; cpu where there is no GPU)"
    )
    group.add_argument(
        # Off: DETR trains in float32, and its numbers come with that.
        "--amp",
        default="off",
        choices=AMP_TYPES,
        help="half precision in the model, with float32 weights, matcher and losses (%(default)s); fp16 needs a GPU",
    )
    group.add_argument(
        # SUPPRESS: the default of `amp` is that of --amp alone.
        "--autocast",
        dest="amp",
        action="store_const",
        const="bf16",
        default=argparse.SUPPRESS,
        help="--amp bf16",
    )
    group.add_argument(
        # Off: weights of 8 bits forget small steps.
        "--bf16",
        action="store_true",
        help="weights and activations in bfloat16, boxes and losses in float32; small steps are lost, see --amp bf16",
    )
    group.add_argument(
        # Off: PyTorch lets convolutions round so by itself, but keeps products of matrices in full float32.
        "--tf32",
        action="store_true",
        help="on a GPU: float32 matrix products in TF32, rounded to 10 bits",
    )
    group.add_argument(
        "--channels_last",
        default="auto",
        choices=("auto", "on", "off"),
        help="layout of the backbone's maps, same numbers; auto: on for large batches on the CPU, and with --amp "
        "(%(default)s)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile backbone and transformer layers with torch.compile; the log says how many graphs",
    )
    group.add_argument(
        "--grad_checkpoint",
        action="store_true",
        help="keep only the inputs of layers and compute the rest again: less memory, more time",
    )
    group.add_argument(
        "--memory_snapshot",
        default=None,
        metavar="FILE",
        help="write PyTorch's record of a GPU's memory at the end, also where that is used up",
    )
    group.add_argument(
        "--warmup_worst_case",
        action="store_true",
        help="before the first epoch try the largest batch that the flags and the data can give; the run is the same",
    )
    # DETR's; each process adds its rank.
    group.add_argument("--seed", default=42, type=int, help="of everything random (%(default)s)")
    group.add_argument(
        # Not the default: some kernels have only slow deterministic forms.
        "--deterministic",
        action="store_true",
        help="the same run twice gives the same weights, bit by bit, on a GPU too; slower",
    )


def _add_checkpoint_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of checkpoints to read and to write."""
    group.add_argument(
        "--resume",
        default="",
        help="go on from a checkpoint: a file, an https address, a run's folder (its newest), or auto: that of "
        "--output_dir",
    )
    group.add_argument(
        "--on_nan",
        default="stop",
        choices=("stop", "skip", "rollback"),
        help="a loss or gradient that is not finite ends the run; or its step is left out; or weights and optimizer "
        "go back to the last good read, three times at most (%(default)s)",
    )
    group.add_argument(
        "--checkpoint_every",
        default=None,
        metavar="N",
        help="also save within an epoch, every N steps or, as in 10m, minutes; resuming goes on after the very step",
    )
    group.add_argument("--init_from", default="", help="start a new run from what fits of a checkpoint's weights")
    group.add_argument(
        # Names may be spelt in other ways: by default a checkpoint's ids must be those of the data.
        "--match_classes",
        action="store_true",
        help="--resume, --frozen_weights: classes by their names where the checkpoint's ids are not those of the data",
    )
    group.add_argument("--start_epoch", default=0, type=int, help="first epoch; --resume sets it")


def _add_evaluation_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of an evaluation and of the log."""
    group.add_argument(
        "--eval", "--inference_only", action="store_true", help="evaluate once and stop; writes predictions.json"
    )
    group.add_argument(
        "--split",
        default="val",
        choices=("val", "test"),
        help="--eval: the validation images, or the test images where the data has such (%(default)s)",
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="--eval: also write report/index.html, a page with curves, errors and images, and report.json",
    )
    group.add_argument(
        "--attention_stats",
        action="store_true",
        help="--eval: also measure how sparse attention is, and how much of the decoder's lies in the matched boxes",
    )
    group.add_argument(
        # COCO's numbers count the 100 surest detections of a class in an image, and DETR has 100 queries.
        "--max_dets",
        default=100,
        type=int,
        help="detections of a class in an image that AP and AR count, COCO's maxDets (%(default)s)",
    )
    _add_watching_flags(group)
    # DETR's, where it is a constant of the engine.
    group.add_argument("--print_freq", default=10, type=int, help="steps between two lines of the log (%(default)s)")


def _add_watching_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of dashboards."""
    group.add_argument(
        "--logger",
        default="jsonl",
        metavar="NAMES",
        help="jsonl (log.txt), tensorboard, wandb: where a training's numbers go; several with commas (%(default)s)",
    )
    group.add_argument(
        "--log_images",
        default=0,
        type=int,
        metavar="N",
        help="draw detections in validation images after every N-th epoch, for the loggers and in --output_dir",
    )
    group.add_argument("--wandb_group", default=None, metavar="NAME", help="--logger wandb: runs that belong together")
    group.add_argument(
        "--wandb_id",
        default=None,
        metavar="ID",
        help="--logger wandb: go on with this run; --resume does so by itself, by the id in --output_dir",
    )
