"""Facts that an exported file holds about itself: classes, preparation of images, architecture; all of them strings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from models.config import Architecture
from util.errors import CheckpointError
from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD

from .wrapper import Canvas


@dataclass(frozen=True, kw_only=True)
class ExportMetadata:
    """Facts that travel in an exported file; each is one JSON value under its name, but for `preprocessing`.

    Attributes:
        class_names: by category id.
        category_ids: those of labels 0, 1, ... of a model trained with --dense_labels; None where labels are the ids.
        things: of a panoptic model, by category id, True for a thing; else None.
        architecture: the model's.
        image_size, max_size: images are resized to this shorter side, the longer one at most `max_size`; with a fixed
            canvas they are resized to fit inside it instead.
        canvas: the sizes of batches that the file takes.
        source: name of the checkpoint it was made from.
    """

    #: What `to_strings` writes.
    NAMES: ClassVar = ("class_names", "category_ids", "things", "architecture", "preprocessing", "outputs", "source")

    class_names: Mapping[int, str]
    category_ids: Sequence[int] | None
    things: Mapping[int, bool] | None
    architecture: Architecture
    image_size: int
    max_size: int | None
    canvas: Canvas
    source: str

    def preprocessing(self) -> dict[str, Any]:
        """Return in words and numbers what has to be done with an image."""
        return {
            "color": "RGB",
            "fixed_size": self.canvas.fixed,
            "image_size": self.image_size,
            "max_size": self.max_size,
            "scale": 1 / 255,
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "padding": "zeros below and to the right, after normalisation; mask is true there",
            "least_side": self.canvas.least,
            "most_side": self.canvas.most,
        }

    def to_strings(self) -> dict[str, str]:
        """Return one JSON text for each fact."""
        facts = {
            "class_names": self.class_names,
            "category_ids": None if self.category_ids is None else list(self.category_ids),
            "things": self.things,
            "architecture": asdict(self.architecture),
            "preprocessing": self.preprocessing(),
            "outputs": f"pred_logits (batch, queries, classes + 1), {self._last_class()}; pred_boxes (batch, "
            "queries, 4), center x, center y, width, height in 0..1 of the image without padding; with masks "
            "pred_masks (batch, queries, height / 4, width / 4), logits over the canvas",
            "source": self.source,
        }
        # ONNX, safetensors and torch.export all carry text only.
        return {name: json.dumps(value) for name, value in facts.items()}

    def _last_class(self) -> str:
        focal = "classes are sigmoids, and the last takes no part"
        return focal if self.architecture.focal else "the last class is 'no object'"

    @classmethod
    def from_strings(cls, texts: Mapping[str, str], path: object) -> "ExportMetadata":
        """Read what `to_strings` wrote. Raises CheckpointError, which names `path`, for a file of another program."""
        try:
            facts = {name: json.loads(texts[name]) for name in cls.NAMES if name not in ("preprocessing", "outputs")}
            known = {field.name for field in fields(Architecture)}
            steps = json.loads(texts["preprocessing"])
            return cls(
                class_names=_by_id(facts["class_names"]),
                category_ids=facts["category_ids"],
                things=None if facts["things"] is None else _by_id(facts["things"]),
                # A file of a newer version may have fields that this one does not know.
                architecture=Architecture(**{k: v for k, v in facts["architecture"].items() if k in known}),
                image_size=steps["image_size"],
                max_size=steps["max_size"],
                canvas=Canvas(_pair(steps["fixed_size"]), steps["least_side"], steps["most_side"]),
                source=facts["source"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: does not say its classes and preprocessing; only files that export.py wrote are read"
            ) from error


def _pair(size: list[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size[0], size[1])


def _by_id(values: Mapping[str, Any]) -> dict[int, Any]:
    """JSON turns the numbers of category ids into text."""
    return {int(id_): value for id_, value in values.items()}
