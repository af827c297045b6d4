"""torchvision's networks by name: which there are, and where each is cut for a map of stride 16."""

import difflib

import torchvision
from torch import nn

from util.errors import UserError

from .layout import Layout, out_channels

#: DETR's own backbones and their relatives: stages `layer1` to `layer4`.
RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
#: Networks of basic blocks: narrow last stage, and torchvision cannot dilate them.
BASIC_BLOCK = ("resnet18", "resnet34")
#: Networks that are a row of `features`, by the beginnings of their names: how many of these make the map of stride 4
#: (as a ResNet's stem and layer1 do), and how many that of stride 16.
ROWS = {
    "mobilenet_v2": (4, 14),
    "mobilenet_v3_large": (4, 13),
    "mobilenet_v3_small": (2, 9),
    "efficientnet_": (3, 6),
    "convnext_": (2, 6),
}
REGNET = "regnet_"
#: Names for --backbone.
BACKBONES = (
    *RESNETS,
    *(n for n in torchvision.models.list_models(module=torchvision.models) if n.startswith((*ROWS, REGNET))),
)
TIMM = "timm:"


def is_timm(name: str) -> bool:
    """True for the name of a network of timm."""
    return name.startswith(TIMM)


def torchvision_network(name: str, *, dilation: bool, feature_map: str) -> tuple[nn.Module, Layout]:
    """Build a network with random weights up to its map of stride 32 (`c5`) or 16 (`c4`), or dilated (DC5).

    Raises UserError for an unknown name, or `dilation` on a network that has none.
    """
    if name not in BACKBONES:
        raise UserError(_unknown(name))
    if dilation and name not in RESNETS[2:]:
        raise UserError(f"--dilation does not work with --backbone {name}; it needs one of: {', '.join(RESNETS[2:])}")
    # DC5: torchvision takes one switch for each of layer2 to layer4.
    more = {"replace_stride_with_dilation": [False, False, dilation]} if name in RESNETS else {}
    module = getattr(torchvision.models, name)(weights=None, **more)
    names = frozenset(module.state_dict())
    stages = 3 if feature_map == "c4" else 4
    if name in RESNETS:
        parts = (("conv1", "bn1"), *((f"layer{number + 1}",) for number in range(stages)))
        # conv1 with bn1, and layer1: the parts of stride 2 and 4.
        frozen, returned = 2, f"layer{stages}"
    elif name.startswith(REGNET):
        module.trunk_output = module.trunk_output[:stages]  # blocks keep their names: block1, block2, ...
        parts = (("stem",), *((f"trunk_output.block{number + 1}",) for number in range(stages)))
        frozen, returned = 2, "trunk_output"
    else:
        # No name begins with two of these.
        frozen, stride_16 = next(counts for start, counts in ROWS.items() if name.startswith(start))
        if feature_map == "c4":
            module.features = module.features[:stride_16]
        parts = tuple((f"features.{number}",) for number in range(len(module.features)))
        returned = "features"
    return module, Layout(parts, frozen, returned, out_channels(module.get_submodule(returned)), names)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, BACKBONES, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else "."
    return (
        f"--backbone {name} is not known{meant} There are torchvision's resnet18 to 152, resnext*, wide_resnet*, "
        f"mobilenet_v2, mobilenet_v3_*, efficientnet_*, convnext_* and regnet_*, and {TIMM}NAME for timm's"
    )
