"""The report of one evaluation: its numbers in `report.json`, and the same drawn in `index.html`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..plot_utils import AP, AP50, LOSSES, series
from .charts import Axis, Line, axis_over, line_chart, matrix_chart, reliability_chart
from .choice import ImageChoice, choose_images, diagnose
from .evaluated import Evaluated
from .numbers import describe_kind
from .page import image_cards, images_as_data, note_unreadable, write_page
from .pictures import Pictures

#: Images of each kind that a report shows.
COUNT = 20
#: Classes that are drawn, those with the most objects; a matrix of more is not drawn at all.
DRAWN_CLASSES = 120
KIND_NAMES = {"bbox": "boxes", "segm": "masks"}
IMAGE_SECTIONS = {
    "best": "Best images",
    "worst": "Worst images",
    "mislabelled": "Images that may be labelled wrongly",
}


def write_report(evaluated: Evaluated, folder: str | os.PathLike, *, count: int = COUNT) -> list[Path]:
    """Write `index.html` and `report.json` to a folder and return them.

    Args:
        evaluated: the detections and their truth.
        folder: created if it is not there; files of an earlier report are replaced.
        count: images of each kind to show.

    Raises UserError where hotcoco is missing, or the folder cannot be written.
    """
    kinds = {kind: describe_kind(evaluated, kind, evaluated.detections(kind)) for kind in evaluated.kinds}
    kind = evaluated.main_kind
    # At the threshold that is best for this detector: images are judged by what one would show of it.
    chosen = choose_images(diagnose(evaluated, kind, threshold=kinds[kind]["threshold"]), count)
    pictures = Pictures(evaluated, kind)
    cards = {name: image_cards(choices, pictures) for name, choices in chosen.items()}
    data = describe_run(evaluated, kinds, chosen)
    # Only after the cards are made is it known which images could not be opened.
    data["notes"] += note_unreadable(pictures, chosen)
    content = {
        "charts": {name: charts_of(numbers) for name, numbers in kinds.items()},
        "training_charts": training_charts(data["training"]),
        "cards": cards,
        "sections": IMAGE_SECTIONS,
        "kind_names": KIND_NAMES,
        "drawn_classes": DRAWN_CLASSES,
    }
    return write_page(folder, "report.html", data, content)


def describe_run(
    evaluated: Evaluated, kinds: Mapping[str, Any], chosen: Mapping[str, Sequence[ImageChoice]]
) -> dict[str, Any]:
    """Return everything that a page says, in plain types."""
    main = kinds[evaluated.main_kind]
    notes = list(evaluated.notes)
    without = [row["name"] for row in main["classes"] if not row["objects"]]
    if without:
        listed = ", ".join(without[:8]) + (" and others" if len(without) > 8 else "")
        notes.append(f"{len(without)} of {len(main['classes'])} classes have no object here and no AP: {listed}.")
    if not evaluated.log:
        notes.append("There is no log.txt beside the predictions, so there are no training curves.")
    return {
        "name": evaluated.name,
        "facts": dict(evaluated.facts),
        "notes": notes,
        "images": len(evaluated.image_ids),
        "objects": sum(len(evaluated.objects_of(image_id)) for image_id in evaluated.image_ids),
        "max_dets": evaluated.max_dets,
        "main_kind": evaluated.main_kind,
        "kinds": dict(kinds),
        "panoptic": None if evaluated.panoptic is None else dict(evaluated.panoptic),
        "training": describe_training(evaluated.log),
        "shown": {
            "kind": evaluated.main_kind,
            "threshold": main["threshold"],
            **{name: images_as_data(evaluated, choices) for name, choices in chosen.items()},
        },
    }


def describe_training(log: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the curves of a log: by panel, line, and then `epoch` and `value`; None without a log."""
    rows = [dict(row) for row in log]
    panels: dict[str, dict[str, Any]] = {"AP": {}}
    for kind, what in (("coco_eval_bbox", "boxes"), ("coco_eval_masks", "masks")):
        for place, name in ((AP, "AP"), (AP50, "AP50")):
            panels["AP"][f"{name} of {what}"] = series(rows, f"test_{kind}", place=place)
        panels["AP"][f"AP of {what}, averaged weights"] = series(rows, f"test_ema_{kind}", place=AP)
    for name, title in LOSSES.items():
        panels[title] = {part: series(rows, f"{key}_{name}") for part, key in (("training", "train"), ("test", "test"))}
    known = {
        # Lines without a point, as of masks without masks, would stand in the legend.
        title: {name: {"epoch": xs, "value": ys} for name, (xs, ys) in lines.items() if xs}
        for title, lines in panels.items()
    }
    return {title: lines for title, lines in known.items() if lines} or None


def training_charts(training: Mapping[str, Any] | None) -> dict[str, Markup]:
    """Return a chart for each panel of a log."""
    charts = {}
    for title, lines in (training or {}).items():
        epochs = [x for line in lines.values() for x in line["epoch"]]
        values = [y for line in lines.values() for y in line["value"]]
        # AP is always drawn from 0 to 1, so that two reports can be laid side by side.
        y = Axis(title) if title == "AP" else axis_over(title, values, from_zero=True)
        drawn = [Line(v["epoch"], v["value"], name, f"series-{k}") for k, (name, v) in enumerate(lines.items())]
        charts[title] = line_chart(drawn, axis_over("epoch", epochs, whole=True), y)
    return charts


def charts_of(numbers: Mapping[str, Any]) -> dict[str, Markup | str]:
    """Return the charts of a kind by name."""
    curves = numbers["curves"]
    # Those that are best known; a hundred more lines of rare classes hide them.
    drawn = sorted(numbers["classes"], key=lambda row: -row["objects"])[:DRAWN_CLASSES]
    by_class = [(row["id"], row["name"], curves["classes"][str(row["id"])]) for row in drawn if row["objects"]]
    share = Axis("F1")
    precision = [Line(curves["recall"], c["precision"], name, "class", key) for key, name, c in by_class]
    f1 = [Line(curves["threshold"], c["F1"], name, "class", key) for key, name, c in by_class]
    mark = numbers["threshold"]
    # A vertical line from the axis up to the curve of the mean.
    best = Line([mark, mark], [0, numbers["F1"]], f"best for all classes together: {mark:.2f}", "mark")
    many = len(numbers["confusion"]["names"]) > DRAWN_CLASSES
    # JSON's keys are text.
    ious, aps = zip(*((float(iou), ap) for iou, ap in numbers["by_iou"].items() if ap is not None))
    return {
        "precision": line_chart(
            [*precision, Line(curves["recall"], curves["precision"], "mean", "mean")],
            Axis("recall"),
            Axis("precision"),
        ),
        "F1": line_chart([*f1, Line(curves["threshold"], curves["F1"], "mean", "mean"), best], Axis("score"), share),
        "by_iou": line_chart([Line(ious, aps, "AP", "mean")], Axis("IoU", 0.5, 0.95), Axis("AP")),
        "calibration": reliability_chart(numbers["calibration"]["bins"]),
        "confusion": "" if many else matrix_chart(numbers["confusion"]["names"], numbers["confusion"]["matrix"]),
    }
