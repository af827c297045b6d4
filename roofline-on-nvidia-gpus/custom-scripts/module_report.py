"""The time of a training step, module by module: one self-contained page about one run, or about two.

python main.py ... --module_ranges 4 --torch_profile RUN
python main.py ... --module_ranges 4 --count_costs RUN/costs.csv     adds FLOPs, bytes, roofs and memory
python module_report.py RUN -o report.html
python module_report.py RUN RUN_B -o report.html                     which modules RUN_B makes slower or faster
"""

from pathlib import Path

from rooflines import atomic_file
from rooflines.command_line import FlagParser, one_line_errors
from rooflines.modules.page import page, sentences
from rooflines.modules.run import read_run


def main(arguments: list[str] | None = None) -> None:
    """Read the runs, print the slowest modules, write the page."""
    parser = FlagParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder with a trace, or two")
    parser.add_argument("-o", "--output", type=Path, default=Path("module_report.html"), help="(default: %(default)s)")
    parser.add_argument(
        "--depth",
        type=int,
        default=2,
        help="levels of the modules in lists and roofline (%(default)s); the treemap has all",
    )
    args = parser.parse_args(arguments)
    if len(args.runs) > 2:
        parser.error("one run or two")
    if args.depth < 1:
        parser.error("--depth must be at least 1")
    with one_line_errors():
        runs = [read_run(path) for path in args.runs]
        with atomic_file(args.output) as file:
            file.write(page(runs, args.depth).encode())
        for run in runs:
            print("\n".join([f"{run.name}: {'; '.join(run.notes)}", *sentences(run, args.depth)]))
        print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
