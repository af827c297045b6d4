"""One prediction from start to end: read, detect, draw, write, and tell."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from datasets.images import read_image
from util.errors import ImageError

from .choice import Choice
from .detections import Detections
from .detector import Detector
from .drawing import draw
from .inputs import ImageInput, Inputs, VideoInput
from .items import FrameTime, Item, Pictures, Writer
from .read_ahead import read_ahead
from .summary import Clock, Summary, describe_counts, in_words
from .truth import MATCH_IOU, TrueObjects, Truth, match
from .video import VideoReader


@dataclass
class Prediction:
    """The parts of a prediction.

    Attributes:
        detector: its threshold is the choice's `least`.
        choice: which detections count.
        writers: what is written.
        drawing: True where pictures are drawn.
        truth: annotations to compare with.
        every: of a video, every such frame.
    """

    detector: Detector
    choice: Choice
    writers: Sequence[Writer]
    drawing: bool = True
    truth: Truth | None = None
    every: int = 1
    clock: Clock = field(default_factory=Clock)
    summary: Summary = field(default_factory=Summary)
    matches: Counter[str] = field(default_factory=Counter)

    def run(self, inputs: Inputs) -> int:
        """Predict everything, print a line for each input and a summary; return the exit code.

        0 when all was read, 1 when something was not, 130 when stopped by the keyboard, which is how a camera ends: 0.
        """
        self.summary.failures += inputs.failures
        code = 0
        try:
            with self.detector.precision.keeping_casts():
                self._run_images(inputs.images)
                for video in inputs.videos:
                    self._run_video(video)
        except KeyboardInterrupt:
            code = 130
        finally:
            with self.clock.part("writing"):
                # Also after a Ctrl-C: what was predicted so far is kept.
                written = [words for writer in self.writers if (words := writer.close())]
        if self.truth is not None:
            self.summary.notes += self._describe_matches(self.truth.path)
        if not self.summary.objects and self.summary.images + self.summary.frames:
            self.summary.notes.append(self.choice.describe_nothing())
        for line in self.summary.lines(self.clock) + [f"wrote {words}" for words in written]:
            print(line)
        return code or (1 if self.summary.failures else 0)

    def _run_images(self, images: Sequence[ImageInput]) -> None:
        with tqdm(total=len(images), unit="image", disable=None if len(images) > 1 else True) as bar:
            items = self._read_images(images, bar)
            # Images that could not be read are left out before: batches stay full.
            while batch := list(islice(items, self.detector.batch_size)):
                for item, (found, seconds) in zip(batch, self._predict(batch)):
                    self._tell(f"{item.path}: {describe_counts(Counter(found.names))} in {seconds:.3f} s")
                    bar.update()

    def _read_images(self, images: Sequence[ImageInput], bar: tqdm) -> Iterator[Item]:
        """Yield the images that can be read, and note the others."""
        # Two batches ahead: while the model works on one, the next is decoded.
        for item in read_ahead(self._read_image, enumerate(images, start=1), count=2 * self.detector.batch_size):
            try:
                with self.clock.part("reading"):
                    yielded = item.result()
            except ImageError as error:
                self.summary.failures.append(error.line())
                bar.update()
                continue
            self.matches["unlisted"] += yielded.image_id is None
            yield yielded

    def _read_image(self, numbered: tuple[int, ImageInput]) -> Item:
        """Read one image and prepare it for the model, in a thread of its own."""
        image_id: int | None
        image_id, source = numbered
        listed = None
        if self.truth is not None:
            index = self.truth.find(source.path)
            image_id, listed = (None, None) if index is None else (self.truth.image_id(index), self.truth.size(index))
        image = read_image(source.path, described="the image", listed=listed)
        return Item(image, self.detector.resize(image), source.path, source.name, image_id)

    def _run_video(self, source: VideoInput) -> None:
        start, frames, counts = time.perf_counter(), 0, Counter[str]()
        label = f"camera {source.source}" if isinstance(source.source, int) else str(source.source)
        try:
            reader = VideoReader(source.source, every=self.every)
            with tqdm(total=reader.frames, unit="frame", desc=source.name.name, disable=None) as bar:
                items = self._read_frames(reader, source)
                # A camera's frames are shown one by one: waiting for a batch would make them late.
                size = 1 if isinstance(source.source, int) else self.detector.batch_size
                while batch := list(islice(items, size)):
                    # Frames come out in their order, so the writer of the video can go on with each.
                    for found, _ in self._predict(batch):
                        counts.update(found.names)
                        frames += 1
                        bar.update()
        except ImageError as error:
            self.summary.failures.append(error.line())
        except KeyboardInterrupt:
            # A camera has no end: Ctrl-C is how one ends it, and no failure.
            if not isinstance(source.source, int):
                raise
        if frames:
            seconds = time.perf_counter() - start
            self._tell(f"{label}: {in_words(frames, 'frame')}, {describe_counts(counts)} in {seconds:.3f} s")

    def _read_frames(self, reader: VideoReader, source: VideoInput) -> Iterator[Item]:
        frames = iter(reader)
        path = None if isinstance(source.source, int) else source.source
        # Every N-th frame at an N-th of the rate: the drawn video is as long as the original.
        rate = reader.rate / self.every
        try:
            while True:
                with self.clock.part("reading"):
                    frame = next(frames, None)
                    if frame is None:
                        return
                    pixels = self.detector.resize(frame.image)
                place = FrameTime(frame.number, frame.pts, frame.time_base, rate)
                yield Item(frame.image, pixels, path, source.name, None, place)
        finally:
            reader.close()

    def _predict(self, batch: Sequence[Item]) -> Iterator[tuple[Detections, float]]:
        """Yield what is shown of each item, and the seconds that it took."""
        before = self.clock.total
        with self.clock.part("model"):
            sizes = [(item.image.height, item.image.width) for item in batch]
            results = self.detector.detect([item.pixels for item in batch], sizes)
        # Of an image's seconds, an equal share of its batch's; drawing and writing are its own.
        share = (self.clock.total - before) / len(batch)
        for item, result in zip(batch, results):
            before = self.clock.total
            chosen = self.choice.of_all(result)
            shown = self.choice.to_show(chosen)
            self._write(item, chosen, shown)
            self.summary.add(shown, is_frame=item.frame is not None)
            yield shown, share + self.clock.total - before

    def _write(self, item: Item, chosen: Detections, shown: Detections) -> None:
        with self.clock.part("drawing"):
            truth = self._compare(item, shown)
            pictures: Pictures = {}
            if self.drawing:
                pictures = draw(item, shown, truth, self.truth.class_names if self.truth else {})
        with self.clock.part("writing"):
            for writer in self.writers:
                writer.write(item, chosen if writer.complete else shown, pictures)

    def _compare(self, item: Item, shown: Detections) -> TrueObjects | None:
        """Return the true objects of an item, counted against what was found; None where they are not known."""
        # Frames of a video share a path, and annotations are of images.
        index = None if self.truth is None or item.path is None or item.frame else self.truth.find(item.path)
        if self.truth is None or index is None:
            return None
        truth = self.truth.objects(index, item.image)
        hit, taken = match(shown, truth)
        self.matches.update({"found": int(taken.sum()), "missed": int((~taken).sum()), "false": int((~hit).sum())})
        return truth

    def _describe_matches(self, path: Path) -> list[str]:
        count = self.matches
        lines = [
            f"against {path}: {count['found']} objects found, {count['missed']} missed, {count['false']} detections "
            f"false (IoU {MATCH_IOU})"
        ]
        if count["unlisted"]:
            lines.append(f"{count['unlisted']} of the images are not in {path}: without truth, and not in --json")
        return lines

    def _tell(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)
