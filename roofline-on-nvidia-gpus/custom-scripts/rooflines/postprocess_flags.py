"""The flags of postprocess.py, and those that contradict each other."""

import argparse
import re
from pathlib import Path

from .command_line import FlagParser

#: Kinds of the charts' files unless --formats says otherwise.
FORMATS = ("png", "svg")


def parse_args(arguments: list[str] | None, *, description: str | None) -> argparse.Namespace:
    """Parse the flags; `description` stands above their help."""
    parser = FlagParser(description=description)
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="FILE_OR_FOLDER", help="default: output*.csv in this folder"
    )
    parser.add_argument("-o", "--output_dir", type=Path, default=Path(), help="where to write (default: this folder)")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="two files or folders: before and after"
    )
    parser.add_argument(
        "--roofs", type=Path, help="roofs file (format: README.md); without it: from the report, else gpus.toml"
    )
    parser.add_argument("--gpu", help="the GPU's name in gpus.toml, where the report does not have it")
    parser.add_argument("--per_launch", action="store_true", help="a row per launch in the table instead of sums")
    parser.add_argument("--formats", nargs="+", choices=(*FORMATS, "pdf"), default=list(FORMATS), help="of the charts")
    parser.add_argument(
        "--label", default="", help="text after the title of every chart, e.g. where the data comes from"
    )
    parser.add_argument(
        "--algorithmic",
        type=Path,
        metavar="FILE",
        help="table of main.py --count_costs: also the ratio of measured to algorithmic FLOPs and bytes, by section",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=1,
        help="training steps that the measured files hold, for --algorithmic (%(default)s)",
    )
    parser.add_argument("--no_charts", action="store_true", help="only the table and the summary")
    parser.add_argument("--kernel", metavar="REGEX", help="draw only kernels whose name, short or full, matches")
    parser.add_argument("--section", nargs="+", metavar="NAME", help="draw only these sections")
    parser.add_argument(
        "--fail_below",
        type=_percent,
        metavar="PERCENT",
        help="end with exit code 1 when a run's time is above its roofs: least time over time, e.g. 60%%",
    )
    parser.add_argument("--flops", "--debug", action="store_true", help="also print each kernel's FLOPs by unit")
    args = parser.parse_args(arguments)
    _check(parser, args)
    return args


def _percent(text: str) -> float:
    """Return 0.6 for "60%", "60" or "60 %"."""
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        # Falls through to the one refusal below, which has words for both mistakes.
        value = -1.0
    # 0 would be met by every run: who asks for it has made a mistake.
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage between 0 and 100, e.g. 60%")
    return value


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    if args.compare and args.paths:
        parser.error("--compare A B takes the two inputs: leave out the others")
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    if args.compare and args.algorithmic:
        parser.error("--algorithmic is not drawn into --compare: give the measured files alone")
    if args.compare and args.fail_below:
        parser.error("--fail_below judges one run, not --compare")
    try:
        re.compile(args.kernel or "")
    except re.error as error:
        parser.error(f"--kernel {args.kernel}: no regular expression ({error})")
