"""Time of panoptic quality by image: ours, and hotcoco's on the same files.

    python benchmarks/panoptic.py --annotations DIR/panoptic_val2017.json     its PNGs in DIR/panoptic_val2017

The predictions are the truth moved to the right by 6 pixels, and without every tenth segment. Ours reads the truth's
PNG and the prediction's bytes; hotcoco reads both from disk. Times are of the processor, for hotcoco has threads.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import benchmark_parser, print_medians, write_report
from datasets.panoptic_eval import PanopticEvaluator
from util.panoptic_png import decode_segments, encode_segments


def predictions(annotations: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return a prediction for each image of the truth, as a postprocessor makes them."""
    found = []
    for annotation in annotations:
        # Shifted by six pixels, so that few overlaps are whole.
        ids = np.roll(decode_segments(folder / annotation["file_name"]), 6, axis=1)
        # Every tenth segment is missed, its pixels left to nobody.
        kept = [s for number, s in enumerate(annotation["segments_info"]) if number % 10 != 9]
        ids[~np.isin(ids, [s["id"] for s in kept])] = 0
        segments = [{"id": s["id"], "category_id": s["category_id"]} for s in kept if (ids == s["id"]).any()]
        row = {"image_id": annotation["image_id"], "file_name": annotation["file_name"], "segments_info": segments}
        found.append(row | {"png_string": encode_segments(ids)})
    return found


def ours(truth: Path, folder: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return our panoptic quality."""
    evaluator = PanopticEvaluator(truth, folder, None)
    evaluator.update(found)
    return evaluator.summarize()


def hotcocos(truth: Path, folder: Path, found: Path) -> dict[str, Any]:
    """Return hotcoco's, of predictions on disk."""
    from hotcoco.panoptic import PanopticEval  # not above: it is not needed to import this file

    evaluation = PanopticEval(
        str(truth), str(found / "found.json"), gt_folder=str(folder), pred_folder=str(found / "found")
    )
    evaluation.run()
    return evaluation.results()


def timed(act: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Return the processor's seconds of a call, and its result."""
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        result = act()
    return time.process_time() - began, result


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser("panoptic", __doc__ or "", original=False, threads=False)
    parser.add_argument("--annotations", type=Path, required=True, help="panoptic annotations of COCO's format")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Measure both in turn, and write the report."""
    args = parse()
    truth, folder = args.annotations, args.annotations.with_suffix("")
    annotations = json.loads(truth.read_text())["annotations"]
    found = predictions(annotations, folder)
    times: dict[str, list[float]] = {"ours": [], "hotcoco": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # hotcoco reads PNGs from a folder; ours takes their bytes, as an evaluation during training does.
        (place / "found").mkdir()
        for row in found:
            (place / "found" / row["file_name"]).write_bytes(row["png_string"])
        rows = [{key: row[key] for key in ("image_id", "file_name", "segments_info")} for row in found]
        (place / "found.json").write_text(json.dumps({"annotations": rows}))
        for _ in range(args.rounds):
            mine, our_quality = timed(lambda: ours(truth, folder, found))
            theirs, quality = timed(lambda: hotcocos(truth, folder, place))
            times["ours"].append(1000 * mine / len(found))
            times["hotcoco"].append(1000 * theirs / len(found))
    row = f"{len(found)} images"
    medians = {row: {name: statistics.median(values) for name, values in times.items()}}
    print_medians(medians, "ms an image", against=("hotcoco",))
    parts = {"all": times, "ours": our_quality["All"], "hotcoco": quality["All"]}
    write_report("panoptic", args, medians=medians, unit="ms an image", **parts)


if __name__ == "__main__":
    main()
