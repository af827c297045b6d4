"""The convolutional backbone: a torchvision network without its classifier, its norms frozen as in DETR.

State-dict keys are those of the original: `backbone.0.body.<torchvision's name>`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from util.dist.precision import in_autocast, wide_dtype
from util.errors import CheckpointError, DownloadError, UserError
from util.nested_tensor import NestedTensor

from .fast.folded_norm import FrozenBatchNorm2d, fold_frozen_norms
from .fast.padding import PaddingEraser

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


class Backbone(nn.Module):
    """A torchvision network up to its last feature map (stride 32, or 16 with `dilation`).

    Args:
        name: one of `BACKBONES`.
        train_backbone: False freezes every layer. True trains all but the first stages (stem and layer1), which
            stay at their ImageNet values as in DETR; with trainable norms every layer trains.
        return_interm_layers: also return strides 4, 8 and 16, for the mask head.
        dilation: keep the last stage at stride 16 and dilate its convolutions instead (DC5).
        norm: `frozen` (DETR's FrozenBatchNorm2d) or `batch` (nn.BatchNorm2d, to train from scratch).
        channels_last: lay feature maps out with the channels of a pixel side by side, which suits convolutions on CPUs and
            in half precision; None: there, but not for a few small images on a CPU. Parameters stay as they are.
        padding_invariant: features and masks of an image are those it has without padding (see `models.fast.padding`).

    Raises UserError for an unknown name, or `dilation` on a network that has none.
    """

    def __init__(
        self,
        *,
        name: str,
        train_backbone: bool = True,
        return_interm_layers: bool = False,
        dilation: bool = False,
        norm: str = "frozen",
        channels_last: bool | None = None,
        padding_invariant: bool = False,
    ) -> None:
        super().__init__()
        body = _torchvision_network(name, dilation=dilation, norm=norm)
        for parameter_name, parameter in body.named_parameters():
            trains = train_backbone and (norm == "batch" or not _in_first_stages(name, parameter_name))
            parameter.requires_grad_(trains)
        fold_frozen_norms(body)
        self.body = IntermediateLayerGetter(body, _layers(name, return_interm_layers))
        self.padding = PaddingEraser(self.body, flag=f"--backbone {name}") if padding_invariant else None
        self.channels_last = channels_last
        self.name = name
        self.num_channels = _num_channels(name)

    def forward(self, samples: NestedTensor) -> dict[str, NestedTensor]:
        """Feature maps by name ("0" is the first asked for), each with its padding mask (B, h, w)."""
        images = samples.tensors
        if self.channels_last or (self.channels_last is None and _prefers_channels_last(images)):
            images = images.contiguous(memory_format=torch.channels_last)
        if self.padding is not None:
            return self.padding.run(self.body, NestedTensor(images, samples.mask))
        return {
            name: NestedTensor(features, resize_mask(samples.mask, features.shape[-2:]))
            for name, features in self.body(images).items()
        }


def _prefers_channels_last(images: Tensor) -> bool:
    if images.device.type == "cpu":
        return images.numel() // images.shape[1] >= FEW_PIXELS
    return images.is_cuda and in_autocast(images.device)


def resize_mask(mask: Tensor, size: torch.Size) -> Tensor:
    """Padding mask (B, H, W) at a feature map's size: nearest by floor indexing, as `F.interpolate` does."""
    return F.interpolate(mask[None].float(), size=size).to(torch.bool)[0]


def _torchvision_network(name: str, *, dilation: bool, norm: str) -> nn.Module:
    if name not in BACKBONES:
        raise UserError(f"--backbone {name} is not known; choose one of: {', '.join(BACKBONES)}")
    if dilation and (name in BASIC_BLOCK or name == "mobilenet_v2"):
        raise UserError(f"--dilation does not work with --backbone {name}; it needs one of: {', '.join(RESNETS[2:])}")
    norm_layer = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}[norm]
    stages = {"replace_stride_with_dilation": [False, False, dilation]} if name in RESNETS else {}
    return getattr(torchvision.models, name)(weights=None, norm_layer=norm_layer, **stages)


