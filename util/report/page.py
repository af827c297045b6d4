"""Pages from templates: one file that needs nothing else, and beside it all its numbers as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..errors import UserError
from ..progress import with_progress
from ..runs.atomic import atomic_file
from .choice import ImageChoice
from .evaluated import Evaluated
from .pictures import Pictures

TEMPLATES = Path(__file__).with_name("templates")
NOTHING = "–"


def write_page(
    folder: str | os.PathLike, template: str, data: Mapping[str, Any], content: Mapping[str, Any]
) -> list[Path]:
    """Write `data` to `report.json`, and a template of it and the drawn `content` to `index.html`; return both files.

    Raises UserError where the folder cannot be written.
    """
    page = _environment().get_template(template).render(data=data, **content)
    files = {"index.html": page, "report.json": json.dumps(data, indent=1, allow_nan=False) + "\n"}
    paths = [Path(folder) / name for name in files]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, files.values()):
            with atomic_file(path) as file:
                # A lone surrogate in a class name, which JSON allows, has no UTF-8.
                file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"{folder}: a report cannot be written there ({error.strerror})") from None
    return paths


def image_cards(choices: Sequence[ImageChoice], pictures: Pictures) -> list[dict[str, Any]]:
    """Draw chosen images: for each its id, and the pictures with their headings."""
    drawn = with_progress(choices, "report: images")
    return [{"image_id": choice.image_id, "pictures": pictures.draw(choice)} for choice in drawn]


def images_as_data(evaluated: Evaluated, choices: Sequence[ImageChoice]) -> list[dict[str, Any]]:
    """Return what a page says about chosen images, in plain types."""
    return [
        {
            "image_id": choice.image_id,
            "file_name": evaluated.truth.imgs[choice.image_id].get("file_name"),
            "counts": {name: dict(counts) for name, counts in choice.counts.items()},
            "suspects": list(choice.suspects),
        }
        for choice in choices
    ]


def note_unreadable(pictures: Pictures, chosen: Mapping[str, Sequence[ImageChoice]]) -> list[str]:
    """Return a sentence about images that could not be opened, if there are any."""
    shown = {choice.image_id for choices in chosen.values() for choice in choices}
    if pictures.open_image is None:
        return ["There are no image files: boxes are drawn on grey paper."]
    if not pictures.unreadable:
        return []
    reason = next(iter(pictures.unreadable.values()))
    return [f"{len(pictures.unreadable)} of {len(shown)} images cannot be read, boxes are on grey paper: {reason}"]


def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent, "signed": _signed}
    # Style and script stand in the page as they are.
    environment.globals["include_file"] = lambda name: Markup((TEMPLATES / name).read_text())
    return environment


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.3f}"
