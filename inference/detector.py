"""The detector as an object: images in, detections in pixels out."""

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.transforms import Compose, FitInside, make_coco_transforms, to_model_input
from models.attention import AttentionMaps, asking
from models.postprocess import PostProcess
from util.dist.accelerator import TABLE
from util.dist.device import pick_device
from util.dist.host_memory import FreedMemory, keep_freed_memory
from util.dist.precision import pick_precision
from util.errors import UserError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.panoptic_png import decode_segments
from util.runs.memory import OF_PREDICTION, naming_memory

from .detections import Detections, PanopticImage
from .images import ImageLike, as_rgb
from .loading import LoadedModel, load_trained


class Detector:
    """A trained model that takes images of any size.

        detector = Detector("runs/mine/best.pth")
        found = detector("photo.jpg")
        for box, name, score in zip(found.boxes, found.names, found.scores): ...

    Images are read and resized as in an evaluation, and at a batch size of 1 so are the numbers. In larger batches an
    image's detections are the same as alone, because the model erases the padding beside smaller images; with
    `padding_invariant` False they are those of an evaluation whose batches hold the same images, where DETR lets
    padding leak in.

    Args:
        checkpoint: a file of `main.py` or `export.py`, a published file, or the address of one; or a loaded model.
        device: cuda, cuda:1, mps or cpu; by default a GPU where there is one.
        amp: off, bf16 or fp16, as --amp of `main.py`.
        threshold: the least score of a detection.
        batch_size: images that a list is taken in at a time.
        padding_invariant: see above.

    Raises:
        CheckpointError: a file that is missing, broken, or no DETR's.
        UserError: a device or precision that is not to be had.

    Attributes:
        model, postprocessors, class_names, category_ids, classes, image_size, max_size, device: as in
            `loading.LoadedModel`.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | LoadedModel,
        *,
        device: str | torch.device | None = None,
        amp: str = "off",
        threshold: float = 0.7,
        batch_size: int = 1,
        padding_invariant: bool = True,
    ) -> None:
        if device is None:
            device = "cuda" if TABLE["cuda"].available() else "cpu"
        self.device = pick_device(str(device))
        self.precision = pick_precision(amp, self.device)
        keep_freed_memory(self.device)
        self._memory = FreedMemory(self.device)
        loaded = checkpoint
        if not isinstance(loaded, LoadedModel):
            loaded = load_trained(loaded, device=self.device, padding_invariant=padding_invariant)
        self.model, self.postprocessors = loaded.model, loaded.postprocessors
        self.class_names, self.category_ids = dict(loaded.class_names), loaded.category_ids
        self.classes = loaded.classes
        self.image_size, self.max_size = loaded.image_size, loaded.max_size
        self._eraser = loaded.eraser
        self.threshold = threshold
        self.batch_size = batch_size
        self._equal_sizes_only = loaded.equal_sizes_only
        # Bytes: normalising happens on the device, after the transfer of a quarter of the size.
        self._transform = (
            make_coco_transforms("val", image_size=self.image_size, max_size=self.max_size, as_uint8=True)
            if loaded.fixed_size is None
            else Compose([FitInside(loaded.fixed_size), to_model_input(as_uint8=True)])
        )

    @overload
    def __call__(self, images: ImageLike) -> Detections: ...

    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[Detections]: ...

    def __call__(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> Detections | list[Detections]:
        """Detect objects in one image, or in each of a list; a list is answered by a list.

        Raises ImageError, which names the file, for an image that cannot be read.
        """
        if not isinstance(images, list | tuple):
            return self._detect_all([images])[0]
        found: list[Detections] = []
        for start in range(0, len(images), self.batch_size):
            found += self._detect_all(images[start : start + self.batch_size])
        return found

    def _detect_all(self, images: Sequence[ImageLike]) -> list[Detections]:
        read = [self.read(image) for image in images]
        return self.detect([self.resize(image) for image in read], [(image.height, image.width) for image in read])

    def read(self, image: ImageLike) -> Image.Image:
        """Return an image as 8-bit RGB, converted as in training. Raises ImageError where it cannot be read."""
        return as_rgb(image)

    def prepare(self, image: ImageLike) -> Tensor:
        """Return an image as the model takes it: (3, H, W) float32, resized and normalised, on the CPU."""
        return nested_tensor_from_tensor_list([self.resize(self.read(image))]).normalized().tensors[0]

    def resize(self, image: Image.Image) -> Tensor:
        """Return an RGB image at the size that the model sees: bytes (3, H, W)."""
        return self._transform(image, None)[0]

    def detect(self, pixels: Sequence[Tensor], originals: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detect objects in one batch.

        Args:
            pixels: the images as `resize` returns them.
            originals: height and width of each before, whose pixels the boxes are in.
        """
        targets = torch.tensor(originals)
        sizes = torch.tensor([tensor.shape[-2:] for tensor in pixels])
        found: dict[int, Detections] = {}
        for part in self._batches(sizes):
            # Bytes travel to the device and are normalised there, as in an evaluation: the same bits.
            batch = nested_tensor_from_tensor_list([pixels[i] for i in part]).to(self.device).normalized()
            with (
                naming_memory("a prediction", [(batch, ())], device=self.device, ways=OF_PREDICTION),
                self._erasing(sizes[part]),
            ):
                outputs = self.run(batch)
                results = self.read_outputs(outputs, sizes=sizes[part], originals=targets[part])
            # By number: parts of equal size do not come in the images' order.
            found |= zip(part, results)
            self._memory.after_batch()
        return [found[i] for i in range(len(pixels))]

    def _erasing(self, sizes: Tensor) -> AbstractContextManager:
        """Return a context in which images of these sizes (B, 2) have their padding erased, if they have any."""
        # All of one size: no image has padding, and erasing nothing costs a pass over every map.
        padded = bool((sizes != sizes[0]).any())
        return nullcontext() if self._eraser is None or padded else self._eraser.idle()

    def _batches(self, sizes: Tensor) -> list[list[int]]:
        """Return the images, by number, that the model sees together; sizes (B, 2) are those it sees.

        A mask head takes means over the whole canvas (its group norms), so beside padding its masks would change; an
        exported file may let padding leak into boxes. There only images of one size go together.
        """
        if not self._equal_sizes_only:
            return [list(range(len(sizes)))]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, size in enumerate(sizes.tolist()):
            groups.setdefault(tuple(size), []).append(i)
        return list(groups.values())

    def run(self, batch: NestedTensor, *, attention: AttentionMaps | None = None) -> dict[str, Any]:
        """Run the model on a normalised batch on its device; returns its outputs (see `models.detector.DETR`).

        A checkpoint's model fills `attention` with the weights of its layers, if it is given.
        """
        with torch.no_grad(), self.precision.autocast():
            return self.model(batch, **asking(attention))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C+1) of the classes and, last, of "no object"."""
        boxes = self.postprocessors["bbox"]
        assert isinstance(boxes, PostProcess)
        return boxes.probabilities(logits)

    @torch.no_grad()
    def read_outputs(self, outputs: dict[str, Any], *, sizes: Tensor, originals: Tensor) -> list[Detections]:
        """Turn outputs into detections that score at least `threshold`.

        Args:
            outputs: of a batch, as `run` returns them.
            sizes: (B, 2) height and width of the images as the model saw them, without padding.
            originals: (B, 2) height and width of the original images, whose pixels the boxes are in.
        """
        results = self.postprocessors["bbox"](outputs, originals.to(self.device))
        panoptic: list[Any] = [None] * len(results)
        if "panoptic" in self.postprocessors:
            panoptic = self.postprocessors["panoptic"](outputs, sizes, originals)
        return [
            self._read_result(
                result,
                # (1, Q, h, w): masks at full size image by image, for those of a whole batch may not fit into memory.
                {**outputs, "pred_masks": outputs["pred_masks"][i : i + 1]} if "segm" in self.postprocessors else None,
                sizes=sizes[i : i + 1],
                originals=originals[i : i + 1],
                panoptic=panoptic[i],
            )
            for i, result in enumerate(results)
        ]

    def _read_result(
        self,
        result: dict[str, Tensor],
        outputs: dict[str, Any] | None,
        *,
        sizes: Tensor,
        originals: Tensor,
        panoptic: dict[str, Any] | None,
    ) -> Detections:
        """Detections of one image; `outputs` are its own, None where it has no masks."""
        scores = result["scores"].float()
        # Stable: equal scores keep the order of queries, by which COCO's evaluation ranks them.
        order = scores.argsort(descending=True, stable=True)  # (Q,)
        # Scores are compared as float32 whatever the model computes in, so that a threshold means the same.
        keep = order[scores[order] >= self.threshold]  # (N,) answers
        if self.category_ids is not None:  # room for more classes than there are: such labels mean nothing
            keep = keep[result["labels"][keep] < len(self.category_ids)]
        # An answer is a query's, in their order, unless the postprocessor says whose it is.
        queries = result["queries"][keep] if "queries" in result else keep
        masks = None
        if outputs is not None:
            # Only those that are kept: at full size the masks of all queries are large.
            # (1, Q, h, w) to (1, N, h, w).
            chosen = {**outputs, "pred_masks": outputs["pred_masks"][:, queries]}
            masks = self._masks(chosen, sizes, originals)
        labels = result["labels"][keep].cpu().numpy()
        if self.category_ids is not None:
            # Dense labels 0, 1, ... to the ids of the annotation file; a table look-up for all N at once.
            labels = np.asarray(self.category_ids, dtype=np.int64)[labels]
        height, width = originals[0].tolist()
        return Detections(
            boxes=result["boxes"][keep].float().cpu().numpy(),
            labels=labels,
            names=[self.name(label) for label in labels.tolist()],
            scores=scores[keep].cpu().numpy(),
            queries=queries.cpu().numpy(),
            size=(height, width),
            masks=masks,
            panoptic=None if panoptic is None else self._panoptic(panoptic),
        )

    def _masks(self, outputs: dict[str, Any], sizes: Tensor, originals: Tensor) -> np.ndarray:
        """Masks (N, H, W) bool of one image at its original size."""
        height, width = originals[0].tolist()
        if outputs["pred_masks"].shape[1] == 0:
            return np.zeros((0, height, width), dtype=bool)
        (result,) = self.postprocessors["segm"]([{}], outputs, originals, sizes)
        return result["masks"][:, 0].bool().numpy()

    def _panoptic(self, result: dict[str, Any]) -> PanopticImage:
        segments = result["segments_info"]
        ids = decode_segments(io.BytesIO(result["png_string"]))
        return PanopticImage(ids, segments, [self.name(segment["category_id"]) for segment in segments])

    def adopt_names(self, names: Mapping[int, str], *, source: str | os.PathLike) -> None:
        """Take class names from `source` where the checkpoint has none; raise UserError where they differ from its."""
        if not self.class_names:
            self.class_names = dict(names)
        different = [id_ for id_, name in names.items() if self.class_names.get(id_, "").casefold() != name.casefold()]
        if different:
            listed = ", ".join(f"{id_} is {names[id_]}, the model's {self.name(id_)}" for id_ in different[:5])
            raise UserError(f"{source}: its classes are not the model's: {listed}")

    def name(self, label: int) -> str:
        """Return the name of a category id; `class 7` where it has none."""
        return self.class_names.get(label, f"class {label}")
