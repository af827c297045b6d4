"""The JSON files of a Hugging Face folder: a model's config and its preprocessing, from our flags and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..nested_tensor import IMAGENET_MEAN, IMAGENET_STD
from .variants import refuse_variants

#: ResNets that transformers has itself: kind of block, blocks of each stage, channels of each stage.
_NARROW, _WIDE = [64, 128, 256, 512], [256, 512, 1024, 2048]
_RESNETS = {
    "resnet18": ("basic", [2, 2, 2, 2], _NARROW),
    "resnet34": ("basic", [3, 4, 6, 3], _NARROW),
    "resnet50": ("bottleneck", [3, 4, 6, 3], _WIDE),
    "resnet101": ("bottleneck", [3, 4, 23, 3], _WIDE),
    "resnet152": ("bottleneck", [3, 8, 36, 3], _WIDE),
}
#: Flags and the fields of a config that hold the same number.
_FIELDS = {
    "enc_layers": ["encoder_layers"],
    "dec_layers": ["decoder_layers"],
    "dim_feedforward": ["encoder_ffn_dim", "decoder_ffn_dim"],
    "hidden_dim": ["d_model"],
    "nheads": ["encoder_attention_heads", "decoder_attention_heads"],
    "num_queries": ["num_queries"],
}
#: Label of a class without a name, as in the published files; transformers itself writes LABEL_0, LABEL_1, ...
NO_NAME = "N/A"
#: What the values of fields must be for a config to be a DETR; a missing field has this value.
_FIXED: dict[str, Any] = {"activation_function": "relu", "num_channels": 3}
_FIXED_RESNET: dict[str, Any] = {
    "hidden_act": "relu",
    "embedding_size": 64,
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}


@dataclass(frozen=True)
class Kind:
    """The class of transformers that computes what a model does.

    Attributes:
        timm: its backbone is timm's: transformers has no ResNet that is dilated, wide, or in groups.
        masks: it has a mask head.
        table: it is Table Transformer, which is a DETR that normalises before each block.
    """

    timm: bool
    masks: bool
    table: bool

    @property
    def class_name(self) -> str:
        """Name of the class."""
        if self.table:
            return "TableTransformerForObjectDetection"
        return "DetrForSegmentation" if self.masks else "DetrForObjectDetection"


def kind_of(flags: Mapping[str, Any], name: str) -> Kind:
    """Return the kind for a model with these flags. Raises UserError where transformers has none; `name` is its file's.

    Args:
        flags: the fields of an `Architecture`.
        name: for messages.
    """
    refuse_variants(flags, name, "Hugging Face")
    if not flags["backbone"].startswith(("resnet", "resnext", "wide_resnet")):
        raise UserError(f"{name}: --backbone {flags['backbone']}: Hugging Face's DETR has no such backbone")
    if flags["backbone_norm"] == "group":
        raise UserError(f"{name}: --backbone_norm group: Hugging Face's DETR has batch norms only")
    if flags["feature_map"] != "c5":
        raise UserError(
            f"{name}: --feature_map {flags['feature_map']}: Hugging Face's DETR has the backbone's last map"
        )
    width, heads = flags["hidden_dim"], flags["nheads"]
    if flags["masks"] and flags["pre_norm"]:
        raise UserError(f"{name}: Hugging Face has no mask head for a model with --pre_norm")
    # Its group norms have 8 groups, or one for each channel where there are fewer; ours 8 or the largest divisor.
    if flags["masks"] and ((width + heads) % 8 or any(n > 8 and n % 8 for n in (width // d for d in (2, 4, 8, 16)))):
        raise UserError(
            f"{name}: Hugging Face's mask head takes no width of {width} with {heads} heads: its group norms need "
            "multiples of 8 channels"
        )
    timm = flags["dilation"] or flags["backbone"] not in _RESNETS
    return Kind(timm=timm, masks=flags["masks"], table=flags["pre_norm"])


def config_from_flags(flags: Mapping[str, Any], kind: Kind, class_names: Mapping[int, str] | None) -> dict[str, Any]:
    """Return the content of config.json; `class_names` by label, None where the model knows none."""
    count = flags["num_classes"]
    if class_names is None:
        # transformers' own words for classes that nobody named.
        labels = {label: f"LABEL_{label}" for label in range(count)}
    else:
        labels = {label: class_names.get(label, NO_NAME) for label in range(count)}
    return {
        "architectures": [kind.class_name],
        "model_type": "table-transformer" if kind.table else "detr",
        **{field: flags[flag] for flag, fields in _FIELDS.items() for field in fields},
        "position_embedding_type": flags["position_embedding"],
        "dilation": flags["dilation"],
        **_FIXED,
        "dropout": flags.get("dropout", 0.1),
        "id2label": {str(label): text for label, text in labels.items()},
        # Labels without a name share one entry here; only the other direction is read.
        "label2id": {text: label for label, text in labels.items()},
        **_backbone(flags, kind),
    }


def _backbone(flags: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    if kind.timm:
        return {"use_timm_backbone": True, "use_pretrained_backbone": False, "backbone": flags["backbone"]}
    block, depths, channels = _RESNETS[flags["backbone"]]
    # The mask head takes maps of all four stages, the detector that of the last.
    stages = [f"stage{i}" for i in (range(1, 5) if kind.masks else [4])]
    config: dict[str, Any] = {
        "model_type": "resnet",
        "num_channels": 3,
        **_FIXED_RESNET,
        "layer_type": block,
        "depths": depths,
        "hidden_sizes": channels,
        "out_features": stages,
    }
    return {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": config}


def preprocessor(image_size: int, max_size: int | None, *, masks: bool) -> dict[str, Any]:
    """Return the content of preprocessor_config.json; no `max_size` is DETR's proportion."""
    # DETR's limit is for a shorter side of 800.
    longest = round(1333 * image_size / 800) if max_size is None else max_size
    return {
        "image_processor_type": "DetrImageProcessor",
        "format": "coco_panoptic" if masks else "coco_detection",
        "do_resize": True,
        "size": {"shortest_edge": image_size, "longest_edge": longest},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "do_pad": True,
    }


