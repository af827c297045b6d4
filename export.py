"""Write a trained model as a file for other programs: ONNX, torch.export or safetensors.

    python export.py --resume runs/mine/best.pth --format onnx model.onnx
    python export.py --resume runs/mine/best.pth --format onnx --fixed_size 800 1333 model.onnx
    python export.py --resume runs/mine/best.pth --format torch_export --data_path DIR model.pt2
    python predict.py --resume model.onnx --input photo.jpg

The file is run before it is kept: outputs and AP must be the model's. A model card is written beside it.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch starts its threads, as in main.py: waiting threads sleep, and other programs get their cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

from util.errors import UserError
from util.flags import FlagParser

if TYPE_CHECKING:
    from datasets.interface import DetectionDataset
    from inference.export.metadata import ExportMetadata
    from inference.loading import LoadedModel

#: What --format takes, and the suffix of the file.
FORMATS = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


def get_args_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = FlagParser(prog="export.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", metavar="OUT", help="the file to write; its suffix is .onnx, .pt2 or .safetensors")
    parser.add_argument(
        "--resume", required=True, metavar="FILE", help="a checkpoint of main.py, or a published file, or its address"
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="the kind of file")
    parser.add_argument(
        "--fixed_size",
        nargs=2,
        type=int,
        default=None,
        metavar=("H", "W"),
        help="batches of this height and width alone; by default all three axes of a batch are free",
    )
    parser.add_argument(
        "--padding_invariant",
        action="store_true",
        help="erase padding inside the model: in any batch an image's detections are those it has alone",
    )
    parser.add_argument(
        "--data_path",
        default=None,
        metavar="DIR",
        help="validation data to compare AP on; by default the data that the checkpoint was trained with, where it is",
    )
    parser.add_argument("--dataset_file", default=None, help="kind of the data (by default what the folder looks like)")
    parser.add_argument(
        "--check_images",
        type=int,
        default=None,
        metavar="N",
        help="compare AP on the first N validation images (all); 0 leaves AP out",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Export a model, check the file, and write it with its card. Raises UserError for mistakes of the user."""
    _check_flags(args)
    import torch

    from inference.export.formats import write_model
    from inference.loading import load_trained
    from models.detector import DETR
    from models.segmentation import DETRsegm
    from util.runs.atomic import atomic_file

    output = Path(args.output)
    cpu = torch.device("cpu")
    # None, not False: without the flag the checkpoint decides.
    model = load_trained(args.resume, device=cpu, padding_invariant=args.padding_invariant or None)
    detector = model.model
    if not isinstance(detector, DETR | DETRsegm):
        raise UserError(f"--resume {args.resume}: is an exported file; give the checkpoint that it was made from")
    # All that another program needs beside the weights: class names, sizes, what canvas it takes.
    metadata = _metadata(args, model)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:  # nothing unchecked is kept
        unchecked = Path(folder) / output.name
        start = time.monotonic()
        write_model(args.format, detector, metadata, unchecked)
        size = unchecked.stat().st_size / 1e6
        print(f"{args.format}: {size:.1f} MB in {time.monotonic() - start:.0f} s")
        card = _check(args, model, metadata, unchecked)
        # On one disk, for the temporary folder lies beside the output.
        os.replace(unchecked, output)
    page = output.with_name(f"{output.name}.md")
    with atomic_file(page) as file:
        file.write(card.encode())
    print(f"wrote {output} and {page}")


def _check_flags(args: argparse.Namespace) -> None:
    suffix = FORMATS[args.format]
    if Path(args.output).suffix != suffix:
        raise UserError(f"{args.output}: --format {args.format} writes files that end in {suffix}")
    # Stride 32: at least two cells on each side.
    if args.fixed_size and min(args.fixed_size) < 33:
        raise UserError(f"--fixed_size {' '.join(map(str, args.fixed_size))}: each must be at least 33 pixels")


