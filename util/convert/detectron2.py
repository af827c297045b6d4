"""Detectron2: names and class rows of the weights in the wrapper of d2/, and the settings that fit them.

Detectron2 numbers classes from 0 in the order of their ids, while a label of ours is the id itself. Its ResNets have
stages `res2` to `res5`, and each norm inside its convolution.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..coco_classes import COCO_NAMES, COCO_PANOPTIC_NAMES, DETECTION_COUNT, PANOPTIC_COUNT
from ..errors import CheckpointError, UserError
from ..runs.checkpoint import load_checkpoint, save_checkpoint
from ..runs.class_names import NEVER, class_count, known_names, label_order
from .variants import refuse_variants

#: Key of a converted file: `count` classes of the model it came from, and the `ids` of those that were kept.
ROWS = "class_rows"
OUR_BODY, THEIR_BODY = "backbone.0.body.", "backbone.0.backbone."
#: What is kept beside the weights: plain values about classes and architecture, nothing of the optimizer.
KEPT = ("args", "class_names", "category_ids", ROWS)
#: Settings of configs/detr_256_6_6_torchvision.yaml by name: what a model may differ in.
USUAL: dict[str, Any] = {
    "MODEL.MASK_ON": False,
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.DETR.NUM_CLASSES": 80,
    "MODEL.DETR.NHEADS": 8,
    "MODEL.DETR.DIM_FEEDFORWARD": 2048,
    "MODEL.DETR.ENC_LAYERS": 6,
    "MODEL.DETR.DEC_LAYERS": 6,
    "MODEL.DETR.PRE_NORM": False,
    "MODEL.DETR.HIDDEN_DIM": 256,
    "MODEL.DETR.NUM_OBJECT_QUERIES": 100,
}


def convert(
    source: Path, output: Path, *, back: bool, architecture: Callable[[Mapping[str, Any], Path], dict[str, Any]]
) -> list[str]:
    """Write a checkpoint with the wrapper's names, or, with `back` or from a wrapper's file, one with ours.

    Args:
        architecture: gives the flags of a checkpoint's model by name.

    Returns:
        lines on what was done, and the settings with which the wrapper takes the file.

    Raises:
        UserError: a model that the wrapper does not have.
        CheckpointError: a file that is neither a DETR's nor a wrapper's.
    """
    checkpoint = load_checkpoint(source)
    # The names tell the direction; only a backbone without that part has to be told.
    if back or any(THEIR_BODY in name for name in checkpoint["model"]):
        found, line = from_wrapper(checkpoint, source)
        architecture(found, output)  # refuses weights that are not a whole DETR
        lines = [line]
    else:
        flags = architecture(checkpoint, source)
        settings, notes = settings_of(flags, source)
        found, line = to_wrapper(checkpoint, source)
        # After the rows were chosen: the wrapper counts its own classes, without "no object".
        settings["MODEL.DETR.NUM_CLASSES"] = class_count(found)
        differing = [f"{name} {value}" for name, value in settings.items() if value != USUAL[name]]
        lines = [line, *notes, f"settings beside MODEL.WEIGHTS: {' '.join(differing) or 'those of the config file'}"]
    save_checkpoint(output, found)
    return [*lines, f"{output}: {len(found['model'])} tensors"]


def to_wrapper(checkpoint: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint with the wrapper's names and one class row for each class, and a line on the classes."""
    weights = _without_prefix(checkpoint["model"], "module.")
    kept = {key: checkpoint[key] for key in KEPT if key in checkpoint}
    count, names = class_count(checkpoint), known_names(checkpoint)[0]
    if count is None:
        raise CheckpointError(f"{path}: it has no class head")
    ids, line = None, f"{count} classes stay as they are"
    # A dense class head (--dense_labels) numbers its classes as Detectron2 does.
    if names and label_order(checkpoint) is None:
        ids = sorted(names)
        if ids[0] < 0 or ids[-1] >= count:
            raise CheckpointError(f"{path}: it names class {ids[-1]} but has {count} classes")
        kept[ROWS] = {"count": count, "ids": ids}
        line = f"class head: {len(ids)} of {count} rows kept, those of ids with a name, and the one for no object"
    model = {}
    for name, value in weights.items():
        if ids is not None and "class_embed." in name:
            value = value[[*ids, count]]  # (C+1, ...) to (K+1, ...)
        model[wrapper_name(name)] = value
    return kept | {"model": model}, line


