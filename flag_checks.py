"""Flags that cannot work, alone or together: each is refused in one line, before anything is read."""

import argparse
from pathlib import Path

from datasets import augmentation_from_flags
from datasets.annotations.classes import words_of
from datasets.scoring.backends import why_not_hotcoco
from flags.given import given_flags
from util.errors import UserError
from util.loggers.open import JSONL, parse_names
from util.profiling.cost_file import check_cost_file
from util.runs.interval import parse_interval

#: The least value of a flag that counts something.
AT_LEAST = {
    0: (
        *("epochs", "max_steps", "overfit", "warmup_steps", "num_workers", "enc_layers", "num_buckets", "mask_chunk"),
        *(
            "save_augmented",
            "early_stop",
            "freeze_backbone",
            "denoising",
            "log_images",
            "max_inf_frames",
            "ckpt_store_interval_epochs",
        ),
    ),
    10: ("max_dets",),  # COCO's other two recalls are those of 1 and 10 detections
    1: (
        *("batch_size", "accumulate", "lr_drop", "print_freq", "profile_steps", "train_size", "val_size", "eval_every"),
        *("dec_layers", "hidden_dim", "dim_feedforward", "nheads", "num_queries", "image_size", "pad_multiple"),
        *("groups", "topk"),
    ),
}

#: Images of --overfit at most.
MOST_OVERFIT = 100


