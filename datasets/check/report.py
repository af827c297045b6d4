"""Report of a dataset's check: numbers for each split and findings, as text and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..annotations.findings import Action, Finding, Findings
from ..layout import DatasetSplits, Split

#: Edges of the histogram in pixels: the side of the square with a box's area. COCO's sizes meet at 32 and 96.
SIZE_EDGES = (0, 8, 16, 32, 64, 96, 128, 256, 512, np.inf)
BAR_WIDTH = 20
VERDICTS = {
    Action.KEPT: "sound: loading changes nothing",
    Action.REPAIRED: "repaired: it loads, with the repairs above",
    Action.REFUSED: "refused: mend what is refused above first",
}


@dataclass
class SplitReport:
    """Numbers and findings of a split.

    `counts` (n,) are objects in each image; `sides` (m,) the sides in pixels of the squares with the boxes' areas;
    `labels` (m,) their classes. All are empty when the annotations are refused: `error` has the line that training
    would end with.
    """

    name: str
    split: Split
    images: int = 0
    findings: Findings = field(default_factory=Findings)
    class_names: dict[int, str] = field(default_factory=dict)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    sides: np.ndarray = field(default_factory=lambda: np.zeros(0))
    error: str | None = None

    def class_counts(self) -> dict[int, int]:
        """Count the boxes of each class, by id, also of those without any."""
        # Only of classes that occur: the others are put in with 0, for they are what one looks for.
        values, counts = np.unique(self.labels, return_counts=True)
        return dict.fromkeys(self.class_names, 0) | dict(zip(values.tolist(), counts.tolist()))

    def histogram(self) -> list[int]:
        """Count the boxes between each two of SIZE_EDGES."""
        return np.histogram(self.sides, SIZE_EDGES)[0].tolist()


@dataclass
class Report:
    """The check of a whole dataset; `across` is what concerns several splits."""

    layout: DatasetSplits
    splits: list[SplitReport]
    across: Findings
    num_queries: int
    strict: bool = False

    def worst(self) -> Action:
        """Return the gravest of all findings; `strict` refuses what loading would repair."""
        worst = max([*(split.findings.worst() for split in self.splits), self.across.worst()])
        if any(split.error for split in self.splits) or (self.strict and worst is Action.REPAIRED):
            return Action.REFUSED
        return worst

    def class_names(self) -> dict[int, str]:
        """Return the classes of all splits by id."""
        # Reversed, so that the first split's name stands where two differ.
        names = {id_: name for split in reversed(self.splits) for id_, name in split.class_names.items()}
        return dict(sorted(names.items()))


def as_text(report: Report) -> str:
    """Describe the whole for people."""
    parts = [report.layout.describe()]
    read = [split for split in report.splits if split.error is None]
    if read:
        parts += [_class_table(read, report.class_names()), _size_table(read)]
    parts += [_describe_split(split, report.num_queries) for split in report.splits]
    if len(report.across):
        parts.append("\n".join(["across splits:", *_finding_lines(report.across)]))
    verdict = VERDICTS[report.worst()]
    if report.strict and report.worst() is Action.REFUSED:
        verdict += " (--strict refuses what loading would repair)"
    parts.append(f"{verdict} (exit code {int(report.worst())})")
    return "\n\n".join(parts)


def as_dict(report: Report) -> dict[str, Any]:
    """Return the whole for machines: only what JSON can hold."""
    return {
        "layout": report.layout.name,
        "data_path": None if report.layout.root is None else str(report.layout.root),
        "exit_code": int(report.worst()),
        "verdict": VERDICTS[report.worst()].partition(":")[0],
        "strict": report.strict,
        "num_queries": report.num_queries,
        "class_names": {str(id_): name for id_, name in report.class_names().items()},
        "splits": {split.name: _split_as_dict(split) for split in report.splits},
        "across_splits": [_finding_as_dict(finding) for finding in report.across],
    }


def _split_as_dict(split: SplitReport) -> dict[str, Any]:
    # JSON has no infinity.
    edges = [edge if np.isfinite(edge) else None for edge in SIZE_EDGES]
    return {
        "image_folder": str(split.split.images),
        "annotations": str(split.split.annotations),
        "error": split.error,
        "images": split.images,
        "images_without_objects": int((split.counts == 0).sum()),
        "boxes": len(split.labels),
        "boxes_by_class": {str(id_): count for id_, count in split.class_counts().items()},
        "most_objects_in_an_image": int(split.counts.max(initial=0)),
        "box_sizes": {"edges": edges, "counts": split.histogram()},
        "findings": [_finding_as_dict(finding) for finding in split.findings],
    }


def _finding_as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        # Counts may be numpy's integers, which json does not write.
        "count": int(finding.count),
        "action": finding.action.name.lower(),
        "remedy": finding.remedy,
        "example": finding.example,
    }


def _describe_split(split: SplitReport, num_queries: int) -> str:
    if split.error is not None:
        lines = [f"{split.name}: {split.images} images listed; the annotations are refused: {split.error}"]
    else:
        counts = split.counts
        lines = [
            f"{split.name}: {split.images} images, {(counts == 0).sum()} of them without objects; "
            f"{len(split.labels)} boxes of {len(split.class_names)} classes; "
            f"objects an image: median {np.median(counts):g}, at most {counts.max(initial=0)} "
            f"(--num_queries {num_queries})"
        ]
    return "\n".join(lines + (_finding_lines(split.findings) or ["  nothing is odd about it"]))


def _finding_lines(findings: Findings) -> list[str]:
    """A line for each finding, the gravest first, and its example below."""
    lines = []
    # Actions are ordered by their gravity; the sort is stable, so equal ones stay as they were found.
    for finding in sorted(findings, key=lambda finding: -finding.action):
        lines.append(f"  {finding.action.name.lower():<8} {finding.count:>6}  {finding.kind}: {finding.remedy}")
        lines.append(f"{'':19}first: {finding.example}")
    return lines


def _class_table(splits: Sequence[SplitReport], names: dict[int, str]) -> str:
    """Boxes of each class in each split."""
    width = max(len("class"), *(len(name) for name in names.values()))
    counts = [split.class_counts() for split in splits]
    lines = [f"{'id':>5}  {'class':<{width}}" + "".join(f"{split.name + ' boxes':>14}" for split in splits)]
    for id_, name in names.items():
        lines.append(f"{id_:>5}  {name:<{width}}" + "".join(f"{count.get(id_, 0):>14}" for count in counts))
    return "\n".join(lines)


def _size_table(splits: Sequence[SplitReport]) -> str:
    """A histogram of the boxes' sizes beside each other for the splits."""
    lines = [f"box sizes, in pixels{'':8}" + "".join(f"{split.name:<{BAR_WIDTH + 18}}" for split in splits)]
    histograms = [split.histogram() for split in splits]
    for k, (low, high) in enumerate(zip(SIZE_EDGES, SIZE_EDGES[1:])):
        # By area in COCO: 32^2 and 96^2; sides here are square roots of areas.
        coco = "small" if high <= 32 else "medium" if high <= 96 else "large"
        line = f"{f'{low} to {high}' if np.isfinite(high) else f'{low} and more':>13} {coco:<12}  "
        for histogram in histograms:
            share = histogram[k] / max(1, sum(histogram))
            # The longest bar of a split fills the width: splits of different sizes have comparable shapes.
            bar = "#" * round(BAR_WIDTH * histogram[k] / max(1, *histogram))
            line += f"{bar:<{BAR_WIDTH}} {histogram[k]:>7} {share:>5.0%}    "
        lines.append(line.rstrip())
    return "\n".join(lines)
