"""Convert a DETR checkpoint for the Detectron2 wrapper: the command of the original, `python -m util.convert d2`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from util.convert.__main__ import cli


def get_args_parser() -> argparse.ArgumentParser:
    """Make the parser of this command."""
    parser = argparse.ArgumentParser("D2 model converter", description=(__doc__ or "").strip())
    parser.add_argument("--source_model", required=True, help="path or address of the DETR checkpoint")
    parser.add_argument("--output_model", required=True, help="the file to write")
    return parser


if __name__ == "__main__":
    args = get_args_parser().parse_args()
    sys.exit(cli(["d2", args.source_model, args.output_model]))
