"""Panoptic quality of predictions that arrive batch by batch and rank by rank, and their files in COCO's format."""

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from util.dist.distributed import all_gather, is_main_process, print_once
from util.panoptic_png import decode_segments
from util.runs.atomic import atomic_file

from .annotations.panoptic import read_panoptic_file
from .coco_panoptic import read_segments
from .scoring.hotcoco_panoptic import match_by_hotcoco
from .scoring.panoptic_quality import Counts, match_segments, panoptic_quality


class PanopticEvaluator:
    """Collect predictions with `update`, then `synchronize_between_processes` and `summarize`.

    Args:
        ann_file, ann_folder: the panoptic annotations and their PNGs.
        data: what `read_panoptic_file` gave for `ann_file`, where that is known; it is left as it is.
        output_dir: where the predictions' PNGs and `predictions.json` go; None or '': nowhere.

    Only images passed to `update` are scored, each once, so a subset is scored by its own segments.
    """

    def __init__(
        self,
        ann_file: str | os.PathLike,
        ann_folder: str | os.PathLike,
        output_dir: str | os.PathLike | None = "panoptic_eval",
        *,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        data = data or read_panoptic_file(Path(ann_file))
        self.ann_folder = Path(ann_folder)
        self.annotations = {annotation["image_id"]: annotation for annotation in data["annotations"]}
        self.images = {image["id"]: image for image in data["images"]}
        self.categories = {category["id"]: category for category in data["categories"]}
        self.output_dir = Path(output_dir) if output_dir else None
        if self.output_dir is not None:
            self.output_dir.mkdir(parents=True, exist_ok=True)  # on every rank: none may wait for another's folder
        self._images: dict[int, tuple[dict[str, Any], dict[int, Counts]]] = {}
        #: What `summarize` returned, with the classes that occur as a list with their names.
        self.quality: dict[str, Any] = {}

    def update(self, predictions: Iterable[Mapping[str, Any]]) -> None:
        """Add predictions, each `image_id`, `png_string`, `segments_info` and optionally `file_name`.

        An image seen before is left as it was. Raises ValueError for an image id without ground truth and for a
        image of another size, ImageError where the ground truth's PNG cannot be read.
        """
        for prediction in predictions:
            image_id = prediction["image_id"]
            if image_id in self._images:
                continue
            if image_id not in self.annotations:
                raise ValueError(f"image id {image_id} is not among the panoptic annotations")
            file_name = prediction.get("file_name", f"{image_id:012d}.png")
            if self.output_dir is not None:
                with atomic_file(self.output_dir / file_name, sync=False) as file:
                    file.write(prediction["png_string"])
            segments = [dict(segment) for segment in prediction["segments_info"]]
            row = {"image_id": image_id, "file_name": file_name, "segments_info": segments}
            # Matched at once, and the pixels forgotten: those of 5,000 images would take gigabytes.
            counts = self._by_hotcoco(row)
            if counts is None:
                counts = self._match(row, prediction["png_string"])
            self._images[image_id] = row, counts

    def _by_hotcoco(self, row: dict[str, Any]) -> dict[int, Counts] | None:
        if self.output_dir is None:  # it reads files
            return None
        image_id = row["image_id"]
        return match_by_hotcoco(
            self.annotations[image_id],
            row,
            image=self.images[image_id],
            categories=list(self.categories.values()),
            folders=(self.ann_folder, self.output_dir),
        )

    def _match(self, row: dict[str, Any], png: bytes) -> dict[int, Counts]:
        annotation = self.annotations[row["image_id"]]
        truth = read_segments(
            self.ann_folder / annotation["file_name"], described=f"the segments of image id {row['image_id']}"
        )
        found = decode_segments(io.BytesIO(png))
        return match_segments(truth.numpy(), annotation["segments_info"], found, row["segments_info"])

    def synchronize_between_processes(self) -> None:
        """Give every process the predictions of all; an image that several had counts once."""
        merged: dict[int, tuple] = {}
        for images in all_gather(self._images):
            # Of an image that two processes had, the lower rank's counts: never both, which would count it twice.
            merged = images | merged
        self._images = dict(sorted(merged.items()))

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Predictions as `predictions.json` lists them under "annotations"."""
        return [row for row, _ in self._images.values()]

    def summarize(self) -> dict[str, dict]:
        """Compute panoptic quality; rank 0 prints it as a table and writes `predictions.json`.

        Returns `All`, `Things` and `Stuff`, each {pq, sq, rq (0..1), n (classes that occur)}, and `per_class`, the same
        without n by category id.
        """
        if self.output_dir is not None and is_main_process():
            with atomic_file(self.output_dir / "predictions.json") as file:
                file.write(json.dumps({"annotations": self.predictions}).encode())
        total: dict[int, Counts] = {}
        for _, counts in self._images.values():
            for category, count in counts.items():
                total.setdefault(category, Counts())
                total[category] += count
        things = {id_ for id_, category in self.categories.items() if category["isthing"]}
        groups = {"All": self.categories, "Things": things, "Stuff": self.categories.keys() - things}
        result: dict[str, dict] = {name: panoptic_quality(total, sorted(ids)) for name, ids in groups.items()}
        result["per_class"] = {
            # As panopticapi: classes that do not occur are listed with zeros, and left out of the means.
            id_: (total.get(id_, Counts()).quality() or {"pq": 0.0, "sq": 0.0, "rq": 0.0})
            for id_ in self.categories
        }
        self.quality = result | {"per_class": self._occurring(result, total)}
        print_once(self._table(result, total))
        return result

    def _occurring(self, result: dict[str, dict], total: dict[int, Counts]) -> list[dict[str, Any]]:
        """List the classes that occur, with their names."""
        names = {id_: str(category.get("name", id_)) for id_, category in self.categories.items() if id_ in total}
        return [{"id": id_, "name": name, **result["per_class"][id_]} for id_, name in names.items()]

    def _table(self, result: dict[str, dict], total: dict[int, Counts]) -> str:
        """Format PQ, SQ and RQ in per cent, then the classes that occur."""
        names = {id_: str(category.get("name", id_)) for id_, category in self.categories.items()}
        shown = {names[id_]: result["per_class"][id_] | {"n": ""} for id_ in names if id_ in total}
        width = max(map(len, [*shown, "Things"]))
        lines = [f"Panoptic quality, images: {len(self._images)}", f"{'':<{width}}     PQ     SQ     RQ  classes"]
        for name, q in ({name: result[name] for name in ("All", "Things", "Stuff")} | shown).items():
            numbers = "  ".join(f"{100 * q[key]:5.1f}" for key in ("pq", "sq", "rq"))
            lines.append(f"{name:<{width}}  {numbers}  {q['n']:>7}".rstrip())
        return "\n".join(lines)