def _layers(name: str, intermediate: bool) -> dict[str, str]:
    """Which layers to return, by the name torchvision gives them, and the names they get."""
    if name == "mobilenet_v2":
        if intermediate:
            raise UserError("--masks needs the feature maps of a ResNet; --backbone mobilenet_v2 offers only its last")
        return {"features": "0"}
    return {f"layer{i + 1}": str(i) for i in range(4)} if intermediate else {"layer4": "0"}


def _in_first_stages(name: str, parameter: str) -> bool:
    """Whether a parameter lies in the stages of stride 2 and 4, which DETR never trains."""
    if name == "mobilenet_v2":
        return int(parameter.split(".")[1]) <= 3 if parameter.startswith("features.") else True
    return not parameter.startswith(("layer2", "layer3", "layer4"))


def _num_channels(name: str) -> int:
    return 512 if name in BASIC_BLOCK else 1280 if name == "mobilenet_v2" else 2048


class Joiner(nn.Sequential):
    """Backbone, then position encoding: what the transformer needs of a batch of images."""

    def __init__(self, backbone: Backbone, position_embedding: nn.Module) -> None:
        super().__init__(backbone, position_embedding)
        self.num_channels = backbone.num_channels

    def forward(self, samples: NestedTensor) -> tuple[list[NestedTensor], list[Tensor]]:
        """Feature maps (B, C, h, w), finest first, and the encoding (B, D, h, w) of the last: no other is looked at."""
        features = list(self[0](samples).values())
        return features, [self[1](features[-1]).to(wide_dtype(features[-1].tensors))]


def load_backbone_weights(backbone: Backbone, source: str) -> None:
    """Fill a backbone with `imagenet` weights (downloaded on first use), a file's, or `none`: leave it random.

    Batch norm counters and the classifier in a file are ignored; anything else missing or left over is a CheckpointError.
    """
    if source == "none":
        return
    if source != "imagenet":
        _fill(backbone, _weights_of_file(source), source)
        return
    try:
        load_imagenet_weights(backbone)
    except DownloadError as error:
        file = torchvision.models.get_model_weights(backbone.name).IMAGENET1K_V1.url.rpartition("/")[2]
        raise DownloadError(
            f"{error}: give --backbone_weights FILE with them ({file}), or --backbone_weights none to train from scratch"
        ) from error


def load_imagenet_weights(backbone: Backbone) -> None:
    """Fill a backbone with torchvision's IMAGENET1K_V1 weights, the ones DETR was trained from, downloaded on first use.

    Raises DownloadError when they cannot be.
    """
    weights = torchvision.models.get_model_weights(backbone.name).IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        raise DownloadError(f"cannot download the ImageNet weights of {backbone.name} ({error})") from error
    _fill(backbone, state, "imagenet")


def _fill(backbone: Backbone, state: dict[str, Tensor], source: str) -> None:
    """Load the weights of a torchvision network; `source` is for the message when they are those of another."""
    own = backbone.body.state_dict()
    state = {k: v.float() for k, v in state.items() if k in own or not k.startswith(("fc.", "classifier."))}
    state = {k: v for k, v in state.items() if k in own or not k.endswith("num_batches_tracked")}
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    odd = sorted((own.keys() - counters.keys()) ^ (state.keys() - counters.keys()))
    odd += sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if odd:
        raise CheckpointError(
            f"--backbone_weights {source} does not fit --backbone {backbone.name}: {len(odd)} tensors differ, first {odd[0]}"
        )
    backbone.body.load_state_dict(counters | state)


def _weights_of_file(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise CheckpointError(f"--backbone_weights {path}: no such file (or write imagenet or none)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a broken file; all mean the same to the user
        raise CheckpointError(f"--backbone_weights {path} is not a file of weights ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"--backbone_weights {path} is not a state dict of tensors")
    return state
