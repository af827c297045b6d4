"""Nsight Compute's CSVs in; a tidy table, a text summary and roofline charts out.

    python postprocess.py                          output*.csv in this folder
    python postprocess.py FILE_OR_FOLDER ...       CSVs of any shape, .ncu-rep, tidy tables (kernels.csv) to draw again
    python postprocess.py --compare A B            two runs over each other: time won or lost by kernel family
    python postprocess.py costs.csv                the count of main.py --count_costs costs.csv: no GPU, no counters
    python postprocess.py FILE --algorithmic costs.csv      measured over counted FLOPs and bytes, by section

Writes kernels.csv, kernels.parquet, kernels.roofs.toml, summary.txt, roofline.html (interactive, one file, no network),
and per run <run>_all, <run>_PU_HBM, <run>_time, <run>_sections as PNG and SVG.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from rooflines import RoofError, atomic_file
from rooflines.command_line import one_line_errors
from rooflines.postprocess_flags import parse_args
from rooflines.read.inputs import Loaded, load_runs
from rooflines.read.runs import telling_part


def write_tables(loaded: Loaded, output_dir: Path) -> list[Path]:
    """Write table, summary and roofs of everything loaded; return the paths. Prints the summary."""
    from rooflines.roofs import write_roofs
    from rooflines.summary import summarise
    from rooflines.table import write_parquet, write_table

    output_dir.mkdir(parents=True, exist_ok=True)
    paths = [output_dir / "kernels.csv", output_dir / "kernels.parquet", output_dir / "summary.txt"]
    write_table(loaded.rows, paths[0])
    missing = write_parquet(loaded.rows, paths[1])
    if missing:
        print(missing)
        del paths[1]
    text = summarise(loaded)
    with atomic_file(paths[-1]) as file:
        file.write(text.encode())
    print(text)
    # One roofs file stands beside one table, so it is written only where all runs have the same roofs; read back, roofs
    # of another run's clock or GPU would be drawn as this one's.
    first = next(iter(loaded.roofs.values()))
    if (first.bandwidth or first.peak) and len({roofs.source for roofs in loaded.roofs.values()}) == 1:
        paths.append(output_dir / "kernels.roofs.toml")
        write_roofs(first, paths[-1])
    return paths


def draw_all(loaded: Loaded, output_dir: Path, formats: tuple[str, ...], label: str = "") -> list[Path]:
    """Draw every chart of every run, and the interactive page; return the paths."""
    import roofline
    import roofline_pu
    from rooflines.charts import sections as sections_chart
    from rooflines.charts import time as time_chart
    from rooflines.charts.html import write_html
    from rooflines.charts.style import save
    from tqdm import tqdm

    # matplotlib and the modules that draw are imported above only now: --no_charts and --help do not wait for them.
    jobs = [
        (run, suffix, module)
        for run in loaded.runs
        for suffix, module in (
            ("all", roofline),
            ("PU_HBM", roofline_pu),
            ("time", time_chart),
            ("sections", sections_chart),
        )
        if suffix != "sections" or loaded.rows.loc[loaded.rows["run"] == run, "section"].nunique() > 1
    ]
    paths = []
    for run, suffix, module in tqdm(jobs, desc="charts", disable=None, leave=False):
        # Without a time there is no rate, and a logarithmic axis has no place for 0.
        rows = loaded.rows[(loaded.rows["run"] == run) & (loaded.rows["time_s"] > 0)]
        if rows.empty:
            print(f"{run}: no kernel has a time, so there is no chart")
            continue
        figure = module.draw(rows, loaded.roofs[run], title=f"{run}{label}")
        paths += save(figure, output_dir / f"{_file_name(run)}_{suffix}", formats)
    return [*paths, write_html(loaded, output_dir / "roofline.html")]


def _file_name(run: str) -> str:
    # A run's name may hold slashes or colons, which name folders and drives; letters of any script are kept.
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in run) or "run"


def _names(paths: list[Path]) -> str:
    """Return the names, each chart's once: a, b, c_all.{png,svg}."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        stem, _, kind = path.name.rpartition(".")
        kinds.setdefault(stem, []).append(kind)
    return ", ".join(
        f"{stem}.{kind[0] if len(kind) == 1 else '{' + ','.join(kind) + '}'}" for stem, kind in kinds.items()
    )


def compare(
    loaded: tuple[Loaded, Loaded],
    output_dir: Path,
    formats: tuple[str, ...],
    label: str = "",
    *,
    marks: tuple[str, str] = ("A", "B"),
) -> list[Path]:
    """Draw A against B, print the time won or lost by family, and return the paths.

    marks: tell the two apart where their runs have the same name.
    """
    from rooflines.charts import compare as compare_chart
    from rooflines.charts.style import save, seconds

    names, roofs = [], []
    for side in loaded:
        names.append(" + ".join(side.runs))
        roofs.append(side.roofs[side.runs[0]])
    a, b = (side.rows.assign(run=name) for side, name in zip(loaded, names))
    if names[0] == names[1]:
        # The same run before and after a change: its name alone would stand twice in the legend.
        names = [f"{name} ({mark})" for name, mark in zip(names, marks)]
    for family, row in compare_chart.differences(a, b).iterrows():
        print(
            f"{str(family):<18} {seconds(row['time_a']):>9} -> {seconds(row['time_b']):>9}  "
            f"{1e6 * row['change']:+12.1f} us"
        )
    figure = compare_chart.draw(a, b, *roofs, names=(names[0], f"{names[1]}{label}"))
    output_dir.mkdir(parents=True, exist_ok=True)
    return save(figure, output_dir / "compare", formats)


