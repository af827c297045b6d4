"""The pages in a browser: numbers, sorting, choosing a class, boxes and masks, phones; skipped where there is none."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.util.report.evaluations import DOG, evaluated, faulty, perfect
from util.report.comparison import write_comparison
from util.report.single import write_report

pytestmark = pytest.mark.slow

LOG = [
    {"epoch": e, "train_loss": 3.0 - e, "test_loss": 2.5 - e, "test_coco_eval_bbox": [0.1 * e, 0.2 * e]}
    for e in range(2)
]
PANOPTIC = {name: {"pq": 0.5, "sq": 0.75, "rq": 0.66, "n": 2} for name in ("All", "Things", "Stuff")}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of faulty boxes and masks."""
    folder = tmp_path_factory.mktemp("report")
    quality = PANOPTIC | {"per_class": [{"id": 1, "name": "sky", "pq": 0.5, "sq": 0.75, "rq": 0.66}]}
    write_report(evaluated(faulty(), masks=True, log=LOG, panoptic=quality), folder)
    return folder


@pytest.fixture
def page(browser_page: Any, report: Path) -> Any:
    browser_page.goto((report / "index.html").as_uri())
    return browser_page


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)
    elif isinstance(value, int | float):
        yield value


def test_every_number_of_a_table_or_tile_is_in_the_json(page: Any, report: Path) -> None:
    known = {round(scale * v, d) for v in numbers_in(json.loads((report / "report.json").read_text()))
             for d in (0, 1, 2, 3) for scale in (1, 100)}  # fmt: skip
    texts = page.locator("tbody td, .tile b, .bars > div, .legend span").all_text_contents()
    shown = [float(n) for text in texts for n in re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?![\w.])", text)]
    assert len(shown) > 100
    unknown = sorted({value for value in shown if value not in known} - {0.1, 0.5})  # TIDE's limits, in words
    assert not unknown


def test_a_click_sorts_and_what_was_not_measured_comes_last(page: Any) -> None:
    table = page.locator("table.classes:visible")

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr td:nth-child({number})").all_text_contents()

    table.locator("th", has_text="AP").first.click()
    values = [text.strip() for text in column(4)]
    assert values[-1] == "–" and values[:-1] == sorted(values[:-1], reverse=True)
    table.locator("th", has_text="AP").first.click()
    values = [text.strip() for text in column(4)]
    assert values[-1] == "–" and values[:-1] == sorted(values[:-1])
    table.locator("th", has_text="class").click()
    assert column(1) == sorted(column(1))


def test_a_click_on_a_class_chooses_its_curves(page: Any) -> None:
    page.locator(f"tr[data-class='{DOG}']:visible").click()
    chosen = page.locator("g.class.chosen")
    assert chosen.count() == 2 and {chosen.nth(k).get_attribute("data-class") for k in (0, 1)} == {str(DOG)}
    assert page.locator(".chosen-name:visible").first.text_content() == "dog"
    page.locator(f"tr[data-class='{DOG}']:visible").click()
    assert page.locator("g.class.chosen").count() == 0


def test_masks_come_first_and_a_click_shows_boxes(page: Any) -> None:
    assert page.locator("[data-kind=segm]").is_visible() and not page.locator("[data-kind=bbox]").is_visible()
    page.get_by_role("tab", name="Boxes").click()
    assert page.locator("[data-kind=bbox]").is_visible() and not page.locator("[data-kind=segm]").is_visible()
    for heading in (
        "Best images",
        "Worst images",
        "Images that may be labelled wrongly",
        "Panoptic quality",
        "Training",
    ):
        assert page.get_by_role("heading", name=heading).count() == 1


def test_images_are_there_and_a_phone_is_not_overflowed(page: Any, tmp_path: Path) -> None:
    a, b = evaluated(faulty(), name="a"), evaluated(perfect(), name="b")
    other, _ = write_comparison(a, b, tmp_path / "comparison", samples=5)
    for address in (None, other.as_uri()):
        if address:
            page.goto(address)
        assert page.evaluate("[...document.images].every(i => i.src.startsWith('data:image/jpeg'))")
        assert page.locator("img").count() >= 6
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator(".tile b").first.text_content().startswith("+")