def check_flags(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UserError."""
    for least, names in AT_LEAST.items():
        for name in names:
            if getattr(args, name) < least:
                raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    # With all costs 0 every matching is as good as any other.
    if args.set_cost_class == args.set_cost_bbox == args.set_cost_giou == 0:
        raise UserError("--set_cost_class, --set_cost_bbox and --set_cost_giou cannot all be 0")
    check_process_flags(args)
    check_training_flags(args)
    check_profiling_flags(args)
    check_checkpoint_flags(args)
    check_record_flags(args)
    check_place_flags(args)
    check_dataset_flags(args)
    check_image_flags(args)
    check_trial_flags(args)
    check_watching_flags(args)
    if args.report and not (args.eval and args.output_dir):
        raise UserError("--report is about an evaluation, and lies in its folder: give --eval and --output_dir too")
    # Now, not after an evaluation of an hour.
    if args.report and (reason := why_not_hotcoco()):
        raise UserError(f"--report needs hotcoco for its numbers: {reason}")
    if args.compile and args.grad_checkpoint:
        raise UserError(
            "--compile chooses itself what to keep for the backward pass, --grad_checkpoint too: give one of them"
        )


def check_process_flags(args: argparse.Namespace) -> None:
    """Refuse flags of several processes that cannot work. Raises UserError."""
    if args.dist_timeout is not None and args.dist_timeout <= 0:
        raise UserError(f"--dist_timeout {args.dist_timeout:g}: must be above 0 seconds")
    if args.bucket_mb is not None and args.bucket_mb <= 0:
        raise UserError(f"--bucket_mb {args.bucket_mb:g}: must be above 0 megabytes")
    # PyTorch plans by the first backward pass; with --accumulate that exchanges nothing, and all processes would wait.
    if args.static_graph and args.accumulate > 1:
        raise UserError(
            f"--static_graph plans the exchange of every batch: it is not for --accumulate {args.accumulate}"
        )


def check_dataset_flags(args: argparse.Namespace) -> None:
    """Refuse flags that are not for the chosen kind of data. Raises UserError."""
    if args.dense_labels and args.dataset_file in ("shapes", "coco_panoptic"):
        why = {"shapes": "its labels are dense", "coco_panoptic": "panoptic images hold the category ids themselves"}
        raise UserError(f"--dense_labels is not for --dataset_file {args.dataset_file}: {why[args.dataset_file]}")
    if args.repeat_factor is not None and not 0 < args.repeat_factor <= 1:
        raise UserError(f"--repeat_factor {args.repeat_factor}: must be a part of the images, above 0 and at most 1")
    if args.classes is not None and args.dataset_file in ("shapes", "coco_panoptic"):
        raise UserError(f"--classes chooses among the classes of an annotation file, not of {args.dataset_file}")
    if args.classes is not None and not words_of(args.classes):
        raise UserError(f"--classes '{args.classes}': names no class; give names or ids, such as --classes cat,dog")
    if args.coco_panoptic_path and args.dataset_file != "coco_panoptic":
        raise UserError(f"--coco_panoptic_path is for --dataset_file coco_panoptic, not {args.dataset_file}")


def check_training_flags(args: argparse.Namespace) -> None:
    """Refuse switches of the training that cannot work. Raises UserError."""
    if args.ema is not None and not 0 < args.ema < 1:
        raise UserError(f"--ema {args.ema}: must be between 0 and 1, such as 0.999; leave it out for no average")
    # Not `<= 0`: NaN compares False with everything, and would pass.
    if args.max_hours is not None and not args.max_hours > 0:
        raise UserError(f"--max_hours {args.max_hours}: must be above 0, such as 0.5; leave it out for no limit")
    if args.eval_batch_size is not None and args.eval_batch_size < 1:
        raise UserError(f"--eval_batch_size {args.eval_batch_size}: must be at least 1")
    if args.split != "val" and not args.eval:
        raise UserError(f"--split {args.split} is for --eval: a training is evaluated on the validation images")


def check_checkpoint_flags(args: argparse.Namespace) -> None:
    """Refuse two sources of the same weights, and checkpoints without a folder. Raises UserError."""
    if args.frozen_weights and args.init_from:
        raise UserError("--frozen_weights and --init_from both bring the detector's weights: give one of them")
    if args.frozen_weights and not (args.masks or args.resume):  # of a checkpoint to resume more is known later
        raise UserError(f"--frozen_weights {args.frozen_weights} is the detector under a mask head: give --masks too")
    if args.resume and args.init_from:
        raise UserError("--resume goes on with a run and --init_from starts a new one: give one of them")
    if args.match_classes and not (args.resume or args.frozen_weights):
        raise UserError("--match_classes is about the classes of a checkpoint: give --resume or --frozen_weights too")
    if parse_interval(args.checkpoint_every) and not args.output_dir:
        raise UserError(f"--checkpoint_every {args.checkpoint_every} saves in --output_dir: give that too")
    if args.resume == "auto" and not args.output_dir:
        raise UserError("--resume auto looks in --output_dir: give that too")


def check_record_flags(args: argparse.Namespace) -> None:
    """Refuse flags of further files and evaluations that cannot work. Raises UserError."""
    if args.eval_checkpoints and not args.output_dir:
        raise UserError("--eval_checkpoints writes its table to --output_dir: give that too")
    if args.eval_checkpoints and args.resume:
        raise UserError("--eval_checkpoints evaluates the files of its pattern, --resume another one: give one of them")
    if args.train_only and (args.eval or args.early_stop):
        raise UserError(f"--train_only leaves out evaluations, {'--eval' if args.eval else '--early_stop'} needs one")
    if args.log_gpu and not args.output_dir:
        raise UserError("--log_gpu writes gpu.csv to --output_dir: give that too")


def check_image_flags(args: argparse.Namespace) -> None:
    """Refuse sizes of images that contradict each other. Raises UserError."""
    if args.fast_resize and args.dataset_file == "shapes":
        raise UserError("--fast_resize is for images that are resized: --dataset_file shapes draws them at their size")
    if args.pad_size is not None:
        canvas = f"--pad_size {' '.join(map(str, args.pad_size))}"
        if not args.pad:
            raise UserError(f"{canvas} is the canvas of --pad: give that too")
        if min(args.pad_size) < 1:
            raise UserError(f"{canvas}: height and width must be at least 1")
    check_augmentation_flags(args)
    if args.pad and args.pad_multiple > 1:
        raise UserError("--pad has one canvas, --pad_multiple rounds that of each batch: give one of them")


def check_augmentation_flags(args: argparse.Namespace) -> None:
    """Refuse augmentation that is out of range, or two of which one would do nothing. Raises UserError."""
    augmentation_from_flags(args)
    given = given_flags(args)
    crops = [f"--{name}" for name in ("crop_probability", "crop_sides") if name in given]
    pixels = [f"--{name}" for name in ("crop_resize", "crop_size") if name in given]
    if args.crop_sides and pixels:
        raise UserError(f"--crop_sides crops in parts of the image and {pixels[0]} in pixels: give one of them")
    scales = [*crops, *pixels, *(["--train_scales"] if args.train_scales else [])]
    if args.scale_jitter and scales:
        raise UserError(f"--scale_jitter scales and crops in place of {scales[0]}: give one of them")
    if crops and args.dataset_file == "shapes":
        raise UserError(f"{crops[0]} is for images that are resized: --dataset_file shapes draws them at their size")
    if args.save_augmented and (args.eval or not args.output_dir):
        raise UserError("--save_augmented writes training images to --output_dir: give that too, and leave out --eval")
    if args.mosaic and args.num_buckets:
        raise UserError(
            "--mosaic has the objects of four images, more than the lengths of --num_buckets: give one of them"
        )


def check_watching_flags(args: argparse.Namespace) -> None:
    """Refuse loggers that are unknown or not installed, or have no folder. Raises UserError."""
    names = parse_names(args.logger)
    for flag in ("wandb_group", "wandb_id"):
        if getattr(args, flag) is not None and "wandb" not in names:
            raise UserError(f"--{flag} is about a run in W&B: give --logger {','.join((*names, 'wandb'))} too")
    if (dashboards := ",".join(name for name in names if name != JSONL)) and not args.output_dir:
        raise UserError(f"--logger {dashboards} writes to --output_dir: give that too")
    if args.attention_stats and args.eval_checkpoints:
        raise UserError("--attention_stats looks at the checkpoint of --resume, not at those of --eval_checkpoints")
    if args.attention_stats and not args.eval:
        raise UserError("--attention_stats looks at a trained model: give --eval too")
    if args.log_images and (args.eval or not args.output_dir):
        raise UserError("--log_images draws in a training, to --output_dir: give that too, and leave out --eval")


def check_trial_flags(args: argparse.Namespace) -> None:
    """Refuse trials together with what they are not. Raises UserError."""
    if args.overfit > MOST_OVERFIT:
        raise UserError(f"--overfit {args.overfit}: at most {MOST_OVERFIT} images, which stay in memory")
    trial = "--overfit" if args.overfit else "--lr_find" if args.lr_find else None
    if args.overfit and args.lr_find:
        raise UserError("--overfit and --lr_find are two trials: give one of them")
    if trial and args.eval:
        raise UserError(f"{trial} trains and --eval does not: give one of them")
    if trial and args.resume:
        raise UserError(f"{trial} keeps nothing and --resume goes on with a run: --init_from {args.resume} starts it")


def check_profiling_flags(args: argparse.Namespace) -> None:
    """Refuse profiling flags that would do nothing. Raises UserError."""
    ends_run = args.section or args.torch_profile or args.count_costs
    if args.eval and (ends_run or args.timing or args.energy or args.module_ranges is not None):
        raise UserError(
            "--section, --timing, --energy, --torch_profile, --count_costs and --module_ranges look at training steps: "
            "--eval has none"
        )
    if args.eval and args.cost_card:
        raise UserError("--cost_card is about a training: leave out --eval")
    if args.module_ranges is not None and args.module_ranges < 1:
        raise UserError(
            f"--module_ranges {args.module_ranges}: must be at least 1; 4 names the parts of a transformer's layers"
        )
    if args.count_costs:
        check_cost_file(args.count_costs)
        if args.timing or args.section or args.torch_profile:
            raise UserError("--count_costs slows its step: run it without --section, --timing and --torch_profile")
    if args.profile_continue and not ends_run:
        raise UserError(
            "--profile_continue is about the end of a capture window, a trace or a count: "
            "give --section, --torch_profile or --count_costs too"
        )


def check_place_flags(args: argparse.Namespace) -> None:
    """Refuse flags that name two places for the data, or no image at all. Raises UserError."""
    if args.max_pixels is not None and args.max_pixels < 1:
        raise UserError(f"--max_pixels {args.max_pixels}: must be at least 1")
    one, other = args.data_path, args.coco_path
    # Scripts may give both, DETR's name and ours, for the same folder.
    if one and other and Path(one).resolve() != Path(other).resolve():
        raise UserError(
            f"--data_path {one} and --coco_path {other} are the same flag with two values: give one of them"
        )
