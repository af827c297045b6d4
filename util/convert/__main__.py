"""Convert a checkpoint to the names and files of another program, and back.

python -m util.convert hf best.pth FOLDER      for Hugging Face's DetrForObjectDetection.from_pretrained(FOLDER)
python -m util.convert hf FOLDER model.pth     and back
python -m util.convert d2 best.pth model.pth   for the Detectron2 wrapper in d2/; back with --back
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..flags import FlagParser
from ..nested_tensor import NestedTensor
from ..web.download import download, is_url

#: Modules of this package by subcommand, with what --help says of them. Each has a function
#: `convert(source, output, *, back, architecture)`, which writes `output` and returns lines to print.
TARGETS = {
    "hf": ("huggingface", "Hugging Face: a folder of model.safetensors, config.json and preprocessor_config.json"),
    "d2": ("detectron2", "the Detectron2 wrapper in d2/"),
}


def get_args_parser() -> FlagParser:
    """Make the parser of this command."""
    parser = FlagParser(prog="python -m util.convert", description=(__doc__ or "").splitlines()[0])
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True)
    for name, (_, text) in TARGETS.items():
        target = targets.add_parser(name, help=text, description=text)
        target.add_argument("source", metavar="IN", help="what to convert; its kind decides the direction")
        target.add_argument("output", metavar="OUT", type=Path, help="the file or folder to write")
        target.add_argument("--back", action="store_true", help="convert to a checkpoint of main.py, whatever IN seems")
    return parser


def architecture(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the flags that decide on a checkpoint's model, by name; errors are those of `architecture_of`."""
    from models.checkpoint_config import architecture_of

    return asdict(architecture_of(checkpoint, path)[0])


def outputs(checkpoint: Mapping[str, Any], path: Path, images: Tensor, padding: Tensor) -> dict[str, Tensor]:
    """Run the model of a checkpoint on a batch (B, 3, H, W) with padding (B, H, W), and return its outputs."""
    from models.checkpoint_config import model_from_checkpoint

    model = model_from_checkpoint(dict(checkpoint), path)[0].eval()
    with torch.no_grad():
        return model(NestedTensor(images, padding))


def _check(source: Path, output: Path) -> str:
    from .huggingface_check import check

    return check(*((source, output) if source.is_dir() else (output, source)), outputs)


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0, or 2 after one line on stderr."""
    args = get_args_parser().parse_args(argv)
    try:
        module = import_module(f".{TARGETS[args.target][0]}", __package__)
        source = download(args.source) if is_url(args.source) else Path(args.source)
        lines = module.convert(source, args.output, back=args.back, architecture=architecture)
        if args.target == "hf":
            lines.append(_check(source, args.output))
    except UserError as error:
        print(f"convert: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(cli())
