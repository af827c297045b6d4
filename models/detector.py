"""DETR: a backbone, a transformer, and two heads (figure 2 of "End-to-End Object Detection with Transformers")."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from util.dist.distributed import print_once
from util.dist.precision import wide_dtype, without_autocast
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.profiling import annotate

from .attention import AttentionMaps, asking
from .backbone import BackboneBase
from .fast.packed_weights import forget
from .fast.products import run_linear
from .joiner import Joiner
from .transformer import Transformer

NO_SCRIPT = (
    "torch.jit.script cannot compile this model, and PyTorch has deprecated it; use torch.export.export(model.eval(), "
    "(images,)), for images of other sizes with dynamic_shapes=({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)"
)


class DetectorFeatures(NamedTuple):
    """Features that a detector computed on the way to its outputs, for a mask head: B images, Q queries, width D."""

    #: The backbone's maps, finest first; only the last without a mask head.
    features: list[NestedTensor]
    #: The last of them at the transformer's width (B, D, h, w), and its padding (B, h, w).
    src: Tensor
    mask: Tensor
    #: The encoder's output (B, D, h, w) and the decoder's (B, Q, D).
    memory: Tensor
    queries: Tensor
    #: Height and width of the padded images in pixels; None where the backbone alone knows them.
    canvas: tuple[int, int] | None


class Decoded(NamedTuple):
    """Answers of L decoder layers: B images, Q queries, C classes, width D."""

    #: (L, B, Q, C+1) and (L, B, Q, 4).
    logits: Tensor
    boxes: Tensor
    #: The normalised outputs of the layers (L, B, Q, D), and the encoder's (B, D, h, w).
    queries: Tensor
    memory: Tensor
    #: What else the model returns, for the criterion of a variant.
    more: dict[str, Any]


class DETR(nn.Module):
    """Detects objects as a set: `num_queries` queries, each of which finds one object or none.

    Args:
        backbone: gives feature maps and their position encodings; any module that does, with `num_channels`.
        transformer: decodes the queries; any module with the arguments of `Transformer` and its `d_model`, the width D
            of everything after the backbone. More results than outputs and memory are left alone.
        num_classes: C, the largest label + 1; the class head has one output more, for "no object".
        num_queries: Q, the most objects an image can have.
        aux_loss: also return every earlier decoder layer's predictions, for the auxiliary losses.
    """

    def __init__(
        self, backbone: Joiner, transformer: Transformer, num_classes: int, num_queries: int, aux_loss: bool = False
    ) -> None:
        super().__init__()
        hidden_dim = transformer.d_model
        self.num_queries = num_queries
        self.aux_loss = aux_loss
        self.transformer = transformer
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.bbox_embed = MLP(hidden_dim, hidden_dim, 4, 3)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.input_proj = nn.Conv2d(backbone.num_channels, hidden_dim, kernel_size=1)
        self.backbone = backbone

    def forward(self, samples: Any, *, attention: AttentionMaps | None = None, **more: Any) -> dict[str, Any]:
        """Detect objects in a batch.

        Args:
            samples: a list of images (3, H, W), a tensor (B, 3, H, W), a NestedTensor or anything else with `tensors`
                and `mask`. Floats are taken as they are, bytes (uint8) are normalised here. Another class of batch
                goes to the backbone as it is.
            attention: receives the attention weights of all layers, which then run without the fused kernels.
            more: what `decode` of a variant takes beside that.

        Returns:
            `pred_logits` (B, Q, C+1), the last class being "no object"; `pred_boxes` (B, Q, 4), cxcywh relative to
            each image without its padding; with `aux_loss` or `attention` also `aux_outputs`, the same for each earlier
            layer.
        """
        return self.detect(samples, attention=attention, **more)[0]

    def detect(
        self, samples: Any, *, attention: AttentionMaps | None = None, **more: Any
    ) -> tuple[dict[str, Any], DetectorFeatures]:
        """Detect as `forward` does; also return the features on the way."""
        batch = as_batch(samples)
        with annotate("backbone"):
            features, pos = self.backbone(batch)
        # (B, C', h, w) to (B, D, h, w) by a 1 x 1 convolution; C' is 2048 for ResNet-50.
        src, mask = self.input_proj(features[-1].tensors), features[-1].mask
        decoded = self.decode(src, mask, pos[-1], attention=attention, **more)
        # Somebody who looks at the attention of each layer wants each layer's boxes beside it.
        every_layer = self.aux_loss or attention is not None
        outputs = as_outputs(decoded.logits, decoded.boxes, every_layer=every_layer) | decoded.more
        canvas = tuple(batch.tensors.shape[-2:]) if hasattr(batch, "tensors") else None
        return outputs, DetectorFeatures(features, src, mask, decoded.memory, decoded.queries[-1], canvas)

    def decode(
        self, src: Tensor, mask: Tensor | None, pos: Tensor, *, attention: AttentionMaps | None = None
    ) -> Decoded:
        """Decode a feature map (B, D, h, w) with its padding (B, h, w) and positions (B, D, h, w)."""
        # (L, B, Q, D) and (B, D, h, w).
        hs, memory, *_ = self.transformer(src, mask, self.query_embed.weight, pos, **asking(attention))
        return self.answer(hs, memory)

    def answer(self, hs: Tensor, memory: Tensor) -> Decoded:
        """Run the heads over the outputs of all decoder layers (L, B, Q, D)."""
        # float32, or float64 where the model is: half precision ends here.
        hs = hs.to(wide_dtype(hs))
        with annotate("heads"), without_autocast(hs.device):  # bfloat16 would round boxes to 2 pixels in 1,000
            # Raw scores: the loss takes its softmax together with the logarithm, which does not overflow.
            logits = self.class_embed(hs)
            boxes = self.bbox_embed(hs).sigmoid()  # cxcywh in 0..1
        # (L, B, Q, C+1) and (L, B, Q, 4): the heads are shared, so all layers pass them at once.
        return Decoded(logits, boxes, hs, memory, {})

    def train(self, mode: bool = True) -> "DETR":
        """Switch to training or evaluation."""
        # The heads' and a variant's linear layers, too, which no layer of the transformer forgets.
        forget(self.parameters())
        return super().train(mode)

    def recompute_layers(self) -> None:
        """Keep only the inputs of layers for the backward pass (`--grad_checkpoint`): less memory, more time.

        A backbone that cannot be run twice is left as it is, with a printed line.
        """
        self.transformer.encoder.recompute = self.transformer.decoder.recompute = True
        backbone = self.backbone[0]
        if not (isinstance(backbone, BackboneBase) and backbone.recompute_stages()):
            print_once("--grad_checkpoint: for the transformer's layers only; this backbone cannot be run twice")

    def __prepare_scriptable__(self) -> "DETR":
        """Say what takes the place of `torch.jit.script`, which PyTorch has deprecated."""
        raise NotImplementedError(NO_SCRIPT)


def as_outputs(logits: Tensor, boxes: Tensor, *, every_layer: bool) -> dict[str, Any]:
    """Answers of L layers (L, B, Q, ...) as a model returns them: the last layer's, and in a list the earlier ones'."""
    # `zip` walks over L, so each entry is a view (B, Q, ...) of one layer.
    layers: list[dict[str, Any]] = [{"pred_logits": c, "pred_boxes": b} for c, b in zip(logits, boxes)]
    return layers[-1] | ({"aux_outputs": layers[:-1]} if every_layer else {})


def as_batch(samples: Any) -> Any:
    """Make a batch of whatever a caller has: padded, with a mask, as floats; an unknown class of batch stays."""
    if isinstance(samples, (Tensor, Sequence)):
        samples = nested_tensor_from_tensor_list(samples)
    if not hasattr(samples, "tensors"):
        return samples
    tensors, mask = samples.tensors, samples.mask
    if mask is None:  # no padding anywhere
        mask = torch.zeros(len(tensors), *tensors.shape[-2:], dtype=torch.bool, device=tensors.device)
        samples = NestedTensor(tensors, mask)
    # Bytes are taken for pixels 0..255; floats for pixels that the caller has normalised.
    return NestedTensor(tensors, mask).normalized() if tensors.dtype == torch.uint8 else samples


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        # Input, n - 1 hidden layers, output; no activation after the last, for boxes get a sigmoid of their own.
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = run_linear(layer, x, relu=True)
        return run_linear(self.layers[-1], x)
