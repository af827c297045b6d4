"""What `python roofline.py` and `python roofline_pu.py` do alone: a table in, one chart out."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import UserError


def main(draw: Callable[..., Any], description: str, *, suffix: str) -> None:
    """Draw each run of the tidy tables or reports named on the command line; a mistake is one line and exit code 2."""
    from ..read.inputs import load_runs
    from .style import save

    parser = argparse.ArgumentParser(
        description=description.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, help="kernels.csv, kernels.parquet, or Nsight Compute's CSVs")
    parser.add_argument("--run", help="draw only this run")
    parser.add_argument("--roofs", type=Path, help="roofs file (default: from the report, or gpus.toml)")
    parser.add_argument("--gpu", help="name of the GPU in gpus.toml")
    parser.add_argument("-o", "--output_dir", type=Path, default=Path(), help="folder for the charts (default: here)")
    args = parser.parse_args()
    try:
        loaded = load_runs(args.paths, roofs_file=args.roofs, gpu=args.gpu)
        names = [args.run] if args.run else loaded.runs
        if args.run and args.run not in loaded.runs:
            raise UserError(f"--run {args.run}: there are {', '.join(loaded.runs)}")
        for run in names:
            figure = draw(loaded.rows[loaded.rows["run"] == run], loaded.roofs[run], title=run)
            for path in save(figure, args.output_dir / f"{run}_{suffix}"):
                print(path)
    except UserError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(error.exit_code)
