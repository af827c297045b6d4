"""The convolutional backbone: a torchvision network without its classifier, its norms frozen as in DETR.

State-dict keys are those of the original: `backbone.0.body.<torchvision's name>`.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from util.dist.distributed import is_main_process, print_once
from util.dist.precision import in_autocast, wide_dtype
from util.errors import DownloadError, UserError
from util.nested_tensor import NestedTensor

from .backbone_weights import load_backbone_weights, load_imagenet_weights
from .fast.checkpointing import recompute_stages
from .fast.folded_norm import FrozenBatchNorm2d, fold_frozen_norms
from .fast.padding import PaddingEraser
from .position_encoding import build_position_encoding

#: Names for --backbone. ResNets as in DETR; MobileNetV2 for small machines.
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
BACKBONES = (*RESNETS, "mobilenet_v2")
#: Pixels of a batch from which channels side by side pay on a CPU: below, most time goes into laying out weights.
FEW_PIXELS = 2**18
#: Networks of basic blocks: narrow last stage, and torchvision cannot dilate them.
BASIC_BLOCK = ("resnet18", "resnet34")
#: Which map of a backbone is used: that of its last stage (stride 32), or the one before (stride 16).
FEATURE_MAPS = ("c5", "c4")
#: Blocks of MobileNetV2 up to its last of stride 16, which has 96 channels.
MOBILENET_C4 = 14


class BackboneBase(nn.Module):
    """A network with stages `layer1` to `layer4`, up to the last of them or with the maps of all.

    Args:
        backbone: the network, for example a ResNet; its later layers are dropped.
        train_backbone: False freezes every layer. True trains all but the first stages (stem and layer1), which
            stay at their ImageNet values as in DETR.
        num_channels: of the last feature map.
        return_interm_layers: also return strides 4, 8 and 16, for the mask head.
        channels_last: lay feature maps out with the channels of a pixel side by side, which suits convolutions on
            CPUs and in half precision; None: there, but not for a few small images on a CPU. Parameters stay.
    """

    def __init__(
        self,
        backbone: nn.Module,
        train_backbone: bool,
        num_channels: int,
        return_interm_layers: bool,
        *,
        channels_last: bool | None = None,
    ) -> None:
        super().__init__()
        for name, parameter in backbone.named_parameters():
            # Before the getter drops the later layers, so names are torchvision's own.
            if not (train_backbone and self.is_trained(name)):
                parameter.requires_grad_(False)
        self.body = IntermediateLayerGetter(backbone, self.layers_returned(return_interm_layers))
        self.num_channels = num_channels
        self.channels_last = channels_last
        self.padding: PaddingEraser | None = None

    def is_trained(self, parameter: str) -> bool:
        """True for parameters after the stages of stride 2 and 4, which DETR never trains."""
        return parameter.startswith(("layer2", "layer3", "layer4"))

    def layers_returned(self, intermediate: bool) -> dict[str, str]:
        """Layers to return, by torchvision's names, and the names they get."""
        return {f"layer{i + 1}": str(i) for i in range(4)} if intermediate else {"layer4": "0"}  # strides 4, 8, 16, 32

    def forward(self, samples: NestedTensor) -> dict[str, NestedTensor]:
        """Feature maps by name ("0" is the first asked for), each with its padding mask (B, h, w)."""
        images = samples.tensors
        assert samples.mask is not None, "feature maps get the mask of their images"
        if self.channels_last or (self.channels_last is None and _prefers_channels_last(images)):
            images = images.contiguous(memory_format=torch.channels_last)
        if self.padding is not None:
            return self.padding.run(self.body, NestedTensor(images, samples.mask))
        return {
            name: NestedTensor(features, resize_mask(samples.mask, features.shape[-2:]))
            for name, features in self.body(images).items()
        }

    def recompute_stages(self) -> bool:
        """Have blocks keep only their inputs for the backward pass; False where they cannot be run twice.

        Batch norms that train count a batch twice, and `padding` knows its masks only in the forward pass.
        """
        counts = any(isinstance(module, nn.BatchNorm2d) for module in self.body.modules())
        return self.padding is None and not counts and recompute_stages(self.body) > 0


