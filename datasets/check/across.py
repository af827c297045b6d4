"""Compare the splits of a dataset with each other: no image in two of them, and one class for one id."""

from collections.abc import Iterable, Sequence

from ..annotations.findings import Action, Findings
from ..annotations.kinds import Kind
from .images import ImageFacts, ListedImage

LEAK = Kind("images in several splits", Action.KEPT, "what is measured on them is not held out")
RENAMED_CLASSES = Kind("class ids with another name in another split", Action.REFUSED, "one id must be one class")


def note_leaks(splits: Iterable[tuple[str, Sequence[ListedImage], Sequence[ImageFacts]]], findings: Findings) -> None:
    """Add images of a split (name, images, facts) whose pixels an earlier split has too."""
    seen: dict[bytes, tuple[str, ListedImage]] = {}
    for name, listed, facts in splits:
        mine: dict[bytes, tuple[str, ListedImage]] = {}
        for image, fact in zip(listed, facts, strict=True):
            if fact.error is not None:
                continue
            # Compared with earlier splits alone: repeats within a split are another finding.
            mine.setdefault(fact.digest, (name, image))
            if fact.digest in seen:
                other, known = seen[fact.digest]
                places = ((known, other), (image, name))
                example = " and ".join(f"{one.path} (image {one.image_id} of {split})" for one, split in places)
                findings.add(LEAK.name, LEAK.action, remedy=LEAK.remedy, example=example)
        # The earlier split's entry wins: the example names the place where an image was seen first.
        seen = mine | seen


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
