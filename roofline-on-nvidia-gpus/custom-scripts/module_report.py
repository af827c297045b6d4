"""The time of a training step, module by module: one self-contained page about one run, or about two.

python main.py ... --module_ranges 4 --torch_profile RUN
python main.py ... --module_ranges 4 --count_costs RUN/costs.csv     adds FLOPs, bytes, roofs and memory
python module_report.py RUN -o report.html
python module_report.py RUN RUN_B -o report.html                     which modules RUN_B makes slower or faster
python module_report.py timeline.sqlite -o report.html               Nsight Systems; a folder of several: one a rank
python module_report.py profile -o report.html                       Nsight Compute's counters: collect.py's folder
python module_report.py RUN --write_limits limits.toml               records what each module takes
python module_report.py RUN --fail_above limits.toml                 for CI: exit code 1 where a module takes more
"""

import sys
from pathlib import Path

from rooflines import atomic_file
from rooflines.command_line import FlagParser, one_line_errors
from rooflines.modules.exchange_table import describe_exchanges
from rooflines.modules.limits import MARGIN, above, read_limits, write_limits
from rooflines.modules.page import page, sentences
from rooflines.modules.ranks import compare_ranks, describe_ranks
from rooflines.modules.run import read_run


def main(arguments: list[str] | None = None) -> None:
    """Read the runs, print the slowest modules, write the page."""
    parser = FlagParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder or a file, or two")
    parser.add_argument("-o", "--output", type=Path, default=Path("module_report.html"), help="(default: %(default)s)")
    parser.add_argument(
        "--depth",
        type=int,
        default=2,
        help="levels of the modules in lists and roofline (%(default)s); the treemap has all",
    )
    parser.add_argument("--write_limits", type=Path, metavar="FILE", help="record shares and counts of RUN's modules")
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help="part by which a recorded share may grow (default: %(default)s)"
    )
    parser.add_argument(
        "--fail_above",
        type=Path,
        metavar="FILE",
        help="end with exit code 1 where a module of the last run takes more than its limits in this file",
    )
    parser.add_argument(
        "--steps", type=int, help="training steps in a report of counters (default: by collect.py's record)"
    )
    args = parser.parse_args(arguments)
    if len(args.runs) > 2:
        parser.error("one run or two")
    if args.depth < 1:
        parser.error("--depth must be at least 1")
    if args.margin < 0:
        parser.error("--margin must be at least 0")
    if args.steps is not None and args.steps < 1:
        parser.error("--steps must be at least 1")
    with one_line_errors():
        limits = read_limits(args.fail_above) if args.fail_above else None
        runs = [read_run(path, args.steps) for path in args.runs]
        with atomic_file(args.output) as file:
            file.write(page(runs, args.depth).encode())
        for run in runs:
            print("\n".join([f"{run.name}: {'; '.join(run.notes)}", *sentences(run, args.depth)]))
            if len(run.processes) > 1:
                print("\n".join(describe_ranks(compare_ranks(run.processes))))
            if run.exchanges is not None:
                print("\n".join(describe_exchanges(run.exchanges)))
        print(f"wrote {args.output}")
        if args.write_limits:
            count = write_limits(runs[-1], args.depth, args.write_limits, margin=args.margin)
            print(f"wrote {args.write_limits}: limits of {count} modules and directions")
        if limits is not None and (lines := above(runs[-1], limits)):
            print("\n".join(lines))
            sys.exit(f"{runs[-1].name} takes more than {args.fail_above} allows, in {len(lines)} places")


if __name__ == "__main__":
    main()
