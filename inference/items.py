"""Items of a prediction: one image or video frame after the other, and where its results go."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from .detections import Detections


@dataclass(frozen=True)
class FrameTime:
    """The place of a frame in its video.

    Attributes:
        number: counted from 0, frames left out too.
        pts: its time in units of `time_base` seconds.
        rate: frames a second of what is written.
    """

    number: int
    pts: int
    time_base: Fraction
    rate: Fraction

    @property
    def seconds(self) -> float:
        """Return the time from the start of the video."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True)
class Item:
    """An image to predict.

    Attributes:
        image: RGB pixels.
        pixels: the same at the size that the model sees, (3, H, W) uint8.
        path: its file; None for a frame of a camera.
        name: its results lie under this path below the folder of results.
        image_id: its id in COCO's results; None for a frame, and for an image that --truth does not list.
        frame: of a video, its place there; None for an image.
    """

    image: Image.Image
    pixels: Tensor
    path: Path | None
    name: Path
    image_id: int | None
    frame: FrameTime | None = None

    def result_name(self, suffix: str, *, extra: str = "") -> Path:
        """Return the name of a file about this image: `a.jpg` to `a.txt`, a frame 12 of `v.mp4` to `v_000012.txt`."""
        frame = "" if self.frame is None else f"_{self.frame.number:06}"
        return self.name.with_name(f"{self.name.stem}{frame}{extra}{suffix}")


#: Pictures of an item by what is put behind its name: "" and, of a panoptic model, "_panoptic".
Pictures = dict[str, Image.Image]


class Writer(Protocol):
    """Writes the results of one item after the other."""

    #: True if it gets all detections, however little they score, False if those above the threshold.
    complete: bool

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Write what was found in an item."""

    def close(self) -> str | None:
        """Finish the files and return a few words on them; None if nothing was written."""
