"""The models that the authors of DETR published, by the names of their torch hub entry points."""

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlparse

from util.errors import UserError
from util.runs.checkpoint import load_checkpoint, load_model
from util.web.download import is_url

from .backbone import load_imagenet_weights_if_possible
from .config import Architecture, backbone_of, build_detector
from .detector import DETR
from .empty_weights import EmptyWeights
from .segmentation import DETRsegm

BASE_URL = "https://dl.fbaipublicfiles.com/detr/"


@dataclass(frozen=True)
class PublishedModel:
    """A file of weights under `BASE_URL`; its name ends in the first digits of its SHA-256."""

    file: str
    architecture: Architecture


PUBLISHED = {
    "detr_resnet50": PublishedModel("detr-r50-e632da11.pth", Architecture()),
    "detr_resnet50_dc5": PublishedModel("detr-r50-dc5-f0fb7ef5.pth", Architecture(dilation=True)),
    "detr_resnet101": PublishedModel("detr-r101-2c7b67e5.pth", Architecture(backbone="resnet101")),
    "detr_resnet101_dc5": PublishedModel(
        "detr-r101-dc5-a2e86def.pth", Architecture(backbone="resnet101", dilation=True)
    ),
    # 250 classes, not 91: COCO's things and stuff share one count of category ids.
    "detr_resnet50_panoptic": PublishedModel(
        "detr-r50-panoptic-00ce5173.pth", Architecture(masks=True, num_classes=250)
    ),
    "detr_resnet50_dc5_panoptic": PublishedModel(
        "detr-r50-dc5-panoptic-da08f1b1.pth", Architecture(dilation=True, masks=True, num_classes=250)
    ),
    "detr_resnet101_panoptic": PublishedModel(
        "detr-r101-panoptic-40021d53.pth", Architecture(backbone="resnet101", masks=True, num_classes=250)
    ),
}


def published_under(path: str | os.PathLike) -> Architecture | None:
    """Architecture of the model published under the file name of `path`, a path or an address; None for other names."""
    # An address may end in ?download=true; its path alone holds the file's name.
    name = Path(urlparse(str(path)).path if is_url(path) else path).name
    return next((model.architecture for model in PUBLISHED.values() if model.file == name), None)


def hub_model(name: str, *, pretrained: bool, num_classes: int) -> DETR | DETRsegm:
    """Build the model of a hub entry point, on the CPU and in training mode, as the original returns it.

    With `pretrained` its published weights, downloaded to torch hub's cache with their hash checked; else random
    ones over a backbone with ImageNet weights, or, with a printed line, without where these cannot be downloaded.
    Raises UserError for another class count than the published weights', and as `load_checkpoint` and `load_model` do.
    """
    published = PUBLISHED[name]
    theirs = published.architecture.num_classes
    if pretrained and num_classes != theirs:
        raise UserError(
            f"{name}(pretrained=True, num_classes={num_classes}): the published weights have {theirs} classes; leave "
            f"num_classes out and replace the model's class_embed afterwards"
        )
    checkpoint = load_checkpoint(BASE_URL + published.file) if pretrained else None
    # After the download, so that a failed one costs no building; before the weights, which fill what is random.
    with EmptyWeights() if checkpoint else nullcontext():
        model = build_detector(replace(published.architecture, num_classes=num_classes))
    if checkpoint is not None:
        load_model(model, checkpoint, published.file)
        return model
    load_imagenet_weights_if_possible(backbone_of(model), name)
    return model


def hub_detector(architecture: Architecture) -> DETR | DETRsegm:
    """Build a model like the published ones, with ImageNet weights for its backbone if they can be had."""
    model = build_detector(architecture)
    load_imagenet_weights_if_possible(backbone_of(model), f"backbone {architecture.backbone}")
    return model