def kind_of_config(config: Mapping[str, Any], name: str) -> Kind:
    """Return the kind of a folder's config. Raises UserError where it is no DETR; `name` is the folder's."""
    if config.get("model_type") not in ("detr", "table-transformer"):
        raise UserError(f"{name}: its config.json has model_type {config.get('model_type')!r}, not 'detr'")
    body = config.get("backbone_config") or {}
    table = config["model_type"] == "table-transformer"
    # Files from before transformers had ResNets of its own say neither: their backbone is timm's.
    own = body.get("model_type") == "resnet" or config.get("use_timm_backbone") is False
    # A backbone of timm has no such fields: its name says all.
    for part, fixed in ((config, _FIXED), (body if own else {}, _FIXED_RESNET)):
        for field, value in fixed.items():
            if part.get(field, value) != value:
                raise UserError(f"{name}: its config.json has {field} {part[field]!r}; DETR's is {value!r}")
    for fields in _FIELDS.values():
        if len({config.get(field) for field in fields}) > 1:
            raise UserError(f"{name}: its config.json has unequal {' and '.join(fields)}; DETR's are equal")
    masks = "DetrForSegmentation" in (config.get("architectures") or [])
    return Kind(timm=not own, masks=masks, table=table)


def flags_from_config(config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that weights do not tell, by name; a field that is missing has Hugging Face's default."""
    body = config.get("backbone_config") or {}
    # Two spellings, by the age of the file.
    dilation = bool(config.get("dilation")) or body.get("output_stride") == 16
    flags: dict[str, Any] = {"nheads": config.get("encoder_attention_heads", 8), "dilation": dilation}
    size = preprocessing.get("size")
    if isinstance(size, dict) and type(size.get("shortest_edge")) is int:
        flags |= {"image_size": size["shortest_edge"], "max_size": size.get("longest_edge")}
    elif type(size) is int:  # files of 2021
        flags |= {"image_size": size, "max_size": preprocessing.get("max_size")}
    return flags


def names_from_config(config: Mapping[str, Any]) -> dict[int, str]:
    """Return the class names by label; those that only stand for a missing name are left out."""
    labels = config.get("id2label") or {}
    return {int(id_): text for id_, text in labels.items() if text not in (NO_NAME, f"LABEL_{id_}")}
