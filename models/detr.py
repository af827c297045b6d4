"""The names that DETR's scripts import from here; their homes are the files beside this one."""

from util.nested_tensor import nested_tensor_from_tensor_list

from .backbone import build_backbone
from .build import build_model
from .criterion import SetCriterion
from .detector import DETR, MLP
from .matcher import build_matcher
from .postprocess import PostProcess
from .segmentation import (
    DETRsegm,
    PostProcessPanoptic,
    PostProcessSegm,
    dice_loss,
    sigmoid_focal_loss,
)
from .transformer import build_transformer

build = build_model

__all__ = [
    "DETR",
    "MLP",
    "DETRsegm",
    "PostProcess",
    "PostProcessPanoptic",
    "PostProcessSegm",
    "SetCriterion",
    "build",
    "build_backbone",
    "build_matcher",
    "build_transformer",
    "dice_loss",
    "nested_tensor_from_tensor_list",
    "sigmoid_focal_loss",
]
