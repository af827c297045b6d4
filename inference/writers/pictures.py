"""Drawn images and videos, and what is inside the boxes as images of their own."""

import math
import re
from pathlib import Path
from typing import Any

from PIL import Image

from util.runs.atomic import atomic_file

from ..detections import Detections
from ..items import Item, Pictures
from ..summary import in_words
from ..video import VideoWriter

#: Kinds of files that drawn images are written as; others become PNGs.
WRITABLE = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class PictureFiles:
    """Drawn images under their own names below `folder`; the frames of a video become an mp4 file."""

    complete = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.videos: list[Path] = []
        self._video: VideoWriter | None = None

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Write the pictures of an image, or add that of a frame to its video."""
        if item.frame is not None:
            return self._write_frame(item, pictures[""])
        suffix = item.name.suffix if item.name.suffix.lower() in WRITABLE else ".png"
        for extra, picture in pictures.items():
            save_image(picture, self.folder / item.result_name(suffix, extra=extra))
        self.count += 1

    def _write_frame(self, item: Item, picture: Image.Image) -> None:
        assert item.frame is not None
        path = self.folder / item.name.with_suffix(".mp4")
        # Frames of a video come one after the other: another name means that the last video is whole.
        if self._video is None or self._video.path != path:
            self._end_video()
            self._video = VideoWriter(path, rate=item.frame.rate)
            self.videos.append(path)
        self._video.write(picture, pts=item.frame.pts, time_base=item.frame.time_base)

    def _end_video(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = None

    def close(self) -> str | None:
        """End the last video."""
        self._end_video()
        words = [f"{in_words(self.count, 'image')} in {self.folder}"] if self.count else []
        return ", ".join(words + [str(path) for path in self.videos]) or None


class Crops:
    """The inside of each box as an image, in a folder for each class: `cup/photo_2.jpg`."""

    complete = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Write what is in the boxes of an item; a part of a pixel counts as the whole."""
        suffix = item.name.suffix if item.name.suffix.lower() in WRITABLE else ".png"
        for number, (name, box) in enumerate(zip(found.names, found.boxes.tolist()), start=1):
            # Outwards on all sides: a box of 0.4 pixels is a crop of one pixel, never an empty image.
            left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
            right, bottom = min(item.image.width, math.ceil(box[2])), min(item.image.height, math.ceil(box[3]))
            if left < right and top < bottom:  # a box may lie outside of the image
                path = self.folder / _folder_of(name) / item.result_name(suffix, extra=f"_{number}")
                save_image(item.image.crop((left, top, right, bottom)), path)
                self.count += 1

    def close(self) -> str | None:
        """Return how many crops were written."""
        return f"{in_words(self.count, 'crop')} in {self.folder}" if self.count else None


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image as its suffix says, creating folders: losses of JPEG do not show, PNGs are quick to write."""
    # PNG level 1 instead of 6; quality 95 is the highest that Pillow's documentation recommends.
    options: dict[str, Any] = {"compress_level": 1} if path.suffix.lower() == ".png" else {"quality": 95}
    kind = Image.registered_extensions()[path.suffix.lower()]  # a file without a name does not tell it
    with atomic_file(path, sync=False) as file:
        image.save(file, format=kind, **options)  # formats leave alone what they do not know


def _folder_of(name: str) -> str:
    """Return a class name as the name of a folder."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name).strip(" .") or "_"
