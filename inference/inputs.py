"""Inputs of a prediction: files, folders, patterns, videos, camera numbers and addresses, in the order given."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlparse

from util.errors import DownloadError, UserError
from util.web.download import is_url
from util.web.fetch import fetch

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}


@dataclass(frozen=True)
class ImageInput:
    """An image file, and the name of what is made of it: a path below the folder of results."""

    path: Path
    name: Path


@dataclass(frozen=True)
class VideoInput:
    """A video file or the number of a camera, and the name of what is made of it."""

    source: Path | int
    name: Path


@dataclass(frozen=True)
class Inputs:
    """All that there is to read, and for each input that gave nothing a line that says why."""

    images: list[ImageInput]
    videos: list[VideoInput]
    failures: list[str]


def find_inputs(given: Sequence[str], *, output: Path, downloads: Path) -> Inputs:
    """Find the images and videos that `given` names.

    Folders are searched with all folders in them, hidden ones and `output` left out, for names that end like an
    image's or a video's. A file that is named is taken whatever its name; one that is found twice is taken once. Files
    of one name from different folders get numbers behind their names.

    Args:
        given: the words behind --input.
        output: the folder of results.
        downloads: a folder for what is downloaded.
    """
    inputs = Inputs([], [], [])
    names = _Names()
    seen: set[Path] = set()
    for word in given:
        # A number is a camera, unless a file is called so.
        if word.isdecimal() and not os.path.exists(word):
            inputs.videos.append(VideoInput(int(word), names.free(Path(f"camera{word}"))))
            continue
        try:
            # A folder for each address: files of one name must not be taken for each other.
            place = downloads / str(len(seen))
            # An address is asked for first: to glob, a ? in it is a pattern.
            found = [(_download(word, place), Path(_name_in(word)))] if is_url(word) else _find(word, output)
        except DownloadError as error:
            # Collected, not raised: one bad address must not cost the other inputs.
            inputs.failures.append(f"{error.line().partition('; run again')[0]}; give the path of a copy")
            continue
        if not found:
            inputs.failures.append(_why_nothing(word))
        for path, name in found:
            # Resolved, so that links and a folder named twice count once.
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if path.suffix.lower() in VIDEO_SUFFIXES:
                inputs.videos.append(VideoInput(path, names.free(name)))
            else:
                inputs.images.append(ImageInput(path, names.free(name)))
    return inputs


def name_output(inputs: Inputs, output: Path) -> tuple[Inputs, Path]:
    """Return the inputs and the folder of results; a file at `output` names the result of a single input.

    Raises UserError where there is nothing to read, where many inputs would go to one file, and where a result would
    take the place of an input.
    """
    every = [*inputs.images, *inputs.videos]
    if not every:
        raise UserError(f"nothing to read: {'; '.join(inputs.failures)}")
    # A folder may be called a.png.
    if output.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not output.is_dir():
        if len(every) > 1:
            raise UserError(f"--output {output}: a file can take one result, there are {len(every)}; give a folder")
        name = Path(output.name)
        inputs = replace(
            inputs,
            images=[replace(image, name=name) for image in inputs.images],
            videos=[replace(video, name=name) for video in inputs.videos],
        )
        output = output.parent
    for image in inputs.images:
        if (output / image.name).resolve() == image.path.resolve():
            raise UserError(f"--output {output}: the result would overwrite {image.path}; give another folder")
    for video in inputs.videos:
        if (
            isinstance(video.source, Path)
            # Videos are written as MP4, whatever they were.
            and (output / video.name).with_suffix(".mp4").resolve() == video.source.resolve()
        ):
            raise UserError(f"--output {output}: the result would overwrite {video.source}; give another folder")
    return inputs, output


def _find(word: str, output: Path) -> list[tuple[Path, Path]]:
    """Return the files that a word means, with their names in the results."""
    path = Path(word)
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        return _files_in(path, output)
    found: list[tuple[Path, Path]] = []
    # Only now is it a pattern: a file whose name has brackets was taken above.
    for match in sorted(glob.glob(word, recursive=True)):
        found += _files_in(Path(match), output) if os.path.isdir(match) else [(Path(match), Path(Path(match).name))]
    return found


def _files_in(folder: Path, output: Path) -> list[tuple[Path, Path]]:
    """Return images and videos below a folder, sorted, with their paths in it."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        # In place: os.walk goes on into what is left in its list, in this order.
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_same(Path(place, name), output)
        )
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not name.startswith("."):
                found.append((path, path.relative_to(folder)))
    return found


def _is_same(folder: Path, other: Path) -> bool:
    return folder.resolve() == other.resolve()


def _why_nothing(word: str) -> str:
    if os.path.isdir(word):
        return f"{word}: no images or videos in this folder"
    if glob.has_magic(word):
        return f"{word}: no file matches"
    return f"{word}: no such file or folder"


def _download(url: str, folder: Path) -> Path:
    """Return the file at an address, downloaded to `folder`. Raises DownloadError."""
    path = folder / _name_in(url)
    fetch(url, path, size=None, checksum=None)
    return path


def _name_in(url: str) -> str:
    return Path(unquote(urlparse(url).path)).name or "download"


class _Names:
    """Names in the folder of results, each given once: `a.jpg`, then `a-2.jpg`."""

    def __init__(self) -> None:
        self._taken: set[Path] = set()

    def free(self, wanted: Path) -> Path:
        # Without the suffix: a.jpg and a.png would share the label file a.txt.
        name, number = wanted, 1
        while name.with_suffix("") in self._taken:
            number += 1
            name = wanted.with_stem(f"{wanted.stem}-{number}")
        self._taken.add(name.with_suffix(""))
        return name
