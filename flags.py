"""The flags of `main.py`, in groups, each with its help: DETR's names and defaults, and what is new here."""

import argparse

from util.choices import AMP_TYPES, SCHEDULES
from util.flags import FlagParser
from util.profiling import SECTIONS


def get_args_parser() -> argparse.ArgumentParser:
    """Return a parser with all flags, in groups, without `--help`: to be used as a parent of a parser that adds it."""
    parser = FlagParser("DETR", add_help=False)
    _add_training_flags(parser.add_argument_group("training"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_loss_flags(parser.add_argument_group("matcher and loss"))
    data = parser.add_argument_group("data")
    _add_data_flags(data)
    _add_image_flags(data)
    _add_run_flags(parser.add_argument_group("run"))
    _add_profiling_flags(parser.add_argument_group("profiling"))
    return parser


def _add_training_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--lr", default=1e-4, type=float, help="learning rate of everything but the backbone (%(default)s)"
    )
    group.add_argument(
        "--lr_backbone", default=1e-5, type=float, help="learning rate of the backbone; 0 freezes it (%(default)s)"
    )
    group.add_argument("--batch_size", default=2, type=int, help="images per process and step (%(default)s)")
    group.add_argument(
        "--accumulate",
        default=1,
        type=int,
        metavar="N",
        help="batches whose gradients add up to one step, as of a batch N times as large (%(default)s)",
    )
    group.add_argument("--weight_decay", default=1e-4, type=float, help="AdamW's, on every parameter (%(default)s)")
    group.add_argument("--epochs", default=300, type=int, help="passes over the training images (%(default)s)")
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
        "--warmup_steps", default=0, type=int, help="steps in which the learning rate rises (0; onecycle: 30 %% of all)"
    )
    group.add_argument(
        "--clip_max_norm", default=0.1, type=float, help="largest norm of the gradient; 0: no limit (%(default)s)"
    )


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backbone", default="resnet50", help="torchvision ResNet or ResNeXt, or mobilenet_v2 (%(default)s)"
    )
    group.add_argument(
        "--backbone_weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="what the backbone starts from; never read when a whole checkpoint is given (%(default)s)",
    )
    group.add_argument(
        "--backbone_norm",
        default="frozen",
        choices=("frozen", "batch"),
        help="frozen batch norms and first stages as in DETR, or all trainable, to train from scratch (%(default)s)",
    )
    group.add_argument("--dilation", action="store_true", help="dilate the last stage instead of its stride (DC5)")
    group.add_argument(
        "--padding_invariant",
        action="store_true",
        help="detect the same in an image whatever batch it is in: convolutions never see padding (off: as DETR)",
    )
    group.add_argument(
        "--position_embedding", default="sine", choices=("sine", "learned"), help="position encoding (%(default)s)"
    )
    group.add_argument("--enc_layers", default=6, type=int, help="encoder layers (%(default)s)")
    group.add_argument("--dec_layers", default=6, type=int, help="decoder layers (%(default)s)")
    group.add_argument(
        "--dim_feedforward", default=2048, type=int, help="width inside the feed-forward networks (%(default)s)"
    )
    group.add_argument("--hidden_dim", default=256, type=int, help="width of the transformer (%(default)s)")
    group.add_argument("--dropout", default=0.1, type=float, help="dropout in the transformer (%(default)s)")
    group.add_argument("--nheads", default=8, type=int, help="heads of every attention (%(default)s)")
    group.add_argument(
        "--num_queries", default=100, type=int, help="object queries: the most objects an image can have (%(default)s)"
    )
    group.add_argument("--pre_norm", action="store_true", help="layer norms before each block instead of after it")
    group.add_argument(
        "--num_classes", default=None, type=int, help="classes (default: the annotations' largest category id + 1)"
    )
    group.add_argument("--masks", action="store_true", help="train and evaluate masks too: adds DETR's mask head")
    group.add_argument(
        "--frozen_weights",
        default=None,
        metavar="FILE",
        help="with --masks: a checkpoint to take the detector from; it is frozen, the mask head alone trains",
    )
    group.add_argument(
        "--mask_chunk",
        default=32,
        type=int,
        metavar="N",
        help="masks computed at a time: less memory for fewer, the same numbers; 0: no limit (%(default)s)",
    )
    group.add_argument(
        "--original_panoptic",
        action="store_true",
        help="merge masks to panoptic images with the original DETR's faults, to repeat its numbers",
    )
    group.add_argument(
        "--queries",
        default="learned",
        choices=("learned", "dab", "encoder"),
        help="what a query is: a learned position as in DETR; a learned box that every decoder layer refines; or a box "
        "that a cell of the encoder proposes (%(default)s)",
    )
    group.add_argument(
        "--focal", action="store_true", help="classes as sigmoids under the focal loss, instead of a softmax over them"
    )
    group.add_argument(
        "--local_attention",
        action="store_true",
        help="from the second decoder layer on, a query sees the cells inside its box alone",
    )
    group.add_argument(
        "--print_shapes",
        action="store_true",
        help="print the shape of everything that passes through the model of these flags, and end; no data is read",
    )


