"""The model that a checkpoint belongs to: read off its weights, the flags of the run that wrote it, and its name."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from util.errors import CheckpointError, UserError
from util.runs.checkpoint import load_model

from .attention_choice import PLACES, attention_differs, is_attention, learned_from
from .backbones.from_torchvision import BACKBONES, ROWS, is_timm
from .config import Architecture, build_detector
from .detector import DETR
from .empty_weights import EmptyWeights
from .segmentation import DETRsegm
from .zoo import published_under

#: Parts of the architecture that may be chosen anew for weights that exist: they do not change their meaning.
FREE = ("backbone_norm", "padding_invariant", "local_attention")
#: Of these weights tell whether they are on, and the run that wrote them with which number.
ON_OR_OFF = ("denoising",)
#: Parts that weights do not show; `nheads` they do where there is a mask head.
UNREADABLE = ("nheads", "dilation")
DEFAULTS = asdict(Architecture())
#: Research switches; a plain DETR's lines do not mention them.
VARIANTS = ("queries", "focal", "local_attention", "feature_map", "groups", "denoising", *PLACES, "topk")

#: ResNets by the blocks of their four stages, the outputs and inputs (of a group) of the first 3x3 convolution after
#: the stem, and True if their blocks are bottlenecks. The first three stages tell them apart: C4 has no fourth.
_RESNETS: dict[tuple[tuple[int, ...], tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), (64, 64), False): "resnet18",
    ((3, 4, 6, 3), (64, 64), False): "resnet34",
    ((3, 4, 6, 3), (64, 64), True): "resnet50",
    ((3, 4, 23, 3), (64, 64), True): "resnet101",
    ((3, 8, 36, 3), (64, 64), True): "resnet152",
    ((3, 4, 6, 3), (128, 4), True): "resnext50_32x4d",
    ((3, 4, 23, 3), (256, 8), True): "resnext101_32x8d",
    ((3, 4, 23, 3), (256, 4), True): "resnext101_64x4d",
    ((3, 4, 6, 3), (128, 128), True): "wide_resnet50_2",
    ((3, 4, 23, 3), (128, 128), True): "wide_resnet101_2",
}


def model_from_checkpoint(
    checkpoint: dict[str, Any], path: str | os.PathLike, *, given: Mapping[str, Any] | None = None
) -> tuple[DETR | DETRsegm, Architecture, str]:
    """Build the model of a checkpoint, with its weights, on the CPU; return also its architecture, and a line on that.

    Arguments are as in `architecture_of`. Raises UserError and CheckpointError as that and `load_model` do.
    """
    architecture, line = architecture_of(checkpoint, path, given=given)
    with EmptyWeights():
        model = build_detector(architecture)
    load_model(model, checkpoint, path)
    return model, architecture, line


def architecture_of(
    checkpoint: Mapping[str, Any], path: str | os.PathLike, *, given: Mapping[str, Any] | None = None
) -> tuple[Architecture, str]:
    """Return the architecture of a checkpoint, and one line that says from where each part of it is known.

    Weights tell most of it. The dilation of the last stage, and without a mask head the number of heads, come from the
    flags that a training run keeps in the file, from the name of a published file, from `given`, or are DETR's.

    Args:
        checkpoint: as `load_checkpoint` returns it.
        path: where it came from, a path or an address.
        given: values of flags that the user chose, by name; others than the architecture's are ignored.

    Raises:
        UserError: a given flag contradicts the file, or no model can be built.
        CheckpointError: the weights are those of no DETR.
    """
    # Flags of training, such as the learning rate, say nothing about the shape and may be anything.
    chosen = {name: value for name, value in (given or {}).items() if name in DEFAULTS}
    sources = _read(checkpoint, path)
    known = {name: value for source in sources.values() for name, value in source.items()}
    contradictions = _contradictions(known, chosen)
    if contradictions:
        raise UserError(
            f"{path}: made with {_spell(known, contradictions)}, but {_spell(chosen, contradictions)} is given; "
            "leave that out: the file says what it needs"
        )
    # The surest last: what the file knows beats DETR's defaults, and `chosen` no longer contradicts it.
    architecture = Architecture(**(DEFAULTS | known | chosen))
    if architecture.hidden_dim % architecture.nheads:
        raise UserError(f"{path}: its width {architecture.hidden_dim} is no multiple of --nheads {architecture.nheads}")
    told = {
        source: {n: v for n, v in flags.items() if chosen.get(n, v) == v and not (n in VARIANTS and v == DEFAULTS[n])}
        for source, flags in sources.items()
    }
    told["chosen"] = {name: value for name, value in chosen.items() if known.get(name) != value}
    told["DETR's; the file cannot tell"] = {n: DEFAULTS[n] for n in UNREADABLE if n not in known | chosen}
    return architecture, _describe(told, path)


def image_size_of(checkpoint: Mapping[str, Any]) -> tuple[int, int | None] | None:
    """Return --image_size and --max_size of the run that wrote a checkpoint; None where the file does not say them."""
    run = checkpoint.get("args")
    run = run if isinstance(run, Mapping) else {}
    size, limit = run.get("image_size"), run.get("max_size")
    # type, because True would pass for a size of 1.
    if type(size) is not int or size < 1:
        return None
    return size, limit


def refuse_other_architecture(
    checkpoint: Mapping[str, Any], path: str | os.PathLike, *, flags: Mapping[str, Any]
) -> None:
    """Raise UserError if a run with these flags, by name, would train another detector than a checkpoint's.

    Class count and mask head are not looked at: `load_model` has more to say about the one, and the other may be left
    or added.
    """
    known = {name: value for source in _read(checkpoint, path).values() for name, value in source.items()}
    different = [name for name in _contradictions(known, flags) if name not in ("num_classes", "masks")]
    if different:
        raise UserError(
            f"{path}: made with {_spell(known, different)}, this run has {_spell(flags, different)}; give the file's "
            f"flags, or --init_from {path} to load what fits"
        )


def _read(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Flags of the architecture that are known, by source, each under the surest source only."""
    run = checkpoint.get("args")
    run = run if isinstance(run, Mapping) else {}
    weights = _from_weights(checkpoint["model"], path, run.get("backbone"))
    flags = {name: run[name] for name in DEFAULTS if name not in weights and _is_usable(run.get(name), DEFAULTS[name])}
    flags = {name: value for name, value in flags.items() if is_attention(name, value)}
    # Weights show that there is denoising, not with how many groups: that number is the run's.
    weights |= {name: run[name] for name in ON_OR_OFF if weights[name] and _is_usable(run.get(name), DEFAULTS[name])}
    published = published_under(path)
    name = {}
    # A file may have been renamed, or be a run's own under a famous name: the name counts where the weights agree.
    if published and all(getattr(published, flag) == weights[flag] for flag in weights if flag != "num_classes"):
        name = {flag: getattr(published, flag) for flag in UNREADABLE if flag not in weights | flags}
    return {"its weights": weights, "the run that wrote it": flags, "its name": name}


