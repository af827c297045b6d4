"""Flags, implementations to compare, a table of medians, and the dated JSON: for all benchmarks."""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Scripts are run by their path, and a benchmark's own folder is not where the modules lie.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from util.runs.run_info import run_info

#: Flags that name a checkout to compare with, and its name in the figures.
REFERENCES = ("before", "original")
#: Seconds or other quantities by row of the table (what was asked) and by implementation.
Medians = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Implementation:
    """A checkout to measure, and flags that it alone is given."""

    checkout: Path
    flags: tuple[str, ...] = ()


def benchmark_parser(
    name: str, doc: str, *, original: bool = True, threads: bool = True, also: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """Make a parser with --output.

    Args:
        name: of the benchmark and of its JSON.
        doc: the script's text, whose first line describes the parser.
        original: add --original and --before.
        threads: add --threads.
        also: add --also with this default, which may be empty; None: do not.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if original:
        parser.add_argument("--original", type=Path, help="a checkout of facebookresearch/detr to compare with")
        parser.add_argument("--before", type=Path, help="an older checkout of ours to compare with: git worktree add")
    if also is not None:
        parser.add_argument(
            "--also",
            action="append",
            metavar="FLAGS",
            help="measure ours with these flags, too: --also='--amp bf16'; may be repeated, empty for none "
            f"(default: {list(also)})",
        )
        parser.set_defaults(also_default=tuple(also))
    if threads:
        parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    parser.add_argument("--output", type=Path, help=f"JSON file (default: {name}-DATE.json beside the scripts)")
    return parser


def implementations(args: argparse.Namespace) -> dict[str, Implementation]:
    """Return what to compare by name: ours, ours with each `--also`, and the checkouts of `--before`, `--original`."""
    given: list[str] | None = getattr(args, "also", None)
    # As argparse's default the list would be added to, not replaced, by the first --also.
    also: Sequence[str] = getattr(args, "also_default", ()) if given is None else given
    found = {"ours": Implementation(ROOT)}
    found |= {f"ours {flags}": Implementation(ROOT, tuple(flags.split())) for flags in also if flags}
    for name in REFERENCES:
        checkout: Path | None = getattr(args, name)
        if checkout is not None:
            found[name] = Implementation(checkout.resolve())
    return found


def print_medians(medians: Medians, unit: str, *, against: Sequence[str] = REFERENCES) -> None:
    """Print a line for each row and implementation, with its ratio to each one of `against` that was measured."""
    width = max(12, *(len(name) for values in medians.values() for name in values))
    for row, values in medians.items():
        for name, value in values.items():
            # A reference is not compared with a reference.
            others = [other for other in against if other in values and other != name and name not in against]
            ratios = [f", {values[other] / value:.2f} times as fast as {other}" for other in others]
            print(f"{row:>24} {name:>{width}}: median {value:.4g} {unit}{''.join(ratios)}")


def write_report(
    name: str,
    args: argparse.Namespace,
    *,
    medians: Medians,
    unit: str,
    better: str = "lower",
    variant: str = "",
    **parts: Any,
) -> Path:
    """Write `name`[-`variant`]-DATE.json; absolute folders among the flags are replaced by their last part.

    Args:
        name: of the benchmark.
        args: its flags, with `output`.
        medians: the figures that `compare.py` compares.
        unit: of the medians.
        better: "lower" or "higher".
        variant: part of the file's name that keeps results of other flags apart.
        parts: further content, by key.

    Returns:
        The path.
    """
    date = datetime.date.today().isoformat()
    command = " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    report = {"date": date, "command": command, "better": better, "unit": unit, "medians": medians, **parts}
    # Paths are written as text; their folders, which are of one machine, are cut off below.
    text = json.dumps(report | {"machine": run_info(args)}, indent=1, default=str) + "\n"
    output = args.output or Path(__file__).with_name(f"{'-'.join(filter(None, (name, variant, date)))}.json")
    output.write_text(without_folders(text, args))
    print(f"wrote {output}")
    return output


def without_folders(text: str, args: argparse.Namespace) -> str:
    """The text with the absolute paths among the flags cut to their last part; the original's to its name."""
    paths = {key: value for key, value in vars(args).items() if isinstance(value, Path)}
    # The longest first: one may lie in another, whose name would be cut out of its middle.
    for key, path in sorted(paths.items(), key=lambda item: -len(str(item[1]))):
        for form in {str(path), str(path.resolve())}:
            if Path(form).is_absolute():
                text = text.replace(form, "facebookresearch-detr" if key == "original" else path.name)
    return text
