"""DETR behind Detectron2's interface: its backbones and settings, our transformer, matcher, losses and masks."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import Boxes, ImageList, Instances, PolygonMasks
from detectron2.structures.masks import BitMasks
from torch import Tensor, nn

from models.backbone import resize_mask
from models.build import build_criterion
from models.config import Architecture
from models.criterion import SetCriterion
from models.detector import DETR
from models.joiner import Joiner
from models.position_encoding import build_position_encoding
from models.postprocess import PostProcess, PostProcessSegm
from models.segmentation import DETRsegm
from models.transformer import build_transformer
from util.box_ops import box_xyxy_to_cxcywh
from util.errors import CheckpointError
from util.nested_tensor import NestedTensor
from util.runs.checkpoint import load_checkpoint, load_model
from util.targets import Target


class MaskedBackbone(nn.Module):
    """A backbone of Detectron2 whose feature maps come with the mask of the padding."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        shapes = list(self.backbone.output_shape().values())  # finest first
        self.feature_strides = [shape.stride for shape in shapes]
        self.num_channels: int = shapes[-1].channels

    def forward(self, images: Any) -> dict[str, NestedTensor]:
        """Feature maps by Detectron2's names (`res2`, ...), finest first, of an `ImageList`."""
        batch, _, height, width = images.tensor.shape
        mask = torch.ones(batch, height, width, dtype=torch.bool, device=images.tensor.device)
        for padding, (h, w) in zip(mask, images.image_sizes):
            # True is padding, as in torch's attention: images lie at the top left.
            padding[:h, :w] = False
        # Not by the stride, as in the original's wrapper, but as our backbone does it: beside padding, too, converted
        # weights give the results that they give in main.py.
        return {
            name: NestedTensor(features, resize_mask(mask, features.shape[-2:]))
            for name, features in self.backbone(images.tensor).items()
        }


