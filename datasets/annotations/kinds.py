"""The oddities of annotation files with the action of reading on each, in one table.

Repaired is what has one harmless reading; refused is what would train on something wrong or has several readings.
"""

import reprlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from util.errors import DatasetError

from .findings import Action, Finding, Findings


class Kind(NamedTuple):
    """An oddity with its action; `remedy` is what is done, or why nothing sensible can be."""

    name: str
    action: Action
    remedy: str


def _kept(name: str, remedy: str) -> Kind:
    return Kind(name, Action.KEPT, remedy)


def _repaired(name: str, remedy: str) -> Kind:
    return Kind(name, Action.REPAIRED, remedy)


def _refused(name: str, remedy: str) -> Kind:
    return Kind(name, Action.REFUSED, remedy)


CAST_NUMBERS = _repaired("text or a decimal where an integer belongs", "cast")
BAD_IDS = _refused("ids that are no integers", "an id must be an integer")

NAMELESS_CATEGORIES = _repaired("categories without a name", "named by their id")
REPEATED_CATEGORIES = _repaired("categories listed twice", "the first counts")
CONTRADICTING_CATEGORIES = _refused("category ids with two names", "which one is meant is not known")
NEGATIVE_CATEGORIES = _refused("category ids that cannot be labels", "a label must be at least 0")
UNUSED_CATEGORIES = _kept("category ids that no object uses", "a class that is never seen")
PARENT_CATEGORIES = _kept("category ids that are only parents of others", "a class that is never seen")
SAME_NAMES = _kept("category names of several ids", "different classes")

LARGE_LABELS = _refused(
    "category ids too large to count up to",
    "a model has a class for every number up to the largest: renumber them, as python -m datasets.check --fix OUT "
    "does, or train with --dense_labels",
)
SPARSE_LABELS = _kept(
    "category ids far above the number of categories",
    "a model has a class for every number up to the largest; --dense_labels trains one for each category",
)

NO_FILE_NAME = _refused("images without file_name", "file_name must be text")
REPEATED_IMAGES = _repaired("image ids listed twice for one file", "the first counts")
CONTRADICTING_IMAGES = _refused("image ids of two files", "which one is meant is not known")
SHARED_FILES = _refused(
    "image files listed under several ids",
    "one image would get the objects of several; python -m datasets.check --fix OUT merges them",
)
NO_SIZE = _kept("images without height and width", "the size of the file counts")
BAD_SIZE = _repaired("images with an impossible height or width", "ignored, the size of the file counts")
WRONG_SIZE = _repaired("images with another height or width than their file", "the size of the file counts")
SIZE_FOR_MASKS = _refused("images without a usable height and width", "--masks needs them")
NEGATIVES = _kept("images without objects", "negatives: everything in them is background")
CROWDED = _kept("images with more objects than --num_queries", "no more than --num_queries can be found")

NO_ANNOTATIONS = _kept("files without the list annotations", "images to predict on: nothing is measured")
NO_OBJECTS = _refused("training splits without a single object", "there is nothing to learn")
NOTHING_TO_MEASURE = _kept("validation splits without a single object", "AP cannot be measured; training goes on")
NO_IDS = _repaired("annotations without an id", "numbered")
ZERO_IDS = _repaired("annotation id 0", "numbered anew (the evaluation takes 0 for no match)")
COPIES = _repaired("annotations listed twice", "the first counts")
REPEATED_IDS = _repaired("annotation ids of several objects", "numbered anew")
UNKNOWN_IMAGES = _repaired("annotations of images that are not listed", "dropped")
UNKNOWN_CATEGORIES = _refused("labels that are no category", "the label (category_id) must be among the categories")
BEYOND_CLASSES = _refused("labels beyond --num_classes", "--num_classes must be larger than every label")

MASK_BOX = _repaired("annotations without a box beside their polygon or mask", "the box around it is taken")
NO_BOX = _repaired("annotations without a box", "dropped")
BAD_BOX = _refused("boxes that are not four numbers", "a box must be [x, y, width, height]")
TEXT_BOX = _repaired("boxes with numbers as text", "cast")
ENDLESS_BOX = _repaired("boxes with NaN, infinite or absurdly large numbers", "dropped")
TURNED_BOX = _repaired("boxes with a negative width or height", "turned round")
OTHER_CONVENTION = _refused(
    "boxes in another convention than [x, y, width, height] in pixels",
    "they do not enclose their objects; python -m datasets.check --fix OUT converts them",
)
ODD_BOX = _kept("boxes that disagree with their polygon or mask", "the box as it is listed is trained on")
ROTATED_BOX = _kept(
    "boxes with a rotation",
    "the box before it is turned is trained on; export polygons, or let python -m datasets.check --fix OUT take "
    "the box around CVAT's turned one",
)
RELATIVE_POLYGONS = _refused(
    "polygons in fractions of the image",
    "their masks are empty; python -m datasets.check --fix OUT brings them to pixels",
)
TINY_BOX = _kept("boxes with a side below a pixel", "trained on")
EQUAL_BOX = _kept(
    "objects with the box and the label of another", "each counts; python -m datasets.check --fix OUT keeps one of them"
)
EMPTY_BOX = _repaired("boxes without width or height", "dropped")
OUTSIDE_BOX = _repaired("boxes outside their image", "dropped")
OVERHANGING_BOX = _repaired("boxes over the edge of their image", "clamped to the image")
ROUNDED_BOX = _kept("boxes over the edge by at most a pixel", "rounding; the part inside counts")

