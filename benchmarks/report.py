"""What benchmarks share: their common flags, a table of medians, and the dated JSON, in which no folder of the machine stands."""

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from util.run_info import run_info  # noqa: E402 (the project is not installed, the lines above find it)

#: Seconds or other quantities by row of the table (what was asked) and by implementation.
Medians = dict[str, dict[str, float]]


def benchmark_parser(name: str, doc: str) -> argparse.ArgumentParser:
    """A parser with --original, --threads and --output, described by the first line of the script's text."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--original", type=Path, help="a checkout of facebookresearch/detr to compare with")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    parser.add_argument("--output", type=Path, help=f"JSON file (default: {name}-DATE.json beside the scripts)")
    return parser


def checkouts(args: argparse.Namespace) -> dict[str, Path]:
    """Folders by implementation: ours and, where `--original` names it, the original's."""
    return {"ours": ROOT} | ({"original": args.original.resolve()} if args.original else {})


def offers(flag: str) -> bool:
    """Whether our command line has this flag; benchmarks of older commits go on without."""
    from flags import get_args_parser

    return any(flag in action.option_strings for action in get_args_parser()._actions)


def print_medians(medians: Medians, unit: str, *, against: str = "original") -> None:
    """A line for each row and implementation, with the ratio where there is one to compare with."""
    for row, values in medians.items():
        for name, value in values.items():
            ratio = f", {values[against] / value:.2f} times as fast as {against}" if against in values else ""
            print(f"{row:>24} {name:>12}: median {value:.4g} {unit}{'' if name == against else ratio}")


def write_report(
    name: str, args: argparse.Namespace, *, medians: Medians, unit: str, variant: str = "", **parts: Any
) -> Path:
    """Write `name`[-`variant`]-DATE.json: date, command, medians (the lower the better), whatever `parts` holds, and the machine.

    Returns its path. Absolute folders among the flags are replaced by their last part.
    """
    date = datetime.date.today().isoformat()
    command = " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    report = {"date": date, "command": command, "better": "lower", "unit": unit, "medians": medians, **parts}
    text = json.dumps(report | {"machine": run_info(args)}, indent=1, default=str) + "\n"
    output = args.output or Path(__file__).with_name(f"{'-'.join(filter(None, (name, variant, date)))}.json")
    output.write_text(without_folders(text, args))
    print(f"wrote {output}")
    return output


def without_folders(text: str, args: argparse.Namespace) -> str:
    """The text with the absolute paths among the flags cut to their last part; the original's to its name."""
    paths = {key: value for key, value in vars(args).items() if isinstance(value, Path)}
    for key, path in sorted(paths.items(), key=lambda item: -len(str(item[1]))):
        for form in {str(path), str(path.resolve())}:
            if Path(form).is_absolute():
                text = text.replace(form, "facebookresearch-detr" if key == "original" else path.name)
    return text
