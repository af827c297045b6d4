"""A look inside a model on one image: attention weights, boxes and class probabilities, layer by layer.

Shapes: E encoder layers, L decoder layers, A heads, N queries that are shown, h w cells of the image, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.attention import AttentionMaps
from util.box_ops import box_cxcywh_to_xyxy
from util.errors import UserError
from util.nested_tensor import nested_tensor_from_tensor_list

from ..detector import Detector, ImageLike

#: Queries that are shown where no detection is sure enough.
FEWEST = 8
_softmax = partial(torch.softmax, dim=-1)


class HeadMeans(list):
    """A list of attention weights that keeps their mean over the heads, on the CPU.

    An encoder's weights of all heads are 140 MB at 800 x 1066 pixels, and 2 GB with --dilation.
    """

    def append(self, weights: Tensor) -> None:
        """Keep the mean (B, L, S) of weights (B, heads, L, S)."""
        super().append(weights.mean(1).float().cpu())


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The inner numbers of a model on one image.

    Attributes:
        image: the image, as RGB.
        seen: its height and width in pixels as the model saw it.
        extent: height and width of the h * w cells in parts of the image: cells have a fixed size in pixels, so the
            last ones may hang over its edge (1.02).
        encoder: (E, h, w, h, w) float32: from a cell to all cells, the mean over the heads; each sums to 1.
        decoder: (L, A, N, h, w) float32: from a query to all cells.
        boxes: (L, N, 4) float32, left, top, right, bottom in 0..1 of the image; those of the last layer are the
            model's answer.
        probabilities: (L, N, C + 1) float32; the last is "no object".
        queries: (N,) int64, the surest first.
        found: True if these are detections, False if none was sure enough and they are the surest queries instead.
        class_names: by category id.
    """

    image: Image.Image
    seen: tuple[int, int]
    extent: tuple[float, float]
    encoder: np.ndarray
    decoder: np.ndarray
    boxes: np.ndarray
    probabilities: np.ndarray
    queries: np.ndarray
    found: bool
    class_names: Mapping[int, str]

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width in cells."""
        height, width = self.decoder.shape[-2:]
        return height, width

    def name(self, label: int) -> str:
        """Return the name of a category id, and of the last class."""
        if label == self.probabilities.shape[-1] - 1:
            return "no object"
        return self.class_names.get(label, f"class {label}")

    def labels(self) -> np.ndarray:
        """Return the category of each query in the last layer (N,)."""
        return self.probabilities[-1, :, :-1].argmax(-1)

    def scores(self) -> np.ndarray:
        """Return the score of each query in the last layer (N,)."""
        return self.probabilities[-1, :, :-1].max(-1)


def look_inside(detector: Detector, image: ImageLike, queries: Sequence[int] | np.ndarray | None = None) -> Inside:
    """Run a detector's model on one image and ask it for its attention weights.

    Args:
        detector: its model is a checkpoint's.
        image: as the detector takes them.
        queries: those to show, as in `Detections.queries`; by default those of the detections in this image. Where
            there are none, the `FEWEST` surest queries are shown.

    Raises UserError for a model that has no layers to ask, such as an exported one.
    """
    refuse_without_layers(detector)
    picture = detector.read(image)
    pixels = detector.prepare(picture)
    batch = nested_tensor_from_tensor_list([pixels]).to(detector.device)
    # The decoder's stay whole: Q x S weights are few beside the encoder's S x S.
    maps = AttentionMaps(encoder=HeadMeans())
    outputs = detector.run(batch, attention=maps)
    if queries is None:
        scores = detector.probabilities(outputs["pred_logits"][0])[:, :-1].amax(-1).cpu()
        order = scores.argsort(descending=True, stable=True)
        queries = order[scores[order] >= detector.threshold].numpy()
    return collect(
        outputs,
        maps,
        image=picture,
        seen=pixels.shape[-2:],
        queries=queries,
        names=detector.class_names,
        probabilities=detector.probabilities,
    )


def refuse_without_layers(detector: Detector) -> None:
    """Raise UserError for a model that has no layers to ask for their weights, such as an exported one."""
    if not isinstance(detector.model, torch.nn.Module):
        raise UserError("--attention needs a checkpoint: an exported model does not give its attention weights")


def collect(
    outputs: Mapping[str, Any],
    maps: AttentionMaps,
    *,
    image: Image.Image,
    seen: Sequence[int],
    queries: Sequence[int] | np.ndarray,
    names: Mapping[int, str],
    probabilities: Callable[[Tensor], Tensor] = _softmax,
    index: int = 0,
) -> Inside:
    """Take what belongs to one image of a batch, without its padding.

    Args:
        outputs, maps: of the model; `maps.encoder` holds weights of all heads or, from `HeadMeans`, their means.
        image, seen, names: as `image`, `seen` and `class_names` of `Inside`.
        queries: those to show; where there are none, the `FEWEST` surest.
        probabilities: from logits (..., C+1) to probabilities of the same shape, "no object" last.
        index: which image of the batch.
    """
    # First layer to last: the outputs themselves are those of the last.
    layers = [*outputs["aux_outputs"], outputs]
    classes = torch.stack([probabilities(layer["pred_logits"][index].float()) for layer in layers]).cpu()  # (L, Q, C+1)
    scores = classes[-1, :, :-1].amax(-1)
    # Once each: with --focal a query may have been found under several classes.
    chosen = torch.tensor(list(dict.fromkeys(int(query) for query in queries)), dtype=torch.int64)
    found = len(chosen) > 0
    if not found:
        chosen = scores.argsort(descending=True, stable=True)[:FEWEST]
    assert maps.padding is not None, "the model fills the maps"
    visible = ~maps.padding[index].cpu()  # (h', w') of the batch; the image's h x w lie at its top left
    h, w = int(visible.any(1).sum()), int(visible.any(0).sum())

    encoder = [(x if x.dim() == 3 else x.mean(1))[index].float().cpu() for x in maps.encoder]  # each (S, S)
    whole = visible.shape
    # (S, S) to (h', w', h', w'), then without the padding on both sides. Axis 1 first: splitting axis 0 would move it.
    from_to = [x.unflatten(1, whole).unflatten(0, whole)[:h, :w, :h, :w] for x in encoder]
    # (L, A, N, h, w)
    to = torch.stack([x[index].float().cpu()[:, chosen].unflatten(-1, whole)[..., :h, :w] for x in maps.decoder])
    boxes = torch.stack([layer["pred_boxes"][index].float().cpu() for layer in layers])[:, chosen]
    return Inside(
        image=image,
        seen=(int(seen[0]), int(seen[1])),
        extent=_extent((h, w), seen),
        encoder=torch.stack(from_to).numpy() if from_to else np.zeros((0, h, w, h, w), np.float32),
        decoder=to.numpy(),
        boxes=box_cxcywh_to_xyxy(boxes).numpy(),
        probabilities=classes[:, chosen].numpy(),
        queries=chosen.numpy(),
        found=found,
        class_names=names,
    )


def _extent(cells: tuple[int, int], seen: Sequence[int]) -> tuple[float, float]:
    """Height and width of the cells in parts of the image; a backbone makes ceil(side / stride) cells of a side."""
    # The backbone does not say its stride here; the counts of both sides tell it.
    for stride in (32, 16):
        if all(math.ceil(side / stride) == count for side, count in zip(seen, cells)):
            return cells[0] * stride / seen[0], cells[1] * stride / seen[1]
    return 1.0, 1.0  # another backbone, or a batch in which the mask was rounded to cells
