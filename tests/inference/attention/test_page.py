"""The page of one image: its size, what is in it, and a browser in which its choices are made by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.attention.figure import points_of, write_figure
from inference.attention.packing import pack, unpack
from inference.attention.page import write_page
from inference.attention.ramp import NOTHING, colours
from tests.inference.attention.looks import inside


def open_page(page: Any, folder: Path, **parts: Any) -> Any:
    """Write a page and open it; return the look it shows."""
    look = inside(**parts)
    path = write_page(look, folder / "attention.html", image_name="a.jpg", checkpoint_name="best.pth")
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    return look


def assert_reads(page: Any, look: Any, weights: np.ndarray) -> None:
    """Check what the page writes under the pointer in the cells of a diagonal against weights (h, w)."""
    box, (h, w), (tall, wide) = page.locator("#frame").bounding_box(), look.cells, look.extent
    for row, column in zip(range(h), range(w)[-h:]):
        # Cells at the edge hang over it: a point near their upper left corner is on the image.
        x, y = (column + 0.1) * wide / w * box["width"], (row + 0.1) * tall / h * box["height"]
        page.mouse.move(box["x"] + x, box["y"] + y)
        text = page.inner_text("#readout")
        assert text.startswith(f"row {row + 1}, column {column + 1}:")
        assert float(text.split(":")[1].split("%")[0]) / 100 == pytest.approx(weights[row, column], abs=2e-3)


def chosen_box(page: Any) -> list[float]:
    names = ("x", "y", "width", "height")
    return [float(page.get_attribute("rect.chosen", name)) for name in names]


@pytest.mark.slow
def test_a_detection_shows_where_it_looks_by_layer_and_head(browser_page: Any, tmp_path: Path) -> None:
    look = open_page(browser_page, tmp_path)
    assert browser_page.title() == "Attention: a.jpg (best.pth)"
    assert "120 × 90 pixels" in browser_page.inner_text("#about")
    assert browser_page.inner_text("#queries").split("\n")[:3] == ["1", "cat", "90.0 %"]
    assert_reads(browser_page, look, look.decoder[-1, :, 0].mean(0))
    browser_page.click("#queries label >> nth=1")
    browser_page.click("text=head 2")
    browser_page.click("#back")
    assert browser_page.inner_text("#caption") == ("Decoder layer 2, head 2: where query 11 (dog </script><b>&) looks")
    assert_reads(browser_page, look, look.decoder[1, 1, 1])


@pytest.mark.slow
def test_a_click_shows_what_the_encoder_attends_to_from_there(browser_page: Any, tmp_path: Path) -> None:
    look = open_page(browser_page, tmp_path)
    box = browser_page.locator("#frame").bounding_box()
    # 100 of 120 pixels to the right is the column 3, 50 of 90 down is the row 1.
    browser_page.mouse.click(box["x"] + box["width"] * 100 / 120, box["y"] + box["height"] * 50 / 90)
    assert "row 2, column 4" in browser_page.inner_text("#caption")
    weight = float(browser_page.inner_text("#readout").split(":")[1].split("%")[0]) / 100
    assert weight == pytest.approx(look.encoder[1, 1, 3, 1, 3], abs=2e-3)  # of the new map, though nothing has moved
    assert_reads(browser_page, look, look.encoder[1, 1, 3])
    browser_page.focus("#frame")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "ArrowUp"):  # the last one leads out
        browser_page.keyboard.press(key)
    browser_page.click("text=layer 1 >> nth=-1")
    assert browser_page.inner_text("#caption").startswith("Encoder layer 1, mean of 2 heads")
    assert_reads(browser_page, look, look.encoder[0, 0, 2])
    browser_page.click("#queries label >> nth=0")
    assert browser_page.inner_text("#caption").startswith("Decoder layer 3")


@pytest.mark.slow
def test_stepping_through_the_layers_moves_the_box_and_the_probabilities(browser_page: Any, tmp_path: Path) -> None:
    look = open_page(browser_page, tmp_path, size=(70, 100))
    for layer, (left, cat, none) in enumerate([(0.0, "50.0 %", "48.0 %"), (0.1, "70.0 %", "28.0 %")], start=1):
        browser_page.fill("#layer", str(layer))
        assert browser_page.inner_text("#answerstitle") == f"Query 10 after decoder layer {layer} of 3"
        assert chosen_box(browser_page) == pytest.approx([left, 0.2, 0.3, 0.5], abs=1e-4)
        bars = browser_page.locator("#bars .bar")
        assert bars.nth(0).inner_text().split("\n") == ["cat", cat]
        assert bars.nth(bars.count() - 1).inner_text().split("\n") == ["no object", none]
    browser_page.focus("#layer")
    browser_page.keyboard.press("ArrowRight")
    assert browser_page.inner_text("#layername") == "Decoder layer 3 of 3" and browser_page.is_disabled("#next")
    # The first layer's box shares two thirds of its width, of together 0.5, with the last's, 0.2 to the right.
    assert browser_page.inner_text("#layers tr >> nth=0").split("\t")[:4] == ["1", "cat 50.0 %", "48.0 %", "0.20"]
    # In the second, 0.1 to 0.4 by 0.2 to 0.7 of the image, lie the centres of the first cells of two rows: those of 32
    # pixels are at 16 of 100 to the right, and at 16 and 48 of 70 down.
    share = look.decoder[1, :, 0].mean(0)[:2, 0].sum()
    in_box = browser_page.inner_text("#layers tr >> nth=1").split("\t")[4]
    assert float(in_box.removesuffix(" %")) == pytest.approx(100 * share, abs=0.3)


def test_on_a_phone_nothing_is_wider_than_the_page(browser_page: Any, tmp_path: Path) -> None:
    browser_page.set_viewport_size({"width": 360, "height": 700})
    look = open_page(browser_page, tmp_path, cells=(2, 20), size=(64, 640), heads=8, queries=30)
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "24 of 30" in browser_page.inner_text("#listtitle") and len(look.queries) == 30


def test_without_encoder_and_detections_the_page_says_so(browser_page: Any, tmp_path: Path) -> None:
    look = open_page(browser_page, tmp_path, encoder=0, found=False, decoder=1, heads=1, queries=3)
    assert "these are the 3 surest queries" in browser_page.inner_text("#notice")
    assert browser_page.is_disabled('input[value="encoder"]')
    browser_page.click("#frame", position={"x": 30, "y": 30})
    assert browser_page.inner_text("#caption") == "Decoder layer 1, mean of 1 head: where query 10 (cat) looks"
    assert_reads(browser_page, look, look.decoder[0, 0, 0])


@pytest.mark.slow
def test_a_large_image_stays_below_3_mb_and_coarse_maps_are_read(browser_page: Any, tmp_path: Path) -> None:
    """The size of a DETR-R50 at 800 x 1066 pixels, and noise, which takes the most bytes."""
    open_page(browser_page, tmp_path, cells=(25, 34), size=(800, 1066), encoder=6, decoder=6, heads=8, queries=100)
    assert 1_000_000 < (tmp_path / "attention.html").stat().st_size < 3_000_000
    browser_page.click("#frame", position={"x": 200, "y": 200})
    assert "attends to" in browser_page.inner_text("#caption")


def test_the_page_loads_nothing_and_survives_names_that_look_like_tags(tmp_path: Path) -> None:
    path = write_page(inside(), tmp_path / "a.html", image_name="<b>.jpg", checkpoint_name="x")
    text = path.read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=\"(?!data:)", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|@import|url\(", text)
    assert "default-src 'none'" in text and "{{" not in text and "<h1>Attention: &lt;b&gt;.jpg (x)</h1>" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["queries"][1]["name"] == "dog </script><b>&"


@pytest.mark.slow
def test_the_figure_is_drawn(tmp_path: Path) -> None:
    look = inside(size=(640, 64), cells=(20, 2))
    path = write_figure(look, tmp_path / "a.png", image_name="a.jpg", checkpoint_name="best.pth")
    with Image.open(path) as image:
        assert image.width == 1320 and np.asarray(image.convert("L")).std() > 10


def test_points_of_the_figure_lie_in_four_places_in_the_order_of_their_maps() -> None:
    for queries in (1, 5):
        points = points_of(inside(queries=queries))
        (a, b), (c, d) = points[:2], points[2:]
        assert len(set(points)) == 4 and a[1] <= b[1] and c[1] <= d[1] and max(a[0], b[0]) <= min(c[0], d[0])
        assert pytest.approx((0.45, 0.35)) in points  # the centre of the first box


def sparse(look: Any) -> Any:
    """Leave in every map of the decoder the cells of the first row alone, one of them with next to nothing."""
    decoder = look.decoder.copy()
    decoder[..., 1:, :] = 0
    decoder[..., 0, 0] = 1e-12
    return replace(look, decoder=decoder)


def test_exact_zeros_stay_zeros_and_have_a_colour_of_their_own(tmp_path: Path) -> None:
    maps = sparse(inside()).decoder.reshape(-1, 12)
    for budget in (10_000, 600):
        packed = pack(maps, budget)
        assert packed is not None and ((unpack(packed, maps.shape) == 0) == (maps == 0)).all()
    shown = colours(np.array([0.0, 1e-9, 1.0]))
    assert np.abs(shown[0] - shown[1]).max() > 0.15 and (shown[1] > 0.99).all()


def test_the_page_tells_exact_zeros_from_tiny_weights(browser_page: Any, tmp_path: Path) -> None:
    path = write_page(sparse(inside()), tmp_path / "a.html", image_name="a.jpg", checkpoint_name="x")
    browser_page.goto(path.as_uri())
    browser_page.wait_for_selector("body[data-ready]")
    assert browser_page.inner_text("#nothing").strip() == "66.7 % of the cells have exactly 0"
    assert browser_page.locator("#thumbs label").nth(1).inner_text().split() == ["head", "1", "66", "%", "zero"]
    pixel = "[...document.getElementById('heat').getContext('2d').getImageData(0, {}, 1, 1).data]"
    assert browser_page.evaluate(pixel.format(2))[:3] == list(NOTHING)
    assert min(browser_page.evaluate(pixel.format(0))[:3]) > 250, "next to nothing is white, as on the scale"
    box = browser_page.locator("#frame").bounding_box()
    texts = []
    for part in (0.1, 0.9):
        browser_page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + part * box["height"])
        texts.append(browser_page.inner_text("#readout"))
    assert ": 0.0 % of" in texts[0] and "exactly 0 %" in texts[1]
