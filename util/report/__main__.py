"""Make a report of an evaluation that is in a run's folder, or compare two of them.

python -m util.report RUN                  RUN/report/index.html and report.json, as main.py --eval --report
python -m util.report RUN_A RUN_B          RUN_B/comparison/: what changed from A to B
"""

import sys
import time
from pathlib import Path

from reports import load_run

from ..errors import UserError
from ..flags import FlagParser
from .comparison import SAMPLES, write_comparison
from .single import COUNT, write_report


def get_args_parser() -> FlagParser:
    """Make the parser of this command."""
    parser = FlagParser(prog="python -m util.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", metavar="RUN", type=Path, help="folder that main.py --eval --output_dir wrote into")
    parser.add_argument("other", metavar="RUN_B", type=Path, nargs="?", help="compare RUN with it")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the page goes (report or comparison in a run)"
    )
    parser.add_argument("--images", default=COUNT, type=int, metavar="N", help="images of each kind (%(default)s)")
    parser.add_argument(
        "--bootstrap",
        default=SAMPLES,
        type=int,
        metavar="N",
        help="of a comparison: samples of the images for the intervals; 0: no intervals (%(default)s)",
    )
    return parser


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0, or 2 after one line on stderr."""
    args = get_args_parser().parse_args(argv)
    began = time.monotonic()
    try:
        for flag in ("images", "bootstrap"):
            if getattr(args, flag) < 0:
                raise UserError(f"--{flag} {getattr(args, flag)}: must be at least 0")
        if args.other is None:
            evaluated = load_run(args.run, args.run.resolve().name)
            paths = write_report(evaluated, args.output or args.run / "report", count=args.images)
        else:
            a, b = (load_run(folder, name) for folder, name in _named([args.run, args.other]))
            folder = args.output or args.other / "comparison"
            paths = write_comparison(a, b, folder, count=args.images, samples=args.bootstrap)
    except UserError as error:
        print(f"report: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code
    print(f"wrote {' and '.join(map(str, paths))} in {time.monotonic() - began:.0f} s")
    return 0


def _named(folders: list[Path]) -> list[tuple[Path, str]]:
    """Return folders with names that tell them apart."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return list(zip(folders, names))
    return [(folder, str(folder)) for folder in folders]


if __name__ == "__main__":
    sys.exit(cli())