def _from_weights(weights: Mapping[str, Tensor], path: str | os.PathLike, backbone: Any) -> dict[str, Any]:
    """Flags that names and shapes of the weights tell. Raises CheckpointError where they are no DETR's.

    Of other networks than ResNets and mobilenet_v2 the weights do not tell the name: `backbone` is the run's.
    """
    # DDP's prefix, and that of the detector inside DETRsegm.
    shapes = {name.removeprefix("module.").removeprefix("detr."): tuple(w.shape) for name, w in weights.items()}
    try:
        # (Q, D): the two sizes that every DETR file tells by one tensor.
        num_queries, hidden_dim = shapes["query_embed.weight"]
        flags: dict[str, Any] = {
            **({} if _only_named(backbone) else _backbone(shapes, path)),
            "backbone_norm": _norm(shapes),
            "position_embedding": "learned" if "backbone.1.row_embed.weight" in shapes else "sine",
            "enc_layers": _count(shapes, "transformer.encoder.layers."),
            "dec_layers": _count(shapes, "transformer.decoder.layers."),
            # (F, D): outputs come first in a linear layer's weight.
            "dim_feedforward": shapes["transformer.decoder.layers.0.linear1.weight"][0],
            "hidden_dim": hidden_dim,
            "num_queries": num_queries,
            "pre_norm": "transformer.encoder.norm.weight" in shapes,
            "num_classes": shapes["class_embed.weight"][0] - 1,  # the last is "no object"
            "masks": "mask_head.lay1.weight" in shapes,
            "queries": _queries(shapes),
            # ((K - 1) * Q, D), absent for one group.
            "groups": 1 + shapes.get("group_queries.weight", (0,))[0] // num_queries,
            "denoising": int("denoising.class_embed.weight" in shapes),
            **learned_from(shapes),
        }
        if flags["masks"]:  # its first layer takes the width and an attention map of each head
            # (out, D + heads, 3, 3)
            flags["nheads"] = shapes["mask_head.lay1.weight"][1] - hidden_dim
        # A mask head of another width gives a head count below 1: not a mask head of ours.
        if min(flags.get("nheads", 1), flags["dec_layers"], flags["num_classes"]) < 1:
            raise ValueError("a part of size 0")
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, KeyError) and any(name.startswith("transformer.decoder.") for name in shapes):
            raise CheckpointError(
                f"{path}: lacks {error.args[0]}, so nothing can go on from it; --init_from {path} starts a new run "
                "from the rest and learns what is missing"
            ) from error
        missing = f": it lacks {error.args[0]}" if isinstance(error, KeyError) else ""
        raise CheckpointError(f"{path}: its weights are not those of a DETR{missing}") from error
    return flags


