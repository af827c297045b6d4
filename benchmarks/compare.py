"""Compare two results of one benchmark: what became slower, what faster, and what is too close to say.

    python benchmarks/compare.py benchmarks/train_step-2026-11-25.json benchmarks/train_step-2026-12-01.json

A line for each median that both files hold: the value in A, in B, and their ratio. A change within `--tolerance` (10
%) is noise. Where both hold the original's time too, the comparison is of our time over the original's, which another
machine or a busier hour changes less. Differences between the runs (machine, flags, commit) are printed first. Exit
code 1 when something became slower, so that a script can stop there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What both implementations are measured against where a file has it.
REFERENCE = "original"


@dataclass(frozen=True)
class Change:
    """One quantity in both files; `ratio` is B over A, turned so that above 1 is worse."""

    name: str
    before: float
    after: float
    ratio: float

    def verdict(self, tolerance: float) -> str:
        """Worse, better or the same."""
        if self.ratio > 1 + tolerance:
            return "WORSE"
        return "better" if self.ratio < 1 / (1 + tolerance) else "same"


def read_report(path: Path) -> dict[str, Any]:
    """Return a benchmark's JSON. Raises SystemExit, naming the file, where it is none."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: not a benchmark's JSON ({error})") from None
    if not isinstance(report, dict) or "medians" not in report:
        raise SystemExit(f"{path}: holds no medians, so there is nothing to compare")
    return report


def values_of(report: dict[str, Any]) -> dict[str, float]:
    """Return a report's numbers by their path ("batch 1/ours"): our times over the original's, where it has those."""
    values = {}
    for path, leaves in _groups(report["medians"]):
        reference = leaves.get(REFERENCE)
        for name, value in leaves.items():
            if not reference:
                values["/".join([*path, name])] = value
            elif name != REFERENCE:
                values["/".join([*path, f"{name} over {REFERENCE}"])] = value / reference
    return values


def _groups(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, float]]]:
    """Yield the numbers that lie side by side in a tree of dictionaries, with the path to them."""
    leaves = {key: value for key, value in tree.items() if isinstance(value, (int, float))}
    if leaves:
        yield path, leaves
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _groups(value, (*path, key))


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Return the quantities that both reports hold, the worst change first."""
    higher_is_better = "higher" in (before.get("better"), after.get("better"))
    old, new = values_of(before), values_of(after)
    found = []
    for name in old.keys() & new.keys():
        # A ratio to 0 says nothing, and a median of 0 is a measurement that failed.
        if old[name] > 0 and new[name] > 0:
            ratio = old[name] / new[name] if higher_is_better else new[name] / old[name]
            found.append(Change(name, old[name], new[name], ratio))
    return sorted(found, key=lambda change: (-change.ratio, change.name))


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what else differs between two runs, a line each: machine, versions, commit and flags."""
    lines = []
    for part in ("machine", "versions", "git", "flags"):
        old, new = (report.get("machine", {}).get(part) or {} for report in (before, after))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and key not in ("branch", "status", "output"):
                lines.append(f"{part} {key}: {old.get(key)} in A, {new.get(key)} in B")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print both files' differences and changes; 1 where something became worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    parser.add_argument("--tolerance", type=float, default=0.1, help="a change up to this part is noise (%(default)s)")
    args = parser.parse_args(argv)
    before, after = read_report(args.before), read_report(args.after)
    for line in differences(before, after):
        print(line)
    found = changes(before, after)
    if not found:
        raise SystemExit(f"{args.before} and {args.after} hold no quantity of the same name")
    verdicts = [change.verdict(args.tolerance) for change in found]
    width = max(len(change.name) for change in found)
    for change, verdict in zip(found, verdicts):
        ratio = change.after / change.before
        print(f"{change.name:<{width}}  {change.before:10.4g}  {change.after:10.4g}  x{ratio:.3f}  {verdict}")
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("WORSE", "same", "better"))
    print(f"{len(found)} quantities: {counts}")
    # Exit code 1 for scripts, as diff has it; what is better is no reason to stop.
    return int("WORSE" in verdicts)


if __name__ == "__main__":
    sys.exit(main())