CROWDS = _kept("crowds", "not trained on, ignored by the evaluation")
NO_ISCROWD = _repaired("annotations without iscrowd", "filled in: no crowd")
BAD_ISCROWD = _refused("iscrowd that is neither 0 nor 1", "whether it is one object is not known")
CAST_ISCROWD = _repaired("iscrowd that is not an integer", "cast")
NO_AREA = _repaired("annotations without area", "filled in: that of the mask, else width times height")
BAD_AREA = _repaired("areas that are no positive number", "replaced: that of the mask, else width times height")
TEXT_AREA = _repaired("areas as text", "cast")

NO_MASK = _refused("objects without segmentation", "--masks needs it")
NO_MASKS_AT_ALL = _refused("files without a single mask", "--masks needs masks to train on")
CROWD_WITHOUT_MASK = _repaired("crowds without segmentation", "their box is taken")
EMPTY_MASK = _kept("objects without polygons", "their mask is empty")
FLAT_POLYGON = _repaired("polygons without the list around them", "wrapped")
SHORT_POLYGON = _repaired("polygons without three points", "dropped")
BAD_POLYGON = _repaired("polygons with a point too many, too far or not a number", "dropped")
TEXT_POLYGON = _repaired("polygons with numbers as text", "cast")
OTHER_SIZE_MASK = _repaired("run lengths of another size than their image", "left out; only --masks needs them")
OTHER_SIZE_REFUSED = _refused("run lengths of another size than their image", "--masks needs them at its size")
BAD_MASK = _repaired("segmentations that cannot be read", "left out; only --masks needs them")
BAD_MASK_REFUSED = _refused("segmentations that cannot be read", "--masks needs them")


#: Refusals that `datasets.check --fix` can mend.
FIXED = (LARGE_LABELS.name, SHARED_FILES.name)
#: Oddities that are likely, not certain: reading goes on, the check and the look before training refuse the gravest.
DOUBTFUL = tuple(kind.name for kind in (OTHER_CONVENTION, RELATIVE_POLYGONS, ODD_BOX, ROTATED_BOX, TINY_BOX, EQUAL_BOX))


class IssueLog:
    """Oddities of one file as reading comes upon them; only the first of each kind is put into words."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self._found: dict[Kind, Finding] = {}

    def add(self, kind: Kind, entry: str, id_: Any, field: str = "", value: Any = None, *, count: int = 1) -> None:
        """Note `count` of a kind; the first is the `entry` ("image", "annotation") `id_`, whose `field` is `value`."""
        # A file may hold a million of a kind: only the first is put into words.
        known = self._found.get(kind)
        if known is not None:
            known.count += count
            return
        example = f"{self.path}: {entry} id {shorten(id_)}" + (f": {field} {shorten(value)}" if field else "")
        self._found[kind] = Finding(kind.name, kind.action, kind.remedy, example, count)

    def count(self, kind: Kind) -> bool:
        """Count one more of a kind that has been noted; False for a new one."""
        known = self._found.get(kind)
        if known is not None:
            known.count += 1
        return known is not None

    def settle(self, findings: Findings, *, strict: bool, fixing: bool) -> None:
        """Hand all to `findings`; raise DatasetError for the first that is refused, with `strict` also repaired.

        With `fixing` those of FIXED pass, for the caller to mend.
        """
        for found in self._found.values():
            findings.add(found.kind, found.action, remedy=found.remedy, example=found.example, count=found.count)
        for found in self._found.values():
            # Guesses do not stop the reader; `datasets.check` and the look before training decide on those.
            passes = found.kind in DOUBTFUL or (fixing and found.kind in FIXED)
            if found.action is Action.REFUSED and not passes:
                # After all were handed on: `datasets.check` shows every finding, also those behind the first refusal.
                raise DatasetError(f"{found.example} ({found.remedy}){_others(found)}")
        if strict:
            refuse_repaired(self._found.values())


def refuse_repaired(findings: Iterable[Finding]) -> None:
    """Raise DatasetError for the first that would be repaired, as strict reading does."""
    for found in findings:
        if found.action is Action.REPAIRED:
            raise DatasetError(
                f"{found.example}{_others(found)}: strict reading refuses {found.kind} (otherwise: {found.remedy})"
            )


def shorten(value: Any) -> str:
    """Return `value` for a message: on one line, and cut where it is long."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _others(found: Finding) -> str:
    return f" and {found.count - 1} more" if found.count > 1 else ""