def _add_loss_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--no_aux_loss", dest="aux_loss", action="store_false", help="no losses on the earlier decoder layers"
    )
    group.add_argument(
        "--set_cost_class", default=1, type=float, help="matcher: weight of the class probability (%(default)s)"
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
        "--eos_coef", default=0.1, type=float, help="loss: weight of the class 'no object' (%(default)s)"
    )


def _add_data_flags(group: argparse._ArgumentGroup) -> None:
    add_place_flags(group, dataset_file="coco")
    group.add_argument(
        "--no_check",
        dest="check",
        action="store_false",
        help="do not look at the data before the run (python -m datasets.check looks at all of it)",
    )
    group.add_argument(
        "--dense_labels",
        action="store_true",
        help="labels 0, 1, ... instead of the category ids: a small class head where ids are far apart; results are "
        "written with the file's ids, and a checkpoint remembers it",
    )
    group.add_argument(
        "--remove_difficult", action="store_true", help="accepted for old scripts; COCO has no difficult objects"
    )
    group.add_argument("--train_size", default=4000, type=int, help="shapes: training images (%(default)s)")
    group.add_argument("--val_size", default=200, type=int, help="shapes: validation images (%(default)s)")
    group.add_argument(
        "--fast_dev_run",
        default=1.0,
        type=float,
        metavar="FRACTION",
        help="use this random part of the images (1.0: all)",
    )
    group.add_argument("--num_workers", default=2, type=int, help="processes that load images (%(default)s)")


def _add_image_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image_size",
        default=800,
        type=int,
        help="short side in evaluation, and the largest in training (%(default)s)",
    )
    group.add_argument(
        "--max_size", default=None, type=int, help="long side at most (1333, in proportion to --image_size)"
    )
    group.add_argument(
        "--train_scales",
        default=None,
        type=int,
        nargs="+",
        help="short sides in training (480 512 ... 800, in proportion)",
    )
    group.add_argument(
        "--crop_resize",
        default=None,
        type=int,
        nargs="+",
        help="short sides before a random crop (400 500 600, in proportion)",
    )
    group.add_argument(
        "--crop_size",
        default=None,
        type=int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="sides of the crop (384 600, in proportion)",
    )
    group.add_argument(
        "--fast_resize",
        action="store_true",
        help="training images by PyTorch's resize instead of Pillow's: faster, few pixels differ, by 1 of 255",
    )
    group.add_argument("--pad", action="store_true", help="every image on one canvas: a single input shape")
    group.add_argument(
        "--pad_size",
        default=None,
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of that canvas (1333 1333)",
    )
    group.add_argument(
        "--pad_multiple",
        default=1,
        type=int,
        metavar="N",
        help="round the canvas of a batch up to a multiple of N: fewer input shapes (%(default)s)",
    )
    group.add_argument(
        "--aspect_grouping", action="store_true", help="training batches of images of like shape: less padding"
    )
    group.add_argument(
        "--num_buckets",
        default=0,
        type=int,
        metavar="N",
        help="pad lists of objects to N lengths, percentiles of the training set's; 0: none (%(default)s)",
    )