def from_wrapper(checkpoint: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint with our names and class rows by category id, and a line on the classes.

    Where the file does not say its ids, 80 classes are COCO's things, and 133 its panoptic classes; others stay.
    """
    # The wrapper's criterion and pixel means are no weights of the model.
    weights = {n: v for n, v in _without_prefix(checkpoint["model"], "module.").items() if n.startswith("detr.")}
    if not weights or class_count({"model": weights}) is None:
        raise CheckpointError(f"{path}: not a file of the Detectron2 wrapper: it has no class head under detr.")
    # Without ROWS: it says how rows were taken out, and here they are put back.
    kept = {key: checkpoint[key] for key in KEPT if key in checkpoint and key != ROWS}
    count = class_count({"model": weights})
    rows = _rows_of(checkpoint, count or 0)
    line = f"{count} classes stay as they are"
    if rows is not None:
        line = f"class head: {count} classes to rows of {rows[0]} ids"
    model = {}
    for name, value in weights.items():
        if rows is not None and "class_embed." in name:
            # (K+1, ...) to (C+1, ...).
            value = _spread(value, *rows)
        model[our_name(name)] = value
    return kept | {"model": model}, line


def wrapper_name(name: str) -> str:
    """Return the name of one of our weights in the wrapper.

    `backbone.0.body.bn1.bias` is `detr.backbone.0.backbone.stem.conv1.norm.bias` there. In a model with masks both have
    one `detr.` more.
    """
    start, body, inner = name.partition(OUR_BODY)
    if body:
        inner = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", inner)
        # What is in no stage, the first convolution and its norm, is Detectron2's stem.
        inner = inner if inner.startswith("res") else f"stem.{inner}"
        # Stages first, norms second: `layer1.0.bn2` to `res2.0.conv2.norm`.
        inner = re.sub(r"\bbn(\d)", r"conv\1.norm", inner)
        inner = inner.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        name = f"{start}{THEIR_BODY}{inner}"
    return f"detr.{name}"


def our_name(name: str) -> str:
    """Return our name of one of the wrapper's weights: the inverse of `wrapper_name`."""
    start, body, inner = name.removeprefix("detr.").partition(THEIR_BODY)
    if not body:
        return start
    inner = re.sub(r"^res(\d)", lambda found: f"layer{int(found[1]) - 1}", inner.removeprefix("stem."))
    # The longer one first, or its beginning would be replaced.
    inner = inner.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    return f"{start}{OUR_BODY}" + re.sub(r"conv(\d)\.norm", r"bn\1", inner)


def settings_of(flags: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return Detectron2's settings for a model of these flags, and notes on what will differ.

    Raises UserError for a backbone, map, encoding or variant that the wrapper does not have.
    """
    refuse_variants(flags, str(path), "d2/")
    # resnet50, wide_resnet50_2, resnext50_32x4d: depth, number of groups, width of a group.
    network = re.fullmatch(r"(?:wide_)?resne(?:x)?t(\d+)(?:_(\d+)x(\d+)d|_2)?", flags["backbone"])
    if network is None:
        raise UserError(f"{path}: --backbone {flags['backbone']} is not among Detectron2's; d2/ has ResNets")
    if flags["backbone_norm"] == "group":
        raise UserError(f"{path}: --backbone_norm group: d2/ has batch norms only")
    if flags["feature_map"] != "c5":
        raise UserError(f"{path}: --feature_map {flags['feature_map']}: d2/ has the backbone's last map")
    if flags["position_embedding"] not in ("sine", "v2"):
        raise UserError(f"{path}: d2/ has sine encodings, not --position_embedding {flags['position_embedding']}")
    depth = int(network[1])
    trained = flags["backbone_norm"] == "batch"
    settings = {
        "MODEL.MASK_ON": flags["masks"],
        "MODEL.BACKBONE.FREEZE_AT": 0 if trained else 2,
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NORM": "BN" if trained else "FrozenBN",
        "MODEL.RESNETS.NUM_GROUPS": int(network[2] or 1),
        "MODEL.RESNETS.WIDTH_PER_GROUP": 128 if flags["backbone"].startswith("wide") else int(network[3] or 64),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if depth < 50 else 256,  # basic blocks do not widen
        "MODEL.RESNETS.RES5_DILATION": 2 if flags["dilation"] else 1,
        "MODEL.DETR.NUM_OBJECT_QUERIES": flags["num_queries"],
    }
    plain = ("NHEADS", "DIM_FEEDFORWARD", "ENC_LAYERS", "DEC_LAYERS", "PRE_NORM", "HIDDEN_DIM")
    settings |= {f"MODEL.DETR.{name}": flags[name.lower()] for name in plain}
    notes = []
    if flags["dilation"]:
        notes.append("note: Detectron2 dilates the first block of res5 too, which DC5 does not: results will differ")
    if flags["padding_invariant"]:
        notes.append("note: beside padding results will differ: d2/ does not know --padding_invariant")
    return settings, notes


def _rows_of(checkpoint: Mapping[str, Any], count: int) -> tuple[int, Sequence[int]] | None:
    """Class count of ours and category ids of a wrapper's classes, None where rows stay."""
    rows = checkpoint.get(ROWS)
    if isinstance(rows, Mapping) and len(rows.get("ids", ())) == count:
        return rows["count"], rows["ids"]
    # 80 names in 91 rows: published detectors; 133 in 250: published panoptic ones.
    known = {len(COCO_NAMES): (DETECTION_COUNT, sorted(COCO_NAMES))}
    known[len(COCO_PANOPTIC_NAMES)] = (PANOPTIC_COUNT, sorted(COCO_PANOPTIC_NAMES))
    return known.get(count) if label_order(checkpoint) is None else None


def _spread(value: Tensor, count: int, ids: Sequence[int]) -> Tensor:
    """Class rows (K+1, ...) at the places of their ids among `count`; ids between them are never found."""
    # A weight of 0 and this bias: no softmax feels such a class.
    rows = value.new_full((count + 1, *value.shape[1:]), NEVER if value.dim() == 1 else 0.0)
    # The last row on either side is "no object".
    rows[[*ids, count]] = value
    return rows


def _without_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items()}
