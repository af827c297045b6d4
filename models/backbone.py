"""The convolutional backbone: a network without its classifier, its norms frozen as in DETR.

State-dict keys are those of the original: `backbone.0.body.<torchvision's name>`. The networks are in `backbones/`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from util.dist.distributed import is_main_process, print_once
from util.dist.precision import in_autocast
from util.errors import DownloadError, UserError
from util.nested_tensor import NestedTensor

from .backbone_weights import load_backbone_weights, load_imagenet_weights
from .backbones.from_timm import load_timm_weights, timm_network
from .backbones.from_torchvision import BACKBONES as BACKBONES  # for scripts that import it from here
from .backbones.from_torchvision import RESNETS as RESNETS
from .backbones.from_torchvision import is_timm, torchvision_network
from .backbones.layout import Layout, refuse_feature_map
from .backbones.norms import replace_norms, statistics_of_group_norms
from .fast.checkpointing import recompute_stages
from .fast.folded_norm import FrozenBatchNorm2d as FrozenBatchNorm2d  # for scripts that import it from here
from .fast.folded_norm import fold_frozen_norms
from .fast.joined_stage import JoinedNetwork, join_stages
from .fast.padding import PaddingEraser
from .joiner import Joiner as Joiner
from .position_encoding import build_position_encoding

#: Pixels of a batch from which channels side by side pay on a CPU: below, most time goes into laying out weights.
FEW_PIXELS = 2**18


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
        self.body = self.make_body(backbone, return_interm_layers)
        self.num_channels = num_channels
        self.channels_last = channels_last
        self.padding: PaddingEraser | None = None

    def is_trained(self, parameter: str) -> bool:
        """True for parameters after the stages of stride 2 and 4, which DETR never trains."""
        return parameter.startswith(("layer2", "layer3", "layer4"))

    def make_body(self, network: nn.Module, intermediate: bool) -> nn.Module:
        """Return what gives the maps by name: that of `layer4`, or with `intermediate` all, of strides 4, 8, 16, 32."""
        # "0" to "3" finest first, but "0" is layer4 where it is alone: the original's names, which hooks of others rely
        # on.
        names = {f"layer{i + 1}": str(i) for i in range(4)} if intermediate else {"layer4": "0"}
        return JoinedNetwork(network, names)

    def forward(self, samples: NestedTensor) -> dict[str, NestedTensor]:
        """Feature maps by name ("0" is the first asked for), each with its padding mask (B, h, w)."""
        images = samples.tensors
        assert samples.mask is not None, "feature maps get the mask of their images"
        if self.channels_last or (self.channels_last is None and _prefers_channels_last(images)):
            images = images.contiguous(memory_format=torch.channels_last)
        if self.padding is not None:
            # Masks come from the eraser here: a cell belongs to the image where the image alone has that cell.
            return self.padding.run(self.body, NestedTensor(images, samples.mask))
        return {
            name: NestedTensor(features, resize_mask(samples.mask, features.shape[-2:]))
            for name, features in self.body(images).items()
        }

    def recompute_stages(self) -> bool:
        """Have blocks keep only their inputs for the backward pass; False where they cannot be run twice.

        Batch norms that train count a batch twice, and `padding` knows its masks only in the forward pass.
        """
        # Exactly what would go wrong unseen: running statistics move at each forward pass, also at the repeated one.
        counts = any(isinstance(module, nn.BatchNorm2d) for module in self.body.modules())
        return self.padding is None and not counts and recompute_stages(self.body) > 0


class Backbone(BackboneBase):
    """A network up to its last feature map (stride 32, or 16 with `dilation` or without its last stage).

    Args:
        name: one of `BACKBONES`, or `timm:` and a name of timm's.
        train_backbone, return_interm_layers: as in `BackboneBase`; with trainable norms every layer trains.
        dilation: keep the last stage at stride 16 and dilate its convolutions instead (DC5).
        norm: `frozen` (DETR's FrozenBatchNorm2d), `batch` (nn.BatchNorm2d, to train from scratch) or `group`
            (nn.GroupNorm: the same where batches are small).
        feature_map: `c5`, or `c4`: leave the last stage away, parameters included; the map has stride 16.
        weights: what `load_backbone_weights` takes; `imagenet` as in DETR, in the first of several processes, but a
            backbone whose weights cannot be downloaded starts random, with a printed line.
        channels_last: as in `BackboneBase`.
        padding_invariant: features and masks of an image are those it has without padding (see `models.fast.padding`).

    Attributes:
        layout: the parts of the network.

    Raises:
        UserError: an unknown name, or something that such a network does not have.
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
        network, layout = _network(name, norm=norm, dilation=dilation, feature_map=feature_map)
        # Before the base class is made, which calls `is_trained` and `make_body`; plain attributes may be set before.
        self.name, self.norm, self.feature_map, self.layout = name, norm, feature_map, layout
        super().__init__(network, train_backbone, layout.channels, return_interm_layers, channels_last=channels_last)
        self._still: list[nn.Module] = []
        # After the parameters' freezing and before weights are loaded: names of the state dict do not change.
        fold_frozen_norms(self.body)
        join_stages(self.body)
        if padding_invariant and is_timm(name):
            raise UserError(
                f"--padding_invariant does not work with --backbone {name}: it is for torchvision's networks"
            )
        if padding_invariant:
            self.padding = PaddingEraser(self.body, flag=f"--backbone {name}")
        if weights != "imagenet":
            self.load_weights(weights)
        # As in the original: the other processes get rank 0's weights when DistributedDataParallel broadcasts them.
        elif is_main_process():
            load_imagenet_weights_if_possible(self, f"Backbone({name})")

    def load_weights(self, source: str) -> None:
        """Fill the network with weights; source and errors are those of `load_backbone_weights`."""
        if self.norm == "group" and source != "none":
            print_once(
                f"--backbone_norm group: --backbone {self.name} starts from the convolutions of {source}, and its "
                "group norms from the scales and shifts of batch norms, whose statistics have no place in it: features "
                "are not those of ImageNet at first"
            )
        if is_timm(self.name) and source != "none":
            load_timm_weights(self.body, self.name, source)
        else:
            load_backbone_weights(self.body, self.name, source, ignored=self.ignored_in_files())

    def ignored_in_files(self) -> frozenset[str]:
        """Names of weights in a file that the body has no place for: of the classifier, and of a stage left away."""
        own = self.body.state_dict().keys()
        return frozenset(self.layout.names - own) | statistics_of_group_norms(self.body)

    def is_trained(self, parameter: str) -> bool:
        """True for parameters that DETR trains, and for all where norms are trained as well."""
        # A network that trains its norms mostly starts without ImageNet's weights: there is nothing to preserve in its
        # stem.
        return self.norm != "frozen" or self.layout.part_of(parameter) >= self.layout.frozen

    def freeze_first(self, count: int) -> None:
        """Keep the first `count` parts at their weights, statistics of batch norms included, and train the others.

        Raises UserError where there are fewer parts.
        """
        total = len(self.layout.parts)
        if count > total:
            raise UserError(
                f"--freeze_layers {count}: --backbone {self.name} has {total} parts: {self.layout.describe_parts()}"
            )
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(self.layout.part_of(name) >= count)
        self._still = [
            module
            for name, module in self.body.named_modules()
            if isinstance(module, nn.BatchNorm2d) and self.layout.part_of(name) < count
        ]
        # Puts the frozen parts' batch norms into evaluation at once, not at the next change of mode.
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Switch to training or evaluation; batch norms of frozen parts stay in evaluation."""
        super().train(mode)
        for norm in self._still:
            norm.eval()
        return self

    def make_body(self, network: nn.Module, intermediate: bool) -> nn.Module:
        """Return what gives the maps. Raises UserError for a network that has only one map to give."""
        if self.name in RESNETS and intermediate:
            return super().make_body(network, intermediate)
        if intermediate:
            raise UserError(f"--masks needs the feature maps of a ResNet; --backbone {self.name} offers only its last")
        return JoinedNetwork(network, {self.layout.returned: "0"}) if self.layout.returned else network


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
        # Loaded one line below instead: this path must fail where weights are missing, the constructor's only prints a
        # line.
        weights="none",
        channels_last=channels_last,
        padding_invariant=getattr(args, "padding_invariant", False),
    )
    backbone.load_weights(getattr(args, "backbone_weights", "imagenet") if weights is None else weights)
    return Joiner(backbone, build_position_encoding(args))


def load_imagenet_weights_if_possible(backbone: Backbone, owner: str) -> None:
    """Load torchvision's weights; where they cannot be downloaded leave random ones, and print a line that says so."""
    try:
        if is_timm(backbone.name):
            load_timm_weights(backbone.body, backbone.name, "imagenet")
        else:
            load_imagenet_weights(backbone.body, backbone.name, ignored=backbone.ignored_in_files())
    except DownloadError as error:
        print_once(f"{owner}: {error}; its backbone starts random as well")


def _prefers_channels_last(images: Tensor) -> bool:
    # B * H * W. On a GPU channels-last pays for half precision's tensor cores.
    if images.device.type == "cpu":  # not by the table: this is traced by compilers and exporters
        return images.numel() // images.shape[1] >= FEW_PIXELS
    return images.is_cuda and in_autocast(images.device)


def resize_mask(mask: Tensor, size: torch.Size) -> Tensor:
    """Padding mask (B, H, W) at a feature map's size: nearest by floor indexing, as `F.interpolate` does.

    In whole numbers, because ONNX Runtime's resizing divides in another order and then picks the cell before.
    """
    # Cell i of h takes pixel row floor(i * H / h), and columns likewise: (h,) and (w,) indices.
    rows, columns = (
        torch.arange(cells, device=mask.device) * pixels // cells for cells, pixels in zip(size, mask.shape[-2:])
    )
    return mask[:, rows][:, :, columns]


def _network(name: str, *, norm: str, dilation: bool, feature_map: str) -> tuple[nn.Module, Layout]:
    if is_timm(name):
        return timm_network(name, norm=norm, dilation=dilation, feature_map=feature_map)
    network, layout = torchvision_network(name, dilation=dilation, feature_map=feature_map)
    replace_norms(network, norm, name=name)
    return network, layout