class Backbone(BackboneBase):
    """A torchvision network up to its last feature map (stride 32, or 16 with `dilation` or without its last stage).

    Args:
        name: one of `BACKBONES`.
        train_backbone, return_interm_layers: as in `BackboneBase`; with trainable norms every layer trains.
        dilation: keep the last stage at stride 16 and dilate its convolutions instead (DC5).
        feature_map: `c5`, or `c4`: leave the last stage away, parameters included; the map has stride 16.
        norm: `frozen` (DETR's FrozenBatchNorm2d) or `batch` (nn.BatchNorm2d, to train from scratch).
        weights: what `load_backbone_weights` takes; `imagenet` as in DETR, in the first of several processes, but a
            backbone whose weights cannot be downloaded starts random, with a printed line.
        channels_last: as in `BackboneBase`.
        padding_invariant: features and masks of an image are those it has without padding (see `models.fast.padding`).

    Attributes:
        left_away: names of the network's weights that the body does not have: those of the classifier, and of the
            last stage where that is left away. In a file of weights they are ignored.

    Raises:
        UserError: an unknown name, or `dilation` on a network that has none.
    """

    def __init__(  # noqa: PLR0913 - DETR's signature, and what is new by keyword
        self,
        name: str,
        train_backbone: bool = True,
        return_interm_layers: bool = False,
        dilation: bool = False,
        *,
        norm: str = "frozen",
        feature_map: str = "c5",
        weights: str = "imagenet",
        channels_last: bool | None = None,
        padding_invariant: bool = False,
    ) -> None:
        refuse_feature_map(feature_map, dilation=dilation, masks=return_interm_layers)
        network = _torchvision_network(name, dilation=dilation, norm=norm)
        self.name, self.norm, self.feature_map = name, norm, feature_map
        names = set(network.state_dict())
        if name == "mobilenet_v2" and feature_map == "c4":
            network.features = cast(nn.Sequential, network.features)[:MOBILENET_C4]
        super().__init__(
            network, train_backbone, _num_channels(name, feature_map), return_interm_layers, channels_last=channels_last
        )
        self.left_away = frozenset(names - self.body.state_dict().keys())
        fold_frozen_norms(self.body)
        if padding_invariant:
            self.padding = PaddingEraser(self.body, flag=f"--backbone {name}")
        if weights != "imagenet":
            self.load_weights(weights)
        elif is_main_process():
            load_imagenet_weights_if_possible(self, f"Backbone({name})")

    def load_weights(self, source: str) -> None:
        """Fill the network with weights; source and errors are those of `load_backbone_weights`."""
        load_backbone_weights(self.body, self.name, source, ignored=self.left_away)

    def is_trained(self, parameter: str) -> bool:
        """True for parameters that DETR trains, and for all where norms are trained as well."""
        if self.norm == "batch":
            return True
        if self.name == "mobilenet_v2":
            # Its blocks 0 to 3 are those of stride 2 and 4, like a ResNet's stem and layer1.
            return not parameter.startswith("features.") or int(parameter.split(".")[1]) > 3
        return super().is_trained(parameter)

    def layers_returned(self, intermediate: bool) -> dict[str, str]:
        """Layers to return. Raises UserError for a network that has only one map to return."""
        if self.name != "mobilenet_v2":
            return {"layer3": "0"} if self.feature_map == "c4" else super().layers_returned(intermediate)
        if intermediate:
            raise UserError("--masks needs the feature maps of a ResNet; --backbone mobilenet_v2 offers only its last")
        return {"features": "0"}


class LazyEncodings(Sequence[Tensor]):
    """Position encodings of feature maps, each computed when it is asked for: DETR itself asks for the last only."""

    def __init__(self, encode: nn.Module, features: Sequence[NestedTensor]) -> None:
        self._encode = encode
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        features = self._features[index]
        return self._encode(features).to(wide_dtype(features.tensors))


class Joiner(nn.Sequential):
    """Backbone, then position encoding: what the transformer needs of a batch of images.

    The backbone may be any module that returns a dictionary of batches, with `num_channels` there or set here.
    """

    num_channels: int

    def __init__(self, backbone: nn.Module, position_embedding: nn.Module) -> None:
        super().__init__(backbone, position_embedding)
        if isinstance(channels := getattr(backbone, "num_channels", None), int):
            self.num_channels = channels

    def forward(self, samples: NestedTensor) -> tuple[list[NestedTensor], Sequence[Tensor]]:
        """Feature maps (B, C, h, w), finest first, and as many encodings (B, D, h, w)."""
        features = list(self[0](samples).values())
        return features, LazyEncodings(self[1], features)


