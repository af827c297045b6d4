"""Files that an evaluation leaves in a run's folder, and the report that is made of it, at once or later."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from torch.utils.data import Subset

from building import Setup
from datasets import unwrap
from datasets.annotations import read_annotations
from datasets.annotations.classes import ChosenClasses, words_of
from datasets.coco_eval import CocoEvaluator
from datasets.interface import DatasetOrSubset
from datasets.scoring.backends import why_not_hotcoco
from flags import get_args_parser
from run_data import build_split
from settings import flag_origins, typed_flags
from util.dist.distributed import is_main_process, print_once
from util.draw.evaluated import save_evaluated
from util.draw.sheets import draw_evaluation
from util.errors import DatasetError, UserError
from util.plot_utils import read_log
from util.report.evaluated import Evaluated, OpenImage
from util.report.single import write_report
from util.runs.atomic import atomic_file
from util.runs.plain import to_plain
from util.runs.run_folder import PREDICTIONS, write_results
from util.runs.run_info import run_info, write_run_info

#: Flags, versions and numbers of the last `--eval` into a folder; run.json is that of the training, if there was one.
INFO_FILE = "eval.json"


def evaluate_once(
    run: Setup, evaluate_now: Callable[[], tuple[dict[str, Any], CocoEvaluator]], *, trained: bool
) -> None:
    """Evaluate, and write what `finish_evaluation` writes; say so if the weights are of no training."""
    if run.folder is not None and not _trained_there(run.folder):
        origins = flag_origins(run.typed, run.cfg)
        write_run_info(run.folder, run.cfg, typed=typed_flags(run.typed), origins=origins)
    if not trained:
        print_once("note: --eval without --resume measures a model that has not been trained")
    finish_evaluation(run, *evaluate_now())


def _trained_there(folder: Path) -> bool:
    """Return True where `run.json` is that of a training, which an evaluation leaves alone."""
    try:
        return not _read_json(folder / "run.json")["flags"]["eval"]
    except (UserError, KeyError, TypeError):
        return False


def draw_last(run: Setup, evaluator: CocoEvaluator | None) -> None:
    """Draw detections of an evaluation, if there was one, in the process that writes files."""
    if run.folder is not None and evaluator is not None:
        draw_evaluation(run.folder / "detections.png", run.data.val, evaluator)
    if run.cfg.save_images and evaluator is not None and is_main_process():
        folder = Path(run.cfg.save_images)
        count = save_evaluated(folder, run.data.val, evaluator, threshold=run.cfg.threshold)
        print(f"wrote {count} images to {folder}")


def finish_evaluation(run: Setup, stats: Mapping[str, Any], evaluator: CocoEvaluator) -> None:
    """Write an evaluation's files, images and, with --report, its report; only in the process that writes files.

    Raises UserError, after everything else is written, for a report that cannot be made.
    """
    if run.folder is None:
        return draw_last(run, evaluator)
    paths = write_results(run.folder, evaluator)
    # Generated data has no file.
    ann_file = unwrap(run.data.val).ann_file
    info = run_info(run.cfg, typed=typed_flags(run.typed))
    # What a report made later needs and flags do not tell; absolute, for it may be made from another folder.
    info |= {
        "annotations": str(ann_file.resolve()) if ann_file else None,
        "stats": to_plain(dict(stats)),
        "panoptic": evaluator.panoptic_quality,
    }
    with atomic_file(run.folder / INFO_FILE) as file:
        file.write(json.dumps(info, indent=2).encode() + b"\n")
    print(f"wrote {', '.join(map(str, [*paths, run.folder / INFO_FILE]))}")
    draw_last(run, evaluator)
    if run.cfg.report:
        began = time.monotonic()
        results = {kind: evaluator.results(kind) for kind in evaluator.iou_types}
        evaluated = _with_dataset(run.folder, results, info, run.data.val)
        page, numbers = write_report(evaluated, run.folder / "report")
        print(f"wrote {page} and {numbers} in {time.monotonic() - began:.0f} s")


def load_run(folder: Path, name: str) -> Evaluated:
    """Read the evaluation that is in a run's folder, under a name for its page.

    The images are opened where the flags of the evaluation say; without them the annotations alone are read. Raises
    UserError for a folder without predictions, and for data that is not there.
    """
    if reason := why_not_hotcoco():
        raise UserError(f"a report needs hotcoco: {reason}")
    info = _read_info(folder)
    # By the flags, not by the files that are there: those of an earlier evaluation with masks may lie beside.
    kinds = ("bbox", "segm") if info["flags"].get("masks") else ("bbox",)
    results = {kind: _read_json(folder / PREDICTIONS[kind]) for kind in kinds}
    # Defaults below the recorded ones: a flag that is newer than the run has a value.
    flags = argparse.Namespace(**vars(get_args_parser().parse_args([])) | info["flags"])
    try:
        dataset = build_split(flags.split, flags)
    except DatasetError as error:
        annotations = Path(info.get("annotations") or "")
        if flags.dataset_file == "coco_panoptic" or not annotations.is_file():
            raise
        classes = None if flags.classes is None else ChosenClasses(words=words_of(flags.classes))
        truth = read_annotations(annotations, num_classes=classes, need_masks=flags.masks).to_coco()
        # Which part --fast_dev_run left cannot be asked of a dataset that is not there: images with a detection stand
        # in for it.
        image_ids = sorted({result["image_id"] for result in results["bbox"]} & truth.imgs.keys())
        note = f"The data is not where the evaluation found it: {error.line()}."
        return _evaluated(folder, results, info, truth=truth, image_ids=image_ids, notes=[note], name=name)
    return _with_dataset(folder, results, info, dataset, name=name)


def _with_dataset(
    folder: Path, results: Mapping[str, Any], info: Mapping[str, Any], dataset: DatasetOrSubset, *, name: str = ""
) -> Evaluated:
    """Return an evaluation of a dataset, or of the part of it that --fast_dev_run left."""
    indices: list[int] = list(range(len(dataset)))
    source: Any = dataset
    while isinstance(source, Subset):
        # From the outermost subset inwards, until the numbers are those of the dataset itself.
        indices = [source.indices[k] for k in indices]
        source = source.dataset
    # COCO's image id to place in the whole dataset: predictions know the id alone.
    places = {source.image_id(k): k for k in indices}
    return _evaluated(
        folder,
        results,
        info,
        truth=source.coco,
        image_ids=list(places),
        open_image=lambda image_id: source.load(places[image_id])[0],
        name=name,
    )


def _evaluated(
    folder: Path,
    results: Mapping[str, Any],
    info: Mapping[str, Any],
    *,
    truth: COCO,
    image_ids: list[int],
    open_image: OpenImage | None = None,
    notes: list[str] | None = None,
    name: str = "",
) -> Evaluated:
    notes, log = notes or [], []
    # A folder of an evaluation alone has no curves.
    if (folder / "log.txt").is_file():
        try:
            log = read_log(folder / "log.txt")
        except UserError as error:
            notes.append(f"No training curves: {error.line()}.")
    return Evaluated(
        name=name or folder.resolve().name,
        truth=truth,
        results=results,
        image_ids=image_ids,
        open_image=open_image,
        max_dets=info["flags"].get("max_dets", 100),
        facts=_facts(info),
        log=log,
        panoptic=info.get("panoptic"),
        notes=notes,
    )


def _facts(info: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what a page says about the evaluation."""
    return {
        "checkpoint": info["flags"].get("resume") or None,
        "evaluated": str(info.get("date", ""))[:16].replace("T", " ") or None,
        # `or` at each step: a key may be there with nothing in it.
        "commit": ((info.get("git") or {}).get("sha") or "")[:10] or None,
        "command": info.get("command"),
    }


def _read_info(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a report is made of a run's folder")
    if not (folder / PREDICTIONS["bbox"]).is_file():
        raise UserError(
            f"{folder}: no {PREDICTIONS['bbox']}; python main.py --eval --resume {folder / 'best.pth'} "
            f"--output_dir {folder} writes it"
        )
    # Evaluations made before eval.json left run.json alone.
    for name in (INFO_FILE, "run.json"):
        if (folder / name).is_file():
            info = _read_json(folder / name)
            if isinstance(info, dict) and isinstance(info.get("flags"), dict):
                return info
            raise UserError(f"{folder / name}: no flags of a run in it; evaluate again")
    raise UserError(f"{folder}: neither {INFO_FILE} nor run.json says what was evaluated; evaluate again")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; evaluate again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); evaluate again") from None