@META_ARCH_REGISTRY.register()
class Detr(nn.Module):
    """DETR as a meta architecture: MODEL.META_ARCHITECTURE "Detr", with the settings of `add_detr_config`.

    With MODEL.MASK_ON it has a mask head; MODEL.DETR.FROZEN_WEIGHTS then names the detector under it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.num_classes: int = cfg.MODEL.DETR.NUM_CLASSES
        self.mask_on: bool = cfg.MODEL.MASK_ON
        self.detr: DETR | DETRsegm = _build_detector(cfg)
        if self.mask_on:
            frozen = cfg.MODEL.DETR.FROZEN_WEIGHTS
            if frozen:
                _load_detector(self.detr, frozen)
            self.detr = DETRsegm(self.detr, freeze_detr=bool(frozen))
        self.criterion: SetCriterion = _build_criterion(cfg)
        # Not in the state dict, which has the original's names.
        for name, values in (("pixel_mean", cfg.MODEL.PIXEL_MEAN), ("pixel_std", cfg.MODEL.PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.to(torch.device(cfg.MODEL.DEVICE))

    @property
    def device(self) -> torch.device:
        """Device of the model, to which images are moved."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Compute the losses of a batch in training mode, else its detections.

        Args:
            batched_inputs: for each image `image` (3, H, W) in 0..255, in training `instances` with `gt_boxes`,
                `gt_classes` and perhaps `gt_masks`; `height` and `width` are the size that detections refer to, by
                default the image's.

        Returns:
            in training the losses by name, weighted, to be summed; else for each image `instances`: `pred_boxes`,
            `scores`, `pred_classes` and, with a mask head, `pred_masks` (N, height, width) bool.
        """
        images = self.preprocess_image(batched_inputs)
        # The canvas, padding included: masks are cut from maps of its size.
        outputs = self.detr(images) | {"canvas": torch.tensor(images.tensor.shape[-2:])}
        if not self.training:
            sizes = [
                (entry.get("height", height), entry.get("width", width))
                for entry, (height, width) in zip(batched_inputs, images.image_sizes)
            ]
            return [{"instances": found} for found in self.inference(outputs, images.image_sizes, sizes)]
        losses = self.criterion(outputs, self.prepare_targets([entry["instances"] for entry in batched_inputs]))
        weights = self.criterion.weight_dict
        # Only what is trained on: Detectron2 adds up whatever it gets.
        return {name: loss * weights[name] for name, loss in losses.items() if name in weights}

    def preprocess_image(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Normalise the images and pad them to an `ImageList`."""
        pixels = [entry["image"].to(self.device) for entry in batched_inputs]
        return ImageList.from_tensors([(image - self.pixel_mean) / self.pixel_std for image in pixels])

    def prepare_targets(self, instances: Sequence[Any]) -> list[Target]:
        """Targets of the criterion from Detectron2's `Instances`, on the model's device."""
        targets: list[Any] = []
        for found in instances:
            height, width = found.image_size
            found = found.to(self.device)
            # Detectron2's boxes are xyxy in pixels.
            scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=self.device)
            boxes = box_xyxy_to_cxcywh(found.gt_boxes.tensor / scale)  # (n, 4) in 0..1
            targets.append({"labels": found.gt_classes, "boxes": boxes})
            if self.mask_on:
                targets[-1]["masks"] = _masks(found).to(self.device)
        return targets

    @torch.no_grad()
    def inference(
        self, outputs: dict[str, Any], image_sizes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> list[Any]:
        """`Instances` of each image from the model's outputs.

        Args:
            image_sizes: (height, width) of the images as the model saw them, without padding.
            sizes: (height, width) of the images that boxes and masks refer to.
        """
        wanted = torch.tensor(sizes, device=self.device)
        results = PostProcess()(outputs, wanted)
        if self.mask_on:
            results = PostProcessSegm()(results, outputs, wanted, torch.tensor(image_sizes, device=self.device))
        return [_instances(result, size) for result, size in zip(results, sizes)]


def _build_detector(cfg: Any) -> DETR:
    settings = cfg.MODEL.DETR
    architecture = Architecture(
        enc_layers=settings.ENC_LAYERS,
        dec_layers=settings.DEC_LAYERS,
        dim_feedforward=settings.DIM_FEEDFORWARD,
        hidden_dim=settings.HIDDEN_DIM,
        nheads=settings.NHEADS,
        pre_norm=settings.PRE_NORM,
    )
    return DETR(
        Joiner(MaskedBackbone(cfg), build_position_encoding(architecture)),
        build_transformer(architecture, dropout=settings.DROPOUT),
        num_classes=settings.NUM_CLASSES,
        num_queries=settings.NUM_OBJECT_QUERIES,
        aux_loss=settings.DEEP_SUPERVISION,
    )


def _build_criterion(cfg: Any) -> SetCriterion:
    settings = cfg.MODEL.DETR
    flags = Namespace(
        bbox_loss_coef=settings.L1_WEIGHT,
        giou_loss_coef=settings.GIOU_WEIGHT,
        # The class has weight 1 in the matcher and in the loss: only ratios count.
        set_cost_class=1,
        set_cost_bbox=settings.L1_WEIGHT,
        set_cost_giou=settings.GIOU_WEIGHT,
        eos_coef=settings.NO_OBJECT_WEIGHT,
        aux_loss=settings.DEEP_SUPERVISION,
        dec_layers=settings.DEC_LAYERS,
        masks=cfg.MODEL.MASK_ON,
        mask_loss_coef=1,
        dice_loss_coef=1,
    )
    return build_criterion(flags, settings.NUM_CLASSES)


def _load_detector(detector: DETR, path: str) -> None:
    """Load the detector of a wrapper's file, which may have a mask head of its own."""
    stored = load_checkpoint(path)["model"]
    # `detr.` is the wrapper's, a second one the mask head's.
    weights = {n.removeprefix("detr.").removeprefix("detr."): w for n, w in stored.items() if n.startswith("detr.")}
    if not weights:
        raise CheckpointError(f"{path}: not a file of this wrapper; python -m util.convert d2 makes one of a DETR's")
    # A new mask head is trained on it; that of the file is not part of the detector.
    own = {name: weight for name, weight in weights.items() if not name.startswith(("mask_head.", "bbox_attention."))}
    load_model(detector, {"model": own}, path)


def _masks(instances: Any) -> Tensor:
    """Masks (n, height, width) bool of an image's objects; an image without objects has none."""
    height, width = instances.image_size
    if not instances.has("gt_masks"):
        return torch.zeros(len(instances), height, width, dtype=torch.bool)
    masks = instances.gt_masks
    return (BitMasks.from_polygon_masks(masks, height, width) if isinstance(masks, PolygonMasks) else masks).tensor


def _instances(result: dict[str, Tensor], size: tuple[int, int]) -> Any:
    """Detections of an image of (height, width), their boxes cut at its border; those without area are dropped."""
    found = Instances(size)
    found.pred_boxes = Boxes(result["boxes"])
    found.pred_boxes.clip(size)
    found.scores, found.pred_classes = result["scores"], result["labels"]
    if "masks" in result:
        found.pred_masks = result["masks"][:, 0].bool().to(found.scores.device)  # (Q, 1, H, W) to (Q, H, W)
    return found[found.pred_boxes.nonempty()]
