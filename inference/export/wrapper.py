"""A detector with tensors in and out, which is what a graph for other programs can be made of."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.backbone import BackboneBase
from models.config import Architecture
from models.detector import DETR
from models.fast.folded_norm import keep_products
from models.position_encoding import PositionEmbeddingLearned
from models.segmentation import DETRsegm
from util.nested_tensor import NestedTensor

#: Names of the graph's inputs, in this order.
INPUTS = ("images", "mask")
#: The least height and width of a batch in an exported graph: below, the last feature map is one cell high or wide,
#: and PyTorch writes the graph of such a map differently.
LEAST_SIDE = 33


@dataclass(frozen=True)
class Canvas:
    """The sizes of batches that a graph takes: any, or one alone.

    Attributes:
        fixed: height and width of every batch; None where both are free. The number of images is free always.
        least, most: the smallest and largest height and width that a free size may have; None for no limit.
    """

    fixed: tuple[int, int] | None = None
    least: int = LEAST_SIDE
    most: int | None = None

    def example(self) -> tuple[Tensor, Tensor]:
        """Return a batch of two images to trace a model with, and its mask."""
        # Sizes that differ, and are whole cells of 32: where two free axes are equal while tracing, the graph may take
        # them for one.
        height, width = self.fixed or (96, 128)
        mask = torch.zeros(2, height, width, dtype=torch.bool)
        # With some padding, so that no branch is taken that holds for masks of False alone.
        mask[1, height - height // 4 :] = True
        return torch.zeros(2, 3, height, width), mask

    def dynamic_shapes(self) -> dict[str, dict[int, object]]:
        """Return the free axes of each input, as `torch.export.export` takes them."""
        # As far as the model allows; what it fixes in spite of that, the check after the export finds.
        free = torch.export.Dim.DYNAMIC
        if self.fixed is not None:
            return {"images": {0: free}, "mask": {0: free}}
        return {"images": {0: free, 2: free, 3: free}, "mask": {0: free, 1: free, 2: free}}


def largest_side(architecture: Architecture) -> int | None:
    """Return the largest height and width that a model takes; None where there is no limit."""
    if architecture.position_embedding != "learned":
        return None
    return PositionEmbeddingLearned.max_cells * (
        16 if architecture.dilation or architecture.feature_map == "c4" else 32
    )


class TensorDetector(nn.Module):
    """A copy of a detector for tracing: no auxiliary outputs, no layout that depends on the size of a batch.

    Attributes:
        outputs: names of what `forward` returns, in this order.
    """

    def __init__(self, model: DETR | DETRsegm) -> None:
        super().__init__()
        # A copy, for what is switched off below would be missed in training.
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        detr = model.detr if isinstance(model, DETRsegm) else model
        detr.aux_loss = False
        # The heads then run over one layer instead of over all.
        detr.transformer.decoder.return_intermediate = False
        detr.transformer.encoder.recompute = detr.transformer.decoder.recompute = False
        backbone = detr.backbone[0]
        assert isinstance(backbone, BackboneBase), "only our backbones say how they lay out their maps"
        # "auto" asks for the number of pixels, which a tracer would fix to that of the example.
        backbone.channels_last = False
        # Folded weights become constants of the graph: their product with the norms is not computed anew for each
        # batch.
        keep_products(backbone)
        self.model = model
        self.outputs = ("pred_logits", "pred_boxes", *(["pred_masks"] if isinstance(model, DETRsegm) else []))

    def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Detect objects.

        Args:
            images: (B, 3, H, W) float32, normalised, zero where there is padding.
            mask: (B, H, W) bool, True on padding.

        Returns:
            logits (B, Q, C+1), boxes (B, Q, 4) cxcywh in 0..1 of each image without its padding, and with a mask head
            mask logits (B, Q, H/4, W/4) over the canvas.
        """
        found = self.model(NestedTensor(images, mask))
        return tuple(found[name] for name in self.outputs)
