"""Whether the splits of a dataset mean the same by a class id."""

from .findings import Action, Findings
from .kinds import Kind

RENAMED_CLASSES = Kind("class ids with another name in another split", Action.REFUSED, "one id must be one class")


def note_class_names(splits: list[tuple[str, dict[int, str]]], findings: Findings) -> None:
    """Add class ids whose name (upper and lower case aside) is another than in an earlier split."""
    known: dict[int, tuple[str, str]] = {}
    for split, names in splits:
        for id_, name in names.items():
            first, other = known.setdefault(id_, (split, name))
            if other.strip().casefold() != name.strip().casefold():
                example = f"id {id_}: {other!r} in {first}, {name!r} in {split}"
                kind = RENAMED_CLASSES
                findings.add(kind.name, kind.action, remedy=kind.remedy, example=example)