def build_backbone(
    args: Any, *, train_backbone: bool | None = None, weights: str | None = None, channels_last: bool | None = None
) -> Joiner:
    """Build backbone and position encoding of an `Architecture`, or of DETR's flags.

    Args:
        args: anything with the attributes; what is new here may be absent.
        train_backbone: by default as `lr_backbone` says, which is above 0 or not.
        weights: what `load_backbone_weights` takes; by default as `backbone_weights` says, or `imagenet`.
        channels_last: as in `Backbone`.
    """
    backbone = Backbone(
        args.backbone,
        args.lr_backbone > 0 if train_backbone is None else train_backbone,
        args.masks,
        args.dilation,
        norm=getattr(args, "backbone_norm", "frozen"),
        feature_map=getattr(args, "feature_map", "c5"),
        weights="none",
        channels_last=channels_last,
        padding_invariant=getattr(args, "padding_invariant", False),
    )
    backbone.load_weights(getattr(args, "backbone_weights", "imagenet") if weights is None else weights)
    return Joiner(backbone, build_position_encoding(args))


def load_imagenet_weights_if_possible(backbone: Backbone, owner: str) -> None:
    """Load torchvision's weights; where they cannot be downloaded leave random ones, and print a line that says so."""
    try:
        load_imagenet_weights(backbone.body, backbone.name, ignored=backbone.left_away)
    except DownloadError as error:
        print_once(f"{owner}: {error}; its backbone starts random as well")


def refuse_feature_map(feature_map: str, *, dilation: bool, masks: bool) -> None:
    """Raise UserError where a model with its last stage left away is asked for something of that stage."""
    if feature_map not in FEATURE_MAPS:
        raise UserError(f"--feature_map {feature_map} is not known; choose one of: {', '.join(FEATURE_MAPS)}")
    if feature_map == "c4" and dilation:
        raise UserError(
            "--dilation dilates the backbone's last stage, and --feature_map c4 leaves it away: both give stride 16, "
            "give one of them"
        )
    if feature_map == "c4" and masks:
        raise UserError("--masks needs the maps of all four stages: leave out --feature_map c4, or --masks")


def _prefers_channels_last(images: Tensor) -> bool:
    # B * H * W. On a GPU channels-last pays for half precision's tensor cores.
    if images.device.type == "cpu":
        return images.numel() // images.shape[1] >= FEW_PIXELS
    return images.is_cuda and in_autocast(images.device)


def resize_mask(mask: Tensor, size: torch.Size) -> Tensor:
    """Padding mask (B, H, W) at a feature map's size: nearest by floor indexing, as `F.interpolate` does.

    In whole numbers, because ONNX Runtime's resizing divides in another order and then picks the cell before.
    """
    rows, columns = (
        torch.arange(cells, device=mask.device) * pixels // cells for cells, pixels in zip(size, mask.shape[-2:])
    )
    return mask[:, rows][:, :, columns]


def _torchvision_network(name: str, *, dilation: bool, norm: str) -> nn.Module:
    if name not in BACKBONES:
        raise UserError(f"--backbone {name} is not known; choose one of: {', '.join(BACKBONES)}")
    if dilation and (name in BASIC_BLOCK or name == "mobilenet_v2"):
        raise UserError(f"--dilation does not work with --backbone {name}; it needs one of: {', '.join(RESNETS[2:])}")
    norm_layer = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}[norm]
    # DC5: torchvision takes one switch for each of layer2 to layer4.
    stages = {"replace_stride_with_dilation": [False, False, dilation]} if name in RESNETS else {}
    return getattr(torchvision.models, name)(weights=None, norm_layer=norm_layer, **stages)


def _num_channels(name: str, feature_map: str) -> int:
    # A bottleneck's last convolution has four times the width: 4 * 512. The stage before is half as wide.
    c5 = 512 if name in BASIC_BLOCK else 2048
    if name == "mobilenet_v2":
        return 96 if feature_map == "c4" else 1280
    return c5 // 2 if feature_map == "c4" else c5
