"""torchvision's small detectors over a MobileNetV2, to compare with on few images: Faster R-CNN and SSDLite."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.misc import Conv2dNormActivation

#: Blocks of a MobileNetV2 that stay as they are: those of stride 2 and 4, as in DETR.
FROZEN_BLOCKS = 4
#: The first 14 blocks end at stride 16, all of them at stride 32.
STRIDE_16 = 14


def faster_rcnn(weights: dict[str, Tensor], num_classes: int, *, height: int, width: int) -> nn.Module:
    """Return Faster R-CNN with a feature pyramid, the backbone filled with ImageNet weights.

    It is torchvision's `fasterrcnn_mobilenet_v3_large_fpn` with a MobileNetV2 in it: maps of strides 16 and 32, five
    sizes of anchors on each. `num_classes` counts the background; images become at most `height` x `width`.
    """
    # Of its six stages the last four train: those after the frozen blocks.
    backbone = mobilenet_backbone(backbone_name="mobilenet_v2", weights=None, fpn=True, trainable_layers=4)
    own = backbone.body.state_dict()
    # Its keys have no "features." before them; the classifier is not part of it.
    state = {k.removeprefix("features."): v for k, v in weights.items()}
    backbone.body.load_state_dict({k: state[k] for k in own})
    # Three: the pyramid adds a pooled map to the two of the backbone. Sides in pixels, then height over width.
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return FasterRCNN(
        backbone, num_classes, rpn_anchor_generator=anchors, min_size=min(height, width), max_size=max(height, width)
    )


class PyramidOfMobileNet(nn.Module):
    """Maps of strides 16, 32 and four coarser ones, as SSDLite's backbone gives them; the batch norms are frozen."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        body = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features
        body.load_state_dict({k: weights[f"features.{k}"] for k in body.state_dict()})
        for block in body[:FROZEN_BLOCKS]:
            block.requires_grad_(False)
        self.fine, self.coarse = body[:STRIDE_16], body[STRIDE_16:]
        self.extra = nn.ModuleList(_halve(a, b) for a, b in ((1280, 512), (512, 256), (256, 256), (256, 128)))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return six maps of images (B, 3, H, W), finest first."""
        maps = [self.fine(images)]
        # The second half goes on from the first one's map: the backbone runs once.
        maps.append(self.coarse(maps[-1]))
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(i), features) for i, features in enumerate(maps))


def ssdlite(weights: dict[str, Tensor], num_classes: int, *, height: int, width: int) -> nn.Module:
    """Return torchvision's SSDLite over a MobileNetV2; images become exactly `height` x `width`, as it needs them."""
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)  # torchvision's for SSDLite
    # Channels of the six maps above, finest first.
    head = SSDLiteHead([96, 1280, 512, 256, 256, 128], anchors.num_anchors_per_location(), num_classes, norm)
    sizes = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    # torchvision's size is (width, height) here, unlike a tensor's shape.
    return SSD(PyramidOfMobileNet(weights), anchors, (width, height), num_classes, head=head, **sizes)


def _halve(channels_in: int, channels_out: int) -> nn.Module:
    """Halve the sides by a depthwise convolution between two of 1 x 1, as SSDLite's extra layers do."""
    part = partial(Conv2dNormActivation, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU6)
    middle = channels_out // 2
    return nn.Sequential(
        part(channels_in, middle, kernel_size=1),
        part(middle, middle, kernel_size=3, stride=2, groups=middle),
        part(middle, channels_out, kernel_size=1),
    )


#: Builders by name, as --detector takes them.
RIVALS: dict[str, Callable[..., nn.Module]] = {"faster_rcnn": faster_rcnn, "ssdlite": ssdlite}


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes."""
    return [p for p in model.parameters() if p.requires_grad]


def read_weights(path: str) -> dict[str, Tensor]:
    """Read a file of a MobileNetV2's weights under torchvision's keys."""
    return torch.load(path, map_location="cpu", weights_only=True)
