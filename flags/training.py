"""Flags of training: learning rate, steps, and what the losses weigh."""

import argparse

from util.choices import SCHEDULES


def add_training_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of learning rate, steps and epochs."""
    group.add_argument(
        # The paper's rates: transformers need small ones, and the pretrained backbone a tenth of that (section A.4).
        "--lr",
        default=1e-4,
        type=float,
        help="learning rate of everything but the backbone (%(default)s)",
    )
    group.add_argument(
        "--lr_backbone", default=1e-5, type=float, help="learning rate of the backbone; 0 freezes it (%(default)s)"
    )
    # Per process: DETR's published command has 8 GPUs, so 16 images a step.
    group.add_argument("--batch_size", default=2, type=int, help="images per process and step (%(default)s)")
    group.add_argument(
        "--eval_batch_size",
        default=None,
        type=int,
        metavar="N",
        help="images per process at a time in evaluations (--batch_size)",
    )
    group.add_argument(
        # With few GPUs, DETR's batch of 16 images in turn.
        "--accumulate",
        default=1,
        type=int,
        metavar="N",
        help="batches whose gradients add up to one step, as of a batch N times as large (%(default)s)",
    )
    group.add_argument("--weight_decay", default=1e-4, type=float, help="AdamW's, on every parameter (%(default)s)")
    group.add_argument(
        # DETR's short schedule: 300 epochs, the rate falls at 200. The best published ones were trained for 500, with a
        # drop at 400.
        "--epochs",
        "--max_epochs",
        default=300,
        type=int,
        help="passes over the training images (%(default)s)",
    )
    group.add_argument(
        "--max_steps", default=0, type=int, help="stop after this many steps, save and evaluate; 0: no limit"
    )
    group.add_argument(
        "--lr_schedule", default="step", choices=SCHEDULES, help="how the learning rate falls (%(default)s)"
    )
    group.add_argument(
        "--lr_drop", default=200, type=int, help="schedule 'step': a tenth after every so many epochs (%(default)s)"
    )
    group.add_argument(
        # DETR has none, with its small rates.
        "--warmup_steps",
        default=0,
        type=int,
        help="steps in which the learning rate rises (0; onecycle: 30 %% of all)",
    )
    group.add_argument(
        # Small against most models: AdamW divides by the gradient's size anyway, and a rare large one must not spoil
        # its mean.
        "--clip_max_norm",
        default=0.1,
        type=float,
        help="largest norm of the gradient; 0: no limit (%(default)s)",
    )
    group.add_argument(
        # None: DETR has none. The average is evaluated beside the weights, so it costs a second evaluation.
        "--ema",
        default=None,
        type=float,
        metavar="DECAY",
        help="also keep and evaluate an average of the weights over the steps, such as 0.999; best.pth is the better",
    )
    group.add_argument(
        # A new head sends large gradients back at first; they would spoil pretrained weights.
        "--freeze_backbone",
        default=0,
        type=int,
        metavar="N",
        help="leave the backbone as it is in the first N epochs (%(default)s)",
    )


def add_length_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say when a run is evaluated, and when it ends before its last epoch."""
    group.add_argument(
        "--eval_every",
        default=1,
        type=int,
        metavar="N",
        help="evaluate after every N epochs and after the last one; a checkpoint is saved after each (%(default)s)",
    )
    group.add_argument(
        "--early_stop",
        default=0,
        type=int,
        metavar="N",
        help="end when the AP has not risen in N evaluations; 0: never (%(default)s)",
    )
    group.add_argument(
        "--max_hours",
        default=None,
        type=float,
        metavar="H",
        help="save and end at the end of a step, H hours after this process began, to be resumed",
    )


def add_loss_flags(group: argparse._ArgumentGroup) -> None:
    """Add the weights of the matcher and of the losses."""
    group.add_argument(
        # On: every decoder layer predicts through the same heads, and early layers learn faster for it.
        "--no_aux_loss",
        dest="aux_loss",
        action="store_false",
        help="no losses on the earlier decoder layers",
    )
    group.add_argument(
        # The same 1 : 5 : 2 as in the loss, so that a pair that is cheap to match is cheap to learn.
        "--set_cost_class",
        default=1,
        type=float,
        help="matcher: weight of the class probability (%(default)s)",
    )
    group.add_argument(
        "--set_cost_bbox", default=5, type=float, help="matcher: weight of the boxes' L1 distance (%(default)s)"
    )
    group.add_argument(
        "--set_cost_giou", default=2, type=float, help="matcher: weight of the boxes' GIoU (%(default)s)"
    )
    group.add_argument(
        "--mask_loss_coef", default=1, type=float, help="loss: weight of the masks' focal loss (%(default)s)"
    )
    group.add_argument(
        "--dice_loss_coef", default=1, type=float, help="loss: weight of the masks' dice loss (%(default)s)"
    )
    group.add_argument(
        "--bbox_loss_coef", default=5, type=float, help="loss: weight of the boxes' L1 distance (%(default)s)"
    )
    group.add_argument("--giou_loss_coef", default=2, type=float, help="loss: weight of the boxes' GIoU (%(default)s)")
    group.add_argument(
        # Of 100 queries some 93 see nothing: with a weight of 1 that class would drown the others.
        "--eos_coef",
        default=0.1,
        type=float,
        help="loss: weight of the class 'no object' (%(default)s)",
    )
