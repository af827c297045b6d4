"""The sizes of images and crops that the flags ask for; whatever is not given keeps DETR's proportion to the image."""

from collections.abc import Sequence
from dataclasses import dataclass

from util.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class ImageSizes:
    """Sizes in pixels, in DETR for an `image_size` of 800.

    Every property raises DatasetError for sizes below 1 or none; it names the flag.

    Attributes:
        image_size: shorter side in evaluation.
        max_size: limit of the longer side (1333).
        train_scales: shorter sides in training (480 to 800 in 11 steps).
        crop_resize: shorter sides before the random crop (400, 500, 600).
        crop_size: least and largest side of the crop (384, 600).
    """

    image_size: int = 800
    max_size: int | None = None
    train_scales: Sequence[int] | None = None
    crop_resize: Sequence[int] | None = None
    crop_size: Sequence[int] | None = None

    @property
    def shorter(self) -> int:
        """The shorter side in evaluation."""
        return _check_sizes("--image_size", [self.image_size])[0]

    @property
    def limit(self) -> int:
        """The longer side at most."""
        # 800 : 1333 is 3 : 5 rounded, from Detectron; at --image_size 400 the limit is 666.
        sizes = self._in_proportion(1333) if self.max_size is None else [self.max_size]
        return _check_sizes("--max_size", sizes)[0]

    @property
    def scales(self) -> list[int]:
        """Shorter sides in training."""
        return _check_sizes("--train_scales", self.train_scales or self._in_proportion(*range(480, 801, 32)))

    @property
    def first_scales(self) -> list[int]:
        """Shorter sides before the random crop."""
        return _check_sizes("--crop_resize", self.crop_resize or self._in_proportion(400, 500, 600))

    @property
    def crop(self) -> list[int]:
        """Least and largest side of the crop."""
        return _check_sizes("--crop_size", self.crop_size or self._in_proportion(384, 600), count=2)

    def _in_proportion(self, *sizes: float) -> list[int]:
        # By the shorter side in evaluation, so that one flag makes the whole of training smaller.
        return [max(1, round(size * self.shorter / 800)) for size in sizes]


def _check_sizes(flag: str, sizes: Sequence[int], *, count: int | None = None) -> list[int]:
    """Return `sizes` as a list, or raise DatasetError that names the flag."""
    if any(size < 1 for size in sizes) or (count is not None and len(sizes) != count):
        wanted = "pixels of at least 1" if count is None else f"{count} numbers of pixels of at least 1"
        raise DatasetError(f"{flag} takes {wanted}, got {' '.join(map(str, sizes))}")
    return list(sizes)
