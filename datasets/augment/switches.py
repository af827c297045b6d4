"""The switches of augmentation, and the training transforms that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

from util.errors import DatasetError

from ..sizes import ImageSizes
from ..transforms import (
    Compose,
    RandomHorizontalFlip,
    RandomResize,
    RandomSelect,
    ToPixels,
    Transform,
    random_scaling,
    to_model_input,
)
from .color import ColorJitter
from .scale import RelativeCrop, ScaleJitter
from .turns import RandomRotate90, RandomVerticalFlip

#: Further apart, images of one pixel and of gigabytes come about.
SCALES = (0.01, 10.0)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The switches, by default DETR's augmentation. Raises DatasetError for values out of range.

    Attributes:
        flip: mirror half of the images left to right.
        vertical_flip: mirror half of them top to bottom.
        rotate90: turn by 0, 90, 180 or 270 degrees.
        color_jitter: strength of `ColorJitter`, 0 to 1; 0: none.
        mosaic: probability of four images in one (`mosaic.Mosaic`).
        scale_jitter: least and largest factor of `ScaleJitter`, which takes the place of scales and crops.
        crop_probability: part of the images that is cropped.
        crop_sides: least and largest side of `RelativeCrop`, in parts of the image's; None: DETR's crop in pixels.
    """

    flip: bool = True
    vertical_flip: bool = False
    rotate90: bool = False
    color_jitter: float = 0.0
    mosaic: float = 0.0
    scale_jitter: Sequence[float] | None = None
    crop_probability: float = 0.5
    crop_sides: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("color_jitter", "mosaic", "crop_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise DatasetError(f"--{name} {getattr(self, name)}: must be from 0 to 1")
        for name, (least, most) in (("scale_jitter", SCALES), ("crop_sides", (0.01, 1.0))):
            pair = getattr(self, name)
            # Written so that NaN fails.
            if pair is not None and not least <= pair[0] <= pair[1] <= most:
                given = " ".join(map(str, pair))
                raise DatasetError(f"--{name} {given}: must be two numbers, the lower first, from {least} to {most}")

    def turns(self) -> list[Transform]:
        """Return the transforms that move pixels without mixing them."""
        chosen: list[tuple[bool, Transform]] = [
            (self.flip, RandomHorizontalFlip()),
            (self.vertical_flip, RandomVerticalFlip()),
            (self.rotate90, RandomRotate90()),
        ]
        return [transform for on, transform in chosen if on]

    def scaling(self, sizes: ImageSizes) -> Transform:
        """Return the transform that decides on the size of the image."""
        if self.scale_jitter is not None:
            least, most = self.scale_jitter
            return ScaleJitter(least, most, sizes.shorter, sizes.limit)
        if self.crop_sides is None:
            return random_scaling(sizes, crop_probability=self.crop_probability)
        scale = RandomResize(sizes.scales, max_size=sizes.limit)
        # `p` is the probability of the first one, the image without a crop.
        return RandomSelect(scale, Compose([RelativeCrop(*self.crop_sides), scale]), p=1 - self.crop_probability)

    def colors(self) -> list[Transform]:
        """Return the transforms of colours: after the scaling, where there are the fewest pixels."""
        return [ColorJitter(self.color_jitter)] if self.color_jitter else []


#: DETR's augmentation.
PLAIN = Augmentation()


def make_training_transforms(
    augmentation: Augmentation, sizes: ImageSizes, *, fast_resize: bool = False, as_uint8: bool = False
) -> Compose:
    """Return turns, scaling, colours, and the last transform; by default those of `make_coco_transforms`.

    fast_resize: see `ToPixels`. as_uint8: see `to_model_input`. Raises DatasetError for sizes below 1.
    """
    begin = [ToPixels()] if fast_resize else []
    # Flips first, as in DETR: with its flags the same random numbers are drawn in the same order.
    middle = [*augmentation.turns(), augmentation.scaling(sizes), *augmentation.colors()]
    return Compose([*begin, *middle, to_model_input(as_uint8=as_uint8)])
