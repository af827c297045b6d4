"""Labels 0 to C - 1 in place of category ids that are far apart, for a class head of C classes (`--dense_labels`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError

from .categories import LARGEST_LABEL
from .columns import distinct
from .kinds import shorten

#: The key under which a renumbered category keeps the id that the file lists.
LISTED_ID = "listed_id"


@dataclass(frozen=True)
class DenseLabels:
    """The order in which category ids become labels.

    Attributes:
        category_ids: the id of label 0, of label 1, ...; None for those of the file, rising.
        num_classes: labels must be below it; None for as many as there are ids.
    """

    category_ids: tuple[int, ...] | None = None
    num_classes: int | None = None

    def renumber(
        self, labels: np.ndarray, categories: Mapping[int, dict[str, Any]], path: Path
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return labels (m,) int64 and categories under their new ids; `path` is for messages.

        Raises DatasetError for too many classes, and for objects of a category that has no label.
        """
        # Sorted, so that the order does not depend on how an exporter lists them; a checkpoint's order wins.
        ids = tuple(sorted(categories)) if self.category_ids is None else self.category_ids
        most = LARGEST_LABEL if self.num_classes is None else self.num_classes
        if len(ids) > most:
            raise DatasetError(f"{path}: it has {len(ids)} categories; there is room for {most} (--num_classes)")
        place = {id_: label for label, id_ in enumerate(ids)}
        # Only those with objects matter: a category that nobody uses needs no label.
        used = distinct(labels)
        strangers = sorted(set(used.tolist()) - place.keys())
        if strangers:
            name = categories[strangers[0]]["name"]
            raise DatasetError(
                f"{path}: objects of category id {strangers[0]} ({shorten(name)}), which --dense_labels gives no "
                f"label: it numbers the categories of the training split or of the checkpoint, {shorten(list(ids))}"
            )
        # A search in the ids that are used, and their labels.
        dense = np.array([place[id_] for id_ in used.tolist()], dtype=np.int64)[np.searchsorted(used, labels)]
        known = sorted(place[id_] for id_ in categories if id_ in place)
        return dense, [categories[ids[label]] | {"id": label, LISTED_ID: ids[label]} for label in known]


def listed_ids(categories: list[dict[str, Any]]) -> dict[int, int] | None:
    """Return the id in the file of each label; None where the labels are these ids."""
    ids = {category["id"]: category[LISTED_ID] for category in categories if LISTED_ID in category}
    return ids or None
