"""DETR: a backbone, a transformer, and two heads (figure 2 of "End-to-End Object Detection with Transformers")."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from util.dist.precision import wide_dtype, without_autocast
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.profiling import annotate

from .backbone import Joiner
from .transformer import Transformer


class Seen(NamedTuple):
    """What a detector computed on the way to its outputs, for a mask head: B images, Q queries, width D."""

    #: The backbone's maps, finest first; only the last without a mask head.
    features: list[NestedTensor]
    #: The last of them at the transformer's width (B, D, h, w), and its padding (B, h, w).
    src: Tensor
    mask: Tensor
    #: The encoder's output (B, D, h, w) and the decoder's (B, Q, D).
    memory: Tensor
    queries: Tensor
    #: Height and width of the padded images, in pixels.
    canvas: tuple[int, int]


class DETR(nn.Module):
    """Detects objects as a set: `num_queries` queries, each of which finds one object or none.

    Args:
        backbone: gives feature maps and their position encoding.
        transformer: decodes the queries; its `d_model` is the width D of everything after the backbone.
        num_classes: C, the largest label + 1; the class head has one output more, for "no object".
        num_queries: Q, the most objects an image can have.
        aux_loss: also return every earlier decoder layer's predictions, for the auxiliary losses.
    """

    def __init__(
        self, *, backbone: Joiner, transformer: Transformer, num_classes: int, num_queries: int, aux_loss: bool = False
    ) -> None:
        super().__init__()
        hidden_dim = transformer.d_model
        self.num_queries = num_queries
        self.aux_loss = aux_loss
        self.transformer = transformer
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.bbox_embed = MLP(input_dim=hidden_dim, hidden_dim=hidden_dim, output_dim=4, num_layers=3)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.input_proj = nn.Conv2d(backbone.num_channels, hidden_dim, kernel_size=1)
        self.backbone = backbone

    def forward(self, samples: NestedTensor | Sequence[Tensor] | Tensor) -> dict:
        """Detect objects in a batch: a NestedTensor, a list of images (3, H, W), or a tensor (B, 3, H, W).

        Returns:
            `pred_logits` (B, Q, C+1), the last class being "no object"; `pred_boxes` (B, Q, 4), cxcywh relative to
            each image without its padding; with `aux_loss` also `aux_outputs`, the same for each earlier layer.
        """
        return self.detect(samples)[0]

    def detect(self, samples: NestedTensor | Sequence[Tensor] | Tensor) -> tuple[dict, Seen]:
        """Detect as `forward` does; also return what was seen on the way."""
        if not isinstance(samples, NestedTensor):
            samples = nested_tensor_from_tensor_list(samples)
        with annotate("backbone"):
            features, pos = self.backbone(samples)
        src, mask = self.input_proj(features[-1].tensors), features[-1].mask
        hs, memory = self.transformer(src, mask, self.query_embed.weight, pos[-1])
        hs = hs.to(wide_dtype(hs))
        with annotate("heads"), without_autocast(hs.device):  # bfloat16 would round boxes to 2 pixels in 1,000
            logits = self.class_embed(hs)
            boxes = self.bbox_embed(hs).sigmoid()
        layers = [{"pred_logits": c, "pred_boxes": b} for c, b in zip(logits, boxes)]
        outputs = layers[-1] | ({"aux_outputs": layers[:-1]} if self.aux_loss else {})
        height, width = samples.tensors.shape[-2:]
        return outputs, Seen(features, src, mask, memory, hs[-1], (height, width))


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