def add_place_flags(group: argparse._ActionsContainer, *, dataset_file: str | None) -> None:
    """Add the flags that say which data it is and where it lies; `dataset_file` is the first's in DETR's scripts."""
    group.add_argument(
        "--dataset_file",
        default=dataset_file,
        metavar="NAME",
        help="coco, coco_panoptic, hgp, cppe5, custom (your own, in any of the layouts), or shapes: drawn on "
        "the fly (what the folder looks like; coco for COCO's layout)",
    )
    group.add_argument(
        "--data_path",
        default=None,
        metavar="DIR",
        help="folder of the data: its layout is recognised (COCO, Roboflow, CPPE-5, HGP, or images and "
        "annotations/train.json, val.json); for hgp by default ./HGP",
    )
    group.add_argument("--coco_path", default=None, metavar="DIR", help="DETR's name of --data_path")
    group.add_argument(
        "--coco_panoptic_path",
        default=None,
        metavar="DIR",
        help="coco_panoptic: folder of the panoptic annotations (that of --data_path)",
    )
    group.add_argument(
        "--max_pixels",
        default=None,
        type=int,
        metavar="N",
        help="read images of up to N pixels (PIL's limit of 178,956,970, against small files that unpack to huge ones)",
    )
    for split, called in (("train", "training"), ("val", "validation")):
        group.add_argument(
            f"--{split}_images",
            default=None,
            metavar="DIR",
            help=f"folder of the {called} images, for a layout of your own",
        )
        group.add_argument(
            f"--{split}_annotations", default=None, metavar="FILE", help=f"COCO annotation file of the {called} images"
        )


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output_dir", default="", help="folder for checkpoints, logs and images; none: nothing is saved"
    )
    group.add_argument("--device", default="cuda", help="cuda or cpu (%(default)s; cpu where there is no GPU)")
    group.add_argument(
        "--amp",
        default="off",
        choices=AMP_TYPES,
        help="half precision in the model, with float32 weights, matcher and losses (%(default)s); fp16 needs a GPU",
    )
    group.add_argument(
        "--tf32", action="store_true", help="on a GPU: float32 matrix products in TF32, rounded to 10 bits"
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
    group.add_argument("--seed", default=42, type=int, help="of everything random (%(default)s)")
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="the same run twice gives the same weights, bit by bit, on a GPU too; slower",
    )
    group.add_argument(
        "--resume",
        default="",
        help="go on from a checkpoint: a file, an https address, or auto: the newest in --output_dir",
    )
    group.add_argument("--init_from", default="", help="start a new run from what fits of a checkpoint's weights")
    group.add_argument(
        "--match_classes",
        action="store_true",
        help="--resume, --frozen_weights: classes by their names where the checkpoint's ids are not those of the data",
    )
    group.add_argument("--start_epoch", default=0, type=int, help="first epoch; --resume sets it")
    group.add_argument("--eval", action="store_true", help="evaluate once and stop; writes predictions.json")
    group.add_argument(
        "--report",
        action="store_true",
        help="--eval: also write report/index.html, a page with curves, errors and images, and report.json",
    )
    group.add_argument(
        "--max_dets",
        default=100,
        type=int,
        help="detections of a class in an image that AP and AR count, COCO's maxDets (%(default)s)",
    )
    group.add_argument("--print_freq", default=10, type=int, help="steps between two lines of the log (%(default)s)")
    group.add_argument(
        "--world_size", default=1, type=int, help="accepted for old scripts; the launcher says how many processes"
    )
    group.add_argument("--dist_url", default="env://", help="where processes meet (%(default)s)")


def _add_profiling_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--section",
        default=None,
        choices=SECTIONS,
        help="open the profiler's capture window around this part of a step only, then end the run: for ncu "
        "--profile-from-start off and nsys --capture-range=cudaProfilerApi",
    )
    group.add_argument(
        "--profile_warmup",
        default=10,
        type=int,
        metavar="N",
        help="steps before the capture window, the trace or the timing begins (%(default)s)",
    )
    group.add_argument(
        "--profile_steps",
        default=3,
        type=int,
        metavar="N",
        help="steps with a capture window, or in the trace (%(default)s)",
    )
    group.add_argument(
        "--profile_continue", action="store_true", help="go on with the run after the capture window or the trace"
    )
    group.add_argument(
        "--timing",
        action="store_true",
        help="time each phase of the steps after the warm-up: a table, and timing.json in --output_dir",
    )
    group.add_argument(
        "--torch_profile",
        default=None,
        metavar="DIR",
        help="write torch.profiler's trace of --profile_steps steps to this folder, then end the run",
    )
    group.add_argument(
        "--count_costs",
        default=None,
        metavar="FILE",
        help="count FLOPs and bytes of one step after --profile_warmup others, operator by operator, without "
        "counters; write FILE (.csv or .parquet) for postprocess.py, then end the run",
    )
