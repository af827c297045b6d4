"""The entry points for torch.hub, with the names, arguments and weights of the original DETR.

    model = torch.hub.load(".", "detr_resnet50", source="local", pretrained=True).eval()
    outputs = model([image])   # (3, H, W), normalised; logits over labels in `pred_logits`, boxes in `pred_boxes`

Without `pretrained` only the backbone has weights, ImageNet's. Models come in training mode.
The figures are the original's, on COCO's val2017.
"""

from torch import nn as _nn

from models import panoptic as _panoptic

# Names with an underscore, because torch.hub lists every other callable as an entry point.
from models import postprocess as _postprocess
from models import zoo as _published

_Result = _nn.Module | tuple[_nn.Module, _nn.Module]
dependencies = ["torch", "torchvision", "numpy", "PIL"]


def detr_resnet50(pretrained: bool = False, num_classes: int = 91, return_postprocessor: bool = False) -> _Result:
    """DETR with a ResNet-50: 42.0 AP, 62.4 AP50. With `return_postprocessor`, (model, `PostProcess`)."""
    return _detector("detr_resnet50", pretrained, num_classes, return_postprocessor)


def detr_resnet50_dc5(pretrained: bool = False, num_classes: int = 91, return_postprocessor: bool = False) -> _Result:
    """DETR with a ResNet-50 whose last stage is dilated, for a finer feature map: 43.3 AP, 63.1 AP50."""
    return _detector("detr_resnet50_dc5", pretrained, num_classes, return_postprocessor)


def detr_resnet101(pretrained: bool = False, num_classes: int = 91, return_postprocessor: bool = False) -> _Result:
    """DETR with a ResNet-101: 43.5 AP, 63.8 AP50."""
    return _detector("detr_resnet101", pretrained, num_classes, return_postprocessor)


def detr_resnet101_dc5(pretrained: bool = False, num_classes: int = 91, return_postprocessor: bool = False) -> _Result:
    """DETR with a ResNet-101 whose last stage is dilated: 44.9 AP, 64.7 AP50."""
    return _detector("detr_resnet101_dc5", pretrained, num_classes, return_postprocessor)


def detr_resnet50_panoptic(
    pretrained: bool = False, num_classes: int = 250, threshold: float = 0.85, return_postprocessor: bool = False
) -> _Result:
    """Panoptic DETR with a ResNet-50: 43.4 PQ.

    With `return_postprocessor`, (model, `PostProcessPanoptic`), which keeps segments surer than `threshold`.
    """
    return _panoptic_model("detr_resnet50_panoptic", pretrained, num_classes, threshold, return_postprocessor)


def detr_resnet50_dc5_panoptic(
    pretrained: bool = False, num_classes: int = 250, threshold: float = 0.85, return_postprocessor: bool = False
) -> _Result:
    """Panoptic DETR with a ResNet-50 whose last stage is dilated: 44.6 PQ."""
    return _panoptic_model("detr_resnet50_dc5_panoptic", pretrained, num_classes, threshold, return_postprocessor)


def detr_resnet101_panoptic(
    pretrained: bool = False, num_classes: int = 250, threshold: float = 0.85, return_postprocessor: bool = False
) -> _Result:
    """Panoptic DETR with a ResNet-101: 45.1 PQ."""
    return _panoptic_model("detr_resnet101_panoptic", pretrained, num_classes, threshold, return_postprocessor)


def _make_detr(
    backbone_name: str, dilation: bool = False, num_classes: int = 91, mask: bool = False, *, feature_map: str = "c5"
) -> _nn.Module:
    """Build a model without weights but the backbone's, ImageNet's; scripts import this to make one of their own."""
    return _published.hub_detector(
        _published.Architecture(
            backbone=backbone_name, dilation=dilation, num_classes=num_classes, masks=mask, feature_map=feature_map
        )
    )


def _detector(name: str, pretrained: bool, num_classes: int, return_postprocessor: bool) -> _Result:
    model = _published.hub_model(name, pretrained=pretrained, num_classes=num_classes)
    return (model, _postprocess.PostProcess()) if return_postprocessor else model


def _panoptic_model(
    name: str, pretrained: bool, num_classes: int, threshold: float, return_postprocessor: bool
) -> _Result:
    model = _published.hub_model(name, pretrained=pretrained, num_classes=num_classes)
    things = {label: label <= 90 for label in range(num_classes)}  # COCO's: things come first
    return (model, _panoptic.PostProcessPanoptic(things, threshold=threshold)) if return_postprocessor else model
