"""Videos and cameras through PyAV: upright frames in, frames with the same times out."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from util.errors import ImageError

NEEDS_AV = "reading videos needs PyAV: pip install av"
#: Encoders by choice; the second is in every build of FFmpeg.
ENCODERS = ("libx264", "mpeg4")
#: What a camera is opened with, by the system; without a number in it, it is a name.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}


@dataclass(frozen=True)
class VideoFrame:
    """A frame as people see it: RGB, upright.

    Attributes:
        image: the pixels.
        number: of the frame, from 0, those left out counted.
        pts: its time in units of `time_base` seconds.
        time_base: seconds.
    """

    image: Image.Image
    number: int
    pts: int
    time_base: Fraction

    @property
    def time(self) -> float:
        """Seconds from the start of the stream."""
        return float(self.pts * self.time_base)


class VideoReader:
    """The frames of a video file, or of a camera by its number, every `every`-th of them.

    Raises ImageError, with the name, where the file cannot be read or PyAV is missing.
    """

    def __init__(self, source: Path | int, *, every: int = 1) -> None:
        self.source = source
        self.every = every
        self._av = import_av(str(source))
        try:
            self._container = self._open()
            if not self._container.streams.video:
                raise ImageError(f"{source}: holds no video")
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{self.label}: cannot be read ({_reason(error)})") from None
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"  # several frames at once, which some codecs do not do by default

    @property
    def label(self) -> str:
        """Name of the source in messages."""
        return f"camera {self.source}" if isinstance(self.source, int) else str(self.source)

    @property
    def rate(self) -> Fraction:
        """Frames a second, those left out counted; 25 where the file does not say."""
        return Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)

    @property
    def frames(self) -> int | None:
        """The number of frames that `__iter__` gives, if the file says it."""
        return -(-self._stream.frames // self.every) or None

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield frames. Raises ImageError where the file breaks off or is damaged."""
        try:
            for number, frame in enumerate(self._container.decode(self._stream)):
                # Frames in between are decoded too, because later ones build on them, but not converted.
                if number % self.every == 0:
                    time_base = frame.time_base or self._stream.time_base or 1 / self.rate
                    # Some streams carry no times: then the frame's number and the mean rate tell them.
                    pts = round(number / self.rate / time_base) if frame.pts is None else frame.pts
                    yield VideoFrame(_upright(frame), number, pts, Fraction(time_base))
        except self._av.FFmpegError as error:
            raise ImageError(f"{self.label}: cannot be read further ({_reason(error)})") from None

    def close(self) -> None:
        """Close the file, or let the camera go."""
        self._container.close()

    def _open(self) -> Any:
        if not isinstance(self.source, int):
            return self._av.open(str(self.source))
        kind, name = CAMERAS.get(sys.platform, CAMERAS["linux"])
        return self._av.open(name.format(self.source), format=kind)


class VideoWriter:
    """An mp4 file; the size is that of the first frame, cut to even sides. It gets its name when it is whole.

    Raises ImageError where PyAV is missing.
    """

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self.path = path
        self._av = import_av(str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not `atomic_file`: FFmpeg opens the file itself.
        self._unfinished = path.with_name(f".{path.name}.unfinished")
        self._container = self._av.open(str(self._unfinished), mode="w", format="mp4")
        self._rate = rate
        self._stream: Any = None
        self._last = -1

    def write(self, image: Image.Image, *, pts: int, time_base: Fraction) -> None:
        """Add a frame, to be seen `pts` * `time_base` seconds after the start."""
        if self._stream is None:
            encoder = next(name for name in ENCODERS if name in self._av.codecs_available)
            self._stream = self._container.add_stream(encoder, rate=self._rate)
            self._stream.width, self._stream.height = (side - side % 2 for side in image.size)
            self._stream.pix_fmt = "yuv420p"  # what every player shows; colours by 2 x 2 pixels, so sides are even
            self._stream.codec_context.time_base = time_base
        size = (self._stream.width, self._stream.height)
        if image.size != size:
            image = image.crop((0, 0, *size))
        frame = self._av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        frame.time_base = time_base
        # Times must rise; a damaged file can repeat one.
        self._last = frame.pts = max(pts, self._last + 1)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index."""
        if self._stream is not None:
            # None flushes: encoders hold back frames that later ones may refer to.
            self._container.mux(self._stream.encode(None))
        self._container.close()
        os.replace(self._unfinished, self.path)


def import_av(purpose: str) -> ModuleType:
    """Return PyAV. Raises ImageError, which begins with `purpose`, where it is not installed."""
    try:
        import av
    except ImportError:
        raise ImageError(f"{purpose}: {NEEDS_AV}") from None
    return av


def _upright(frame: Any) -> Image.Image:
    """RGB image of a frame, turned as its file says."""
    pixels = frame.to_ndarray(format="rgb24")
    # Degrees counter-clockwise, by which players turn the picture.
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4)))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
