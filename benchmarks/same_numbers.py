"""Compare the logs of two runs: are all their numbers the same, but for times and memory?

    python benchmarks/same_numbers.py runs/before/log.txt runs/after/log.txt

The proof that a change alters no result: the same command before and after it, on one machine, with one seed. Numbers
are compared to the last digit. Exit code 0 where all are equal, 1 where one differs, which is then printed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

#: Parts of the names of quantities that are measured and not computed: they differ from run to run.
MEASURED = ("_time", "_memory", "_per_second", "_share", "_mfu")
#: Differences that are printed, of possibly many.
SHOWN = 5


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a log.txt. Raises SystemExit, naming the file, where it is none."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: not a run's log.txt ({error})") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise SystemExit(f"{path}: not a run's log.txt: it has no epochs")
    return [{name: row[name] for name in row if not name.endswith(MEASURED)} for row in rows]


def differences(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """Return a line for each quantity of each epoch that differs, or that the second log has lost."""
    lines = []
    for number, (old, new) in enumerate(zip(before, after)):
        for name, value in old.items():
            # As JSON, so that NaN is equal to itself.
            one, other = json.dumps(value), json.dumps(new[name]) if name in new else "nothing"
            if one != other:
                lines.append(f"epoch {number}, {name}: {one} before, {other} after")
    if len(before) != len(after):
        lines.append(f"{len(before)} epochs before, {len(after)} after")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print the verdict; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE", help="log.txt of the run before the change")
    parser.add_argument("after", type=Path, metavar="AFTER", help="log.txt of the run after it")
    args = parser.parse_args(argv)
    before, after = read_rows(args.before), read_rows(args.after)
    lines = differences(before, after)
    for line in lines[:SHOWN]:
        print(line)
    if lines:
        print(f"DIFFERENT: {len(lines)} differences")
        return 1
    added = sorted({name for row in after for name in row} - {name for row in before for name in row})
    print(f"the same: {sum(map(len, before))} quantities of {len(before)} epochs are equal to the last digit")
    if added:
        print(f"only after the change: {', '.join(added)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
