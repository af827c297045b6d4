"""Names of weights: ours, which are those of DETR's files, and those of Hugging Face's published DETR files.

Transformers 5 calls some of its modules otherwise, but reads and writes these names.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

#: Modules as (ours, theirs); {} is a number.
Pairs = list[tuple[str, str]]

_BODY, _MODEL = "backbone.0.body", "model.backbone.conv_encoder.model"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_ENDS = {"in_proj_weight": "weight", "in_proj_bias": "bias"}


def _attention(ours: str, theirs: str) -> Pairs:
    return [(f"{ours}.{part}", f"{theirs}.{part}") for part in (*_PROJECTIONS, "out_proj")]


_ENCODER: Pairs = [
    *_attention("self_attn", "self_attn"),
    ("norm1", "self_attn_layer_norm"),
    ("linear1", "fc1"),
    ("linear2", "fc2"),
    ("norm2", "final_layer_norm"),
]
_DECODER: Pairs = [
    *_attention("self_attn", "self_attn"),
    *_attention("multihead_attn", "encoder_attn"),
    ("norm1", "self_attn_layer_norm"),
    ("norm2", "encoder_attn_layer_norm"),
    ("linear1", "fc1"),
    ("linear2", "fc2"),
    ("norm3", "final_layer_norm"),
]
#: The transformer and the heads. The first name of two equal ones is written, both are read: transformers 4 had the
#: learned positions inside of the backbone, and Table Transformer has them there still.
_DETECTOR: Pairs = [
    *((f"transformer.encoder.layers.{{}}.{a}", f"model.encoder.layers.{{}}.{b}") for a, b in _ENCODER),
    *((f"transformer.decoder.layers.{{}}.{a}", f"model.decoder.layers.{{}}.{b}") for a, b in _DECODER),
    ("transformer.encoder.norm", "model.encoder.layernorm"),
    ("transformer.decoder.norm", "model.decoder.layernorm"),
    ("input_proj", "model.input_projection"),
    ("query_embed", "model.query_position_embeddings"),
    ("class_embed", "class_labels_classifier"),
    ("bbox_embed.layers.{}", "bbox_predictor.layers.{}"),
]
_POSITIONS: dict[str, Pairs] = {
    place: [(f"backbone.1.{a}_embed", f"model.{place}.{b}_embeddings") for a, b in (("row", "row"), ("col", "column"))]
    for place in ("position_embedding", "backbone.position_embedding")
}
#: The mask head has DETR's names in both.
_MASKS: Pairs = [
    (name, name) for name in ("mask_head.lay{}", "mask_head.gn{}", "mask_head.adapter{}", "mask_head.out_lay")
] + [(f"bbox_attention.{part}_linear",) * 2 for part in "qk"]


def _resnet() -> Pairs:
    """A ResNet of transformers, which numbers stages and convolutions from 0."""
    pairs = []
    for kind, theirs in (("conv", "convolution"), ("bn", "normalization")):
        pairs.append((f"{kind}1", f"embedder.embedder.{theirs}"))
        for stage in range(4):
            block = f"layer{stage + 1}.{{}}", f"encoder.stages.{stage}.layers.{{}}"
            pairs += [(f"{block[0]}.{kind}{i + 1}", f"{block[1]}.layer.{i}.{theirs}") for i in range(3)]
            number = 0 if kind == "conv" else 1
            pairs.append((f"{block[0]}.downsample.{number}", f"{block[1]}.shortcut.{theirs}"))
    return [(f"{_BODY}.{a}", f"{_MODEL}.{b}") for a, b in pairs]


#: A ResNet of timm has torchvision's names, as ours.
_TIMM: Pairs = [
    (f"{_BODY}.{name}", f"{_MODEL}.{name}")
    for name in ("conv1", "bn1", "layer{}.{}.conv{}", "layer{}.{}.bn{}", "layer{}.{}.downsample.{}")
]


class Renaming:
    """The names of one kind of file.

    Args:
        timm: the backbone is timm's, not transformers' own.
        masks: the detector lies inside of a segmentation model.
        table: the file is one of Table Transformer.
    """

    def __init__(self, *, timm: bool, masks: bool, table: bool) -> None:
        # The first rule that fits a name writes it.
        places = ("backbone.position_embedding", "position_embedding")
        positions = [pair for place in (places if table else places[::-1]) for pair in _POSITIONS[place]]
        pairs = [*(_TIMM if timm else _resnet()), *_DETECTOR, *positions]
        if masks:
            pairs = [(f"detr.{a}", f"detr.{b}") for a, b in pairs] + _MASKS
        # {} in a name is a number: the pattern reads it, the other side's template takes it.
        self._there = [(_pattern(a), b) for a, b in pairs]
        self._back = [(_pattern(b), a) for a, b in pairs]

    def there(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return our weights under their names, and the names that nothing corresponds to."""
        apart: dict[str, Tensor] = {}
        for name, value in weights.items():
            module, _, end = name.rpartition(".")
            if end in _ENDS:  # (3D, D): queries, keys and values of all heads, one below the other
                parts = zip(_PROJECTIONS, value.chunk(3))
                apart |= {f"{module}.{part}.{_ENDS[end]}": chunk for part, chunk in parts}
            # Frozen BatchNorms, which DETR has on both sides, count no batches.
            elif end != "num_batches_tracked":
                apart[name] = value
        return _renamed(apart, self._there)

    def back(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return their weights under our names, and the names that nothing corresponds to."""
        counted = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
        apart, unknown = _renamed(counted, self._back)
        result: dict[str, Tensor] = {}
        for name, value in apart.items():
            module, _, end = name.rpartition(".")
            owner, _, part = module.rpartition(".")
            if part not in _PROJECTIONS:
                result[name] = value
                continue
            names = [f"{owner}.{projection}.{end}" for projection in _PROJECTIONS]
            # Part of an attention's projections is no weight of ours.
            if not all(other in apart for other in names):
                unknown.append(name)
            # Once for the three, at the first: (D, D) each, (3D, D) together.
            elif part == _PROJECTIONS[0]:
                result[f"{owner}.in_proj_{end}"] = torch.cat([apart[other] for other in names])
        return result, unknown


def _pattern(template: str) -> re.Pattern[str]:
    """A pattern for the parameters of a module: its numbers are groups, and the parameter's own name is the last."""
    return re.compile(re.escape(template).replace(re.escape("{}"), r"(\d+)") + r"(\.\w+)")


def _renamed(
    weights: Mapping[str, Tensor], rules: Iterable[tuple[re.Pattern[str], str]]
) -> tuple[dict[str, Tensor], list[str]]:
    result, unknown = {}, []
    for name, value in weights.items():
        # fullmatch: `norm1` must not take the weights of a module whose name begins alike.
        found = next(((m, target) for pattern, target in rules if (m := pattern.fullmatch(name))), None)
        if found is None:
            unknown.append(name)
            continue
        *numbers, end = found[0].groups()
        result[found[1].format(*numbers) + end] = value
    return result, unknown
