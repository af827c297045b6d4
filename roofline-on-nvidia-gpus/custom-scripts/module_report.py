"""The time of a training step, module by module: one self-contained page about one run, or about two.

python main.py ... --module_ranges 4 --torch_profile RUN
python main.py ... --module_ranges 4 --count_costs RUN/costs.csv     adds FLOPs, bytes, roofs and memory
python module_report.py RUN                                          what takes longest, in words
python module_report.py RUN -o report.html                           and the page
python module_report.py RUN RUN_B -o report.html                     which modules RUN_B makes slower or faster
python module_report.py timeline.sqlite -o report.html               Nsight Systems; a folder of several: one a rank
python module_report.py profile -o report.html                       Nsight Compute's counters: collect.py's folder
python module_report.py --over_time RUN... -o report.html            phases over epochs (main.py --timing)
python module_report.py RUN --write_limits limits.toml               records what each module takes
python module_report.py RUN --fail_above limits.toml                 for CI: exit code 1 where a module takes more
"""

import sys
from pathlib import Path

from rooflines import RoofError, atomic_file
from rooflines.command_line import FlagParser, one_line_errors
from rooflines.modules.exchange_table import describe_exchanges
from rooflines.modules.limits import MARGIN, above, read_limits, write_limits
from rooflines.modules.page import over_time_page, page, sentences
from rooflines.modules.ranks import compare_ranks, describe_ranks
from rooflines.modules.run import Run, read_run
from rooflines.modules.snapshot import peak_section, read_peak
from rooflines.modules.trajectory import describe_timed, read_timed

#: Printed where no page was asked for.
PAGE = "-o FILE writes this as a page with charts"


def _parser() -> FlagParser:
    parser = FlagParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder or a file, or two")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the page, too; without it, the text alone"
    )
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
    parser.add_argument(
        "--memory_snapshot", type=Path, metavar="FILE", help="add what holds the GPU's memory at its peak, by this file"
    )
    parser.add_argument(
        "--over_time",
        action="store_true",
        help="only the phases of each epoch, of any number of runs: timing.json, with costs.csv in the same folder",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Read the runs, print the slowest modules, write the page."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.over_time:
        _over_time(args.runs, args.output)
        return
    for wrong, why in (
        (len(args.runs) > 2, "one run or two"),
        (args.depth < 1, "--depth must be at least 1"),
        (args.margin < 0, "--margin must be at least 0"),
        (args.steps is not None and args.steps < 1, "--steps must be at least 1"),
    ):
        if wrong:
            parser.error(why)
    with one_line_errors():
        # Before the runs, which take seconds to read: a mistake in the file is told at once.
        limits = read_limits(args.fail_above) if args.fail_above else None
        runs = [read_run(path, args.steps) for path in args.runs]
        more = [peak_section(read_peak(args.memory_snapshot))] if args.memory_snapshot else []
        if args.output:
            _write(args.output, page(runs, args.depth, more=more))
        for run in runs:
            print("\n".join(_lines(run, args.depth)))
        print(f"wrote {args.output}" if args.output else PAGE)
        if args.write_limits:
            count = write_limits(runs[-1], args.depth, args.write_limits, margin=args.margin)
            print(f"wrote {args.write_limits}: limits of {count} modules and directions")
        if limits is not None and (lines := above(runs[-1], limits)):
            print("\n".join(lines))
            # A text as exit code goes to stderr and makes the code 1.
            sys.exit(f"{runs[-1].name} takes more than {args.fail_above} allows, in {len(lines)} places")


def _lines(run: Run, depth: int) -> list[str]:
    """Return what is printed about a run."""
    lines = [f"{run.name}: {'; '.join(run.notes)}", *sentences(run, depth)]
    if len(run.processes) > 1:
        lines += describe_ranks(compare_ranks(run.processes))
    if run.exchanges is not None:
        lines += describe_exchanges(run.exchanges)
    return lines


def _over_time(folders: list[Path], output: Path | None) -> None:
    """Print the runs' phases over their epochs, and write their page."""
    with one_line_errors():
        runs = []
        for folder in folders:
            if (run := read_timed(folder)) is None:
                raise RoofError(
                    f"{folder}: no timing.json with epochs; main.py --timing --output_dir {folder} writes it"
                )
            runs.append(run)
            print("\n".join(describe_timed(run)))
        if output:
            _write(output, over_time_page(runs))
        print(f"wrote {output}" if output else PAGE)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
