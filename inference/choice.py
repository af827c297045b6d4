"""The choice of the detections that count: by score, class, number and overlap."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from util.errors import UserError

from .detections import Detections

#: Without --threshold: for what people look at.
THRESHOLD = 0.7


@dataclass(frozen=True)
class Choice:
    """The rule by which detections of an image are kept.

    Attributes:
        threshold: least score; None is THRESHOLD for what is looked at, and 0 for COCO's results, whose average
            precision counts weak detections too.
        top: at most so many, the surest.
        labels: category ids; None for all.
        nms: IoU above which the less sure of two boxes of a class goes; None keeps both, as DETR does.
    """

    threshold: float | None = None
    top: int | None = None
    labels: frozenset[int] | None = None
    nms: float | None = None

    @property
    def least(self) -> float:
        """Return the least score that any output needs."""
        return self.threshold or 0.0

    def of_all(self, found: Detections) -> Detections:
        """Return the detections for COCO's results, from those that score at least `least`."""
        if self.labels is not None:
            found = found.of_classes(self.labels)
        if self.nms is not None:
            found = found.without_duplicates(self.nms)
        # The number last: places freed by the other two rules go to the next best.
        return found if self.top is None else found.strongest(self.top)

    def to_show(self, chosen: Detections) -> Detections:
        """Return those of `of_all` that are sure enough to be shown."""
        return chosen.above(self.shown_from)

    @property
    def shown_from(self) -> float:
        """Return the least score of what is shown."""
        return THRESHOLD if self.threshold is None else self.threshold

    def describe_nothing(self) -> str:
        """Return what to do where nothing was found in any image."""
        of = "" if self.labels is None else " of --classes"
        # A model under the focal loss, or after a short training, is seldom as sure as DETR's published ones.
        return f"nothing{of} scores {self.shown_from:g}: --threshold {self.shown_from / 2:.2g} shows what is less sure"


def find_labels(words: Iterable[str], class_names: Mapping[int, str]) -> frozenset[int]:
    """Return the category ids of class names, in upper or lower case; ids in digits are taken as they are.

    Raises UserError for a name that is none, with the nearest one.
    """
    by_name = {name.strip().casefold(): id_ for id_, name in class_names.items()}
    labels = set()
    for word in filter(None, (word.strip() for word in words)):
        # Names before ids: a class may be called 7.
        if word.casefold() in by_name:
            labels.add(by_name[word.casefold()])
        elif word.isdecimal():
            labels.add(int(word))
        else:
            near = difflib.get_close_matches(word.casefold(), by_name, n=1)
            hint = f"did you mean {class_names[by_name[near[0]]]}?" if near else f"known are {_some(class_names)}"
            raise UserError(f"--classes {word}: the model knows no such class; {hint}")
    return frozenset(labels)


def _some(class_names: Mapping[int, str]) -> str:
    names = list(class_names.values())
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none by name"