def compare_costs(loaded: Loaded, costs: Path, steps: int) -> pd.DataFrame:
    """Return the ratios of what was measured to what `main.py --count_costs` counted."""
    from rooflines.algorithmic import ratios, read_costs

    return ratios(loaded.rows, read_costs(costs), steps=steps)


def write_ratios(table: pd.DataFrame, output_dir: Path) -> Path:
    """Print the ratios, write them as algorithmic.csv and return its path."""
    from rooflines.algorithmic import describe

    print(describe(table))
    path = output_dir / "algorithmic.csv"
    with atomic_file(path) as file:
        file.write(table.to_csv(index=False, lineterminator="\n").encode())
    return path


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says; a mistake of the user is one line and exit code 2."""
    args = parse_args(arguments, description=__doc__)
    with one_line_errors():
        # Files that cannot be read end the program before anything is written.
        loaded = None if args.compare else _load(args, args.paths)
        paths = _compare(args) if loaded is None else _draw(args, loaded)
        print(f"wrote {len(paths)} files to {args.output_dir.resolve()}: {_names(paths)}")
        if loaded is not None and args.fail_below and not judge(loaded, args.fail_below):
            # After the files are written: who looks into a failed check wants the charts.
            sys.exit(1)


def _compare(args: argparse.Namespace) -> list[Path]:
    a, b = (_load(args, [path]) for path in args.compare)
    # The two sides are mostly of one machine and warn alike: each line once, in order.
    for warning in dict.fromkeys(a.warnings + b.warnings):
        print(f"note: {warning}")
    # Runs before and after often have one name in two folders: then the part of the path that differs tells them apart.
    folders = [path.resolve() if path.is_dir() else path.resolve().parent for path in args.compare]
    marks = tuple(telling_part(folder, folders) for folder in folders) if folders[0] != folders[1] else ("A", "B")
    return compare((a, b), args.output_dir, tuple(args.formats), _label(args), marks=(marks[0], marks[1]))


def _draw(args: argparse.Namespace, loaded: Loaded) -> list[Path]:
    # --kernel and --section narrow what is drawn, not the table: kernels.csv always holds everything.
    shown = select(loaded, args.kernel, args.section)
    costs = compare_costs(loaded, args.algorithmic, args.steps) if args.algorithmic else None
    paths = write_tables(loaded, args.output_dir)
    if args.flops:
        print_flops(loaded)
    if not args.no_charts:
        paths += draw_all(shown, args.output_dir, tuple(args.formats), _label(args))
    return paths if costs is None else [*paths, write_ratios(costs, args.output_dir)]


def select(loaded: Loaded, kernel: str | None, sections: list[str] | None) -> Loaded:
    """Return what is to be drawn: kernels whose name matches, of some sections. Raises RoofError for nothing."""
    rows = loaded.rows
    if kernel is not None:
        rows = rows[rows["name"].astype(str).str.contains(kernel) | rows["kernel"].astype(str).str.contains(kernel)]
        if rows.empty:
            raise RoofError(f"--kernel {kernel}: no kernel has such a name")
    if sections is not None:
        # Of all rows, not of those that --kernel left, or the message would deny sections that exist.
        known = list(dict.fromkeys(map(str, loaded.rows["section"])))
        for section in sections:
            if section not in known:
                raise RoofError(f"--section {section}: there are {', '.join(filter(None, known)) or 'none'}")
        rows = rows[rows["section"].isin(sections)]
        if rows.empty:
            raise RoofError(f"--section {' '.join(sections)}: no kernel of --kernel {kernel} is in it")
    return Loaded(rows, loaded.roofs, loaded.warnings)


def print_flops(loaded: Loaded) -> None:
    """Print each kernel's FLOPs by unit, the longest first."""
    from rooflines.analysis import by_name
    from rooflines.charts.style import shorten, si
    from rooflines.columns import FLOP_COLUMNS, UNIT_NAMES

    # One row a kernel over all sections: emptied, the section does not split them.
    for _, row in by_name(loaded.rows.assign(section="")).iterrows():
        parts = [f"{UNIT_NAMES[unit]} {si(row[name], 'FLOP')}" for unit, name in FLOP_COLUMNS.items() if row[name] > 0]
        print(f"{row['run']}  {shorten(row['name'], 40):<40}  {', '.join(parts) or '-'}  ({row['flop_source']})")


def judge(loaded: Loaded, least: float) -> bool:
    """Say of each run whether its time is near enough to its roofs. Raises RoofError where that cannot be judged."""
    from rooflines.analysis import analyse, by_name
    from rooflines.charts.style import percent

    good = True
    for run in loaded.runs:
        rows = analyse(by_name(loaded.rows[loaded.rows["run"] == run]), loaded.roofs[run])
        # Kernels whose FLOPs or bytes nobody measured have no least time; counted as 0 they would make a run look worse
        # than it is.
        known = rows[rows["least_s"].notna() & (rows["time_s"] > 0)]
        if known.empty:
            raise RoofError(f"--fail_below: {run} has no roofs, no times, or no FLOPs and bytes to judge it by")
        # Sums, not a mean of shares: a kernel counts by its time.
        found = float(known["least_s"].sum() / known["time_s"].sum())
        if found < least:
            print(f"{run}: {percent(found)} of the roof, --fail_below {percent(least)}", file=sys.stderr)
            good = False
    return good


def _load(args: argparse.Namespace, paths: list[Path]) -> Loaded:
    return load_runs(paths, roofs_file=args.roofs, gpu=args.gpu, per_launch=args.per_launch)


def _label(args: argparse.Namespace) -> str:
    return f", {args.label}" if args.label else ""


if __name__ == "__main__":
    main()