def _queries(names: Iterable[str]) -> str:
    """Kind of the queries: cells that propose them and boxes that they are have weights of their own."""
    return (
        "encoder" if "proposals.class_embed.weight" in names else "dab" if "anchor_embed.weight" in names else "learned"
    )


def _only_named(backbone: Any) -> bool:
    """True for the name of a backbone that is not told by its weights."""
    return isinstance(backbone, str) and (
        is_timm(backbone) or (backbone in BACKBONES and backbone not in (*_RESNETS.values(), "mobilenet_v2"))
    )


def _norm(names: Iterable[str]) -> str:
    """Kind of the backbone's norms: batch norms count their batches, frozen ones have statistics, group norms neither.

    A network without any of them, as ConvNeXt, is built as with frozen ones.
    """
    body = [name for name in names if name.startswith("backbone.0.body.")]
    if any(name.endswith("num_batches_tracked") for name in body):
        return "batch"
    # ConvNeXt's mark, in torchvision's and in timm's spelling: it has layer norms, which `replace_norms` leaves alone.
    layered = any(name.endswith(("layer_scale", ".gamma")) for name in body)
    return "frozen" if layered or any(name.endswith("running_var") for name in body) else "group"


def _backbone(shapes: Mapping[str, tuple[int, ...]], path: str | os.PathLike) -> dict[str, Any]:
    """Name of the backbone, and which map it makes: c4 where its last stage is not there."""
    body = "backbone.0.body."
    if f"{body}features.18.0.weight" in shapes:
        return {"backbone": "mobilenet_v2", "feature_map": "c5"}
    if f"{body}features.{ROWS['mobilenet_v2'][1] - 1}.conv.0.0.weight" in shapes:
        return {"backbone": "mobilenet_v2", "feature_map": "c4"}
    blocks = tuple(_count(shapes, f"{body}layer{stage}.") for stage in range(1, 5))
    # (out, in / groups, 3, 3): the widths tell ResNeXt and wide ResNets from plain ones.
    first = shapes.get(f"{body}layer1.0.conv2.weight", ())[:2]
    own = (blocks, first, f"{body}layer1.0.conv3.weight" in shapes)
    for key, name in _RESNETS.items():
        if own == key:
            return {"backbone": name, "feature_map": "c5"}
        # C4 ends behind the third stage.
        if own == ((*key[0][:3], 0), *key[1:]):
            return {"backbone": name, "feature_map": "c4"}
    raise CheckpointError(
        f"{path}: its backbone is none of {', '.join(_RESNETS.values())}, mobilenet_v2, and it holds no flags of a run "
        "that name another"
    )


def _count(names: Iterable[str], prefix: str) -> int:
    """Number of numbered parts under a prefix."""
    return len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})


def _is_usable(value: Any, default: Any) -> bool:
    """True if a value in somebody's file can be that of a flag with this default: a switch, or a count."""
    # A file's flags may be of a version or program in which a name means something else.
    # `type`, not isinstance: True is an int, and would pass for a count of 1.
    return type(value) is type(default) and (isinstance(value, (bool, str)) or value >= 1)


def _contradictions(known: Mapping[str, Any], flags: Mapping[str, Any]) -> list[str]:
    # Frozen and trained batch norms have the same values; group norms are something else.
    grouped = "group" in (known.get("backbone_norm"), flags.get("backbone_norm"))

    def differ(name: str) -> bool:
        if name in FREE and not (name == "backbone_norm" and grouped):
            return False
        if name in (*PLACES, "topk"):
            return attention_differs(name, known, flags)
        kind = bool if name in ON_OR_OFF else lambda value: value
        return kind(flags[name]) != kind(known[name])

    return [name for name in DEFAULTS if name in known and name in flags and differ(name)]


def _describe(sources: Mapping[str, Mapping[str, Any]], path: str | os.PathLike) -> str:
    parts = [f"{_spell(flags)} ({source})" for source, flags in sources.items() if flags]
    return f"{path}: {', '.join(parts)}"


def _spell(flags: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
    """Flags as one types them; one that is off is said to be."""

    def spell(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return f"--{name}" if value else f"no --{name}"
        return f"--{name} {value}"

    return " ".join(spell(name, flags[name]) for name in (flags if names is None else names))
