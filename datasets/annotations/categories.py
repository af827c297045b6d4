"""The rules for the categories of an annotation file, and for the labels that their ids make."""

from typing import Any

import numpy as np

from util.errors import DatasetError

from . import kinds
from .images import read_id
from .kinds import IssueLog

#: Ids up to here may be labels: enough for ImageNet-21k, while a head for millions would not fit into memory.
LARGEST_LABEL = 50_000
#: Ids are far apart where the largest is so many times the number of categories: COCO's 90 for 80 are not.
SPARSE = 4


def read_categories(entries: list[dict[str, Any]], issues: IssueLog) -> dict[int, dict[str, Any]]:
    """Read id, name and, where given, supercategory of each category, by id, in the file's order."""
    if not entries:
        raise DatasetError(f"{issues.path}: it lists no categories")
    categories: dict[int, dict[str, Any]] = {}
    ids_by_name: dict[str, int] = {}
    for entry in entries:
        id_ = read_id(entry.get("id"), "category", issues)
        if id_ is None:
            continue
        if id_ < 0:
            issues.add(kinds.NEGATIVE_CATEGORIES, "category", id_)
            continue
        category = _category(entry, id_, issues)
        # The first entry of an id counts; a second of the same name does no harm.
        known = categories.setdefault(id_, category)
        if known is not category:
            same = known["name"] == category["name"]
            issues.add(kinds.REPEATED_CATEGORIES if same else kinds.CONTRADICTING_CATEGORIES, "category", id_)
        # Two ids with one name are allowed, and are two classes: AP of each is measured apart.
        elif ids_by_name.setdefault(category["name"], id_) != id_:
            issues.add(kinds.SAME_NAMES, "category", id_, "name", category["name"])
    return categories


def note_labels(categories: dict[int, dict[str, Any]], issues: IssueLog) -> None:
    """Note ids that make large labels: a model has a class for every number up to the largest."""
    for id_ in categories:
        if id_ > LARGEST_LABEL:
            issues.add(kinds.LARGE_LABELS, "category", id_)
    # The class head gets a row for each number up to the largest, most of which would never be trained.
    if categories and SPARSE * len(categories) < max(categories) <= LARGEST_LABEL:
        issues.add(kinds.SPARSE_LABELS, "category", max(categories), f"the largest of {len(categories)}")


def note_unused(categories: dict[int, dict[str, Any]], used: np.ndarray, issues: IssueLog) -> None:
    """Note the categories not in `used` (k,): parents, which another names as its supercategory, and others."""
    unused = sorted(set(categories) - set(used.tolist()))
    for id_ in unused:
        name = categories[id_]["name"]
        # Roboflow's exports have a class 0 that is only the name of the project, with the true classes below it.
        children = (c for other, c in categories.items() if other != id_ and c.get("supercategory") == name)
        kind = kinds.PARENT_CATEGORIES if any(children) else kinds.UNUSED_CATEGORIES
        issues.add(kind, "category", id_, "name", name)


def _category(entry: dict[str, Any], id_: int, issues: IssueLog) -> dict[str, Any]:
    name = entry.get("name")
    if name is None or name == "":
        issues.add(kinds.NAMELESS_CATEGORIES, "category", id_)
        name = id_
    parent = entry.get("supercategory")
    return {"id": id_, "name": str(name)} | ({"supercategory": parent} if isinstance(parent, str) else {})
