"""Objects that are listed and not trained on: how many, and why."""

from pathlib import Path

from util.errors import DatasetError

from . import kinds
from .findings import Findings
from .table import Annotations

#: Losses beyond this part of the objects are said before training.
WORTH_A_LINE = 0.1


def explain_no_objects(annotations: Annotations) -> str | None:
    """Say why there is nothing to learn; None where an object is left."""
    if annotations.object_counts().any():
        return None
    if not annotations.listed:
        return f"it lists {len(annotations)} images and no annotations"
    crowds = kinds.CROWDS.name in annotations.left_out
    hint = "; iscrowd must be 0 where one annotation is one object" if crowds else ""
    return f"all {annotations.listed} annotations are left out: {_reasons(annotations)}{hint}"


def refuse_no_objects(path: Path, annotations: Annotations) -> None:
    """Raise DatasetError, with the cause, for a training split without a single object."""
    cause = explain_no_objects(annotations)
    if cause is not None:
        raise DatasetError(f"{path}: there is nothing to learn: {cause}")


def describe_nothing_to_measure(path: Path, annotations: Annotations) -> str | None:
    """Say in one line that a validation split has no object, and why; None for one that has."""
    cause = explain_no_objects(annotations)
    return cause and f"warning: {path}: AP cannot be measured on the validation images: {cause}"


def note_no_objects(path: Path, annotations: Annotations, findings: Findings, *, training: bool) -> None:
    """Add a split without a single object."""
    cause = explain_no_objects(annotations)
    if cause is not None:
        kind = kinds.NO_OBJECTS if training else kinds.NOTHING_TO_MEASURE
        findings.add(kind.name, kind.action, remedy=kind.remedy, example=f"{path}: {cause}")


def describe_losses(path: Path, annotations: Annotations) -> str | None:
    """Say in one line how many objects are not trained on, and why; None for few."""
    lost = sum(annotations.left_out.values())
    # Nearly every file loses a few: COCO's own has crowds.
    if lost <= WORTH_A_LINE * annotations.listed:
        return None
    share = f"{lost} of {annotations.listed} objects ({lost / annotations.listed:.0%})"
    return f"warning: {path}: {share} are not trained on: {_reasons(annotations)}"


def _reasons(annotations: Annotations) -> str:
    return "; ".join(f"{kind}: {count}" for kind, count in annotations.left_out.items())