def _metadata(args: argparse.Namespace, model: "LoadedModel") -> "ExportMetadata":
    from inference.export.metadata import ExportMetadata
    from inference.export.wrapper import Canvas, largest_side
    from models.panoptic import PostProcessPanoptic

    panoptic = model.postprocessors.get("panoptic")
    return ExportMetadata(
        class_names=model.class_names,
        category_ids=model.category_ids,
        things=panoptic.is_thing_map if isinstance(panoptic, PostProcessPanoptic) else None,
        architecture=model.architecture,
        image_size=model.image_size,
        max_size=model.max_size,
        canvas=Canvas(fixed=tuple(args.fixed_size) if args.fixed_size else None, most=largest_side(model.architecture)),
        source=Path(args.resume).name,
    )


def _check(args: argparse.Namespace, model: "LoadedModel", metadata: "ExportMetadata", path: Path) -> str:
    """Compare the file with the model and return its card. Raises ExportError at a difference."""
    from inference.export.check import check_average_precision, check_outputs, on_canvas_of
    from inference.export.model_card import CardFacts, write_card
    from inference.loading import load_exported
    from util.runs.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(args.resume)
    exported = load_exported(path, device=model.device)
    found = check_outputs(model.model, exported.model, metadata.canvas, image_size=metadata.image_size)
    differences = ", ".join(f"{d.output} {d.value:.1e}" for d in found)
    print(f"check: batches of 1, 2 and 5 images of other sizes; largest differences: {differences}")
    run = checkpoint.get("args")
    run = run if isinstance(run, dict) else {}
    dataset, why_not = _validation_set(args, run)
    precision, count = None, 0
    if dataset is None:
        print(f"check: AP is not compared: {why_not}")
    else:
        count = len(dataset) if args.check_images is None else min(args.check_images, len(dataset))
        # The same preprocessing and canvas on both sides: a fixed size is the user's choice, not a fault of the file.
        plain = replace(exported, model=on_canvas_of(model.model, metadata.canvas), postprocessors=model.postprocessors)
        precision = check_average_precision(plain, exported, dataset, range(count))
        for kind, (ours, theirs) in precision.items():
            print(f"check: {count} validation images: AP ({kind}) {ours:.4f} by the model, {theirs:.4f} by the file")
    recorded = checkpoint.get("ap")
    facts = CardFacts(
        file=Path(args.output).name,
        format=args.format,
        parameters=sum(tensor.numel() for tensor in checkpoint["model"].values()),
        run=run,
        precision=precision,
        images=count,
        recorded=recorded if isinstance(recorded, float) else None,
    )
    return write_card(metadata, facts)


def _validation_set(args: argparse.Namespace, run: dict[str, Any]) -> "tuple[DetectionDataset | None, str]":
    """Return the validation images to compare AP on, or None and the reason why there are none."""
    if args.check_images == 0:
        return None, "--check_images 0"
    from datasets import build_dataset, dataset_file_from_flags
    from flags import get_args_parser as training_flags

    # The data flags of the run that wrote the checkpoint, by DETR's defaults where it kept none.
    cfg = FlagParser(parents=[training_flags()]).parse_args([])
    if args.data_path is None:
        # Flags that this version does not have any more are left out.
        known = set(vars(cfg)) & set(run)
        cfg = argparse.Namespace(**vars(cfg) | {name: run[name] for name in known})
        if not run.get("dataset_file"):
            # Not an error: outputs have been compared, and a card without AP says why.
            return None, "the checkpoint names no data; give --data_path"
    else:
        cfg.data_path = args.data_path
    # A folder that was named may be of another kind than the run's.
    cfg.dataset_file = args.dataset_file or (run.get("dataset_file") if args.data_path is None else None)
    cfg.masks = False  # targets are not read; the evaluator takes the annotations
    try:
        cfg.dataset_file = cfg.dataset_file or dataset_file_from_flags(cfg)
        return build_dataset("val", cfg), ""
    except UserError as error:
        if args.data_path is not None:
            raise
        return None, f"{error.line()}; give --data_path"


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code, after one line on stderr where something is wrong."""
    try:
        main(get_args_parser().parse_args(argv))
    except UserError as error:
        print(f"export.py: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(cli())
