"""Sheets of small images: where each lies, how captions are cut, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from util.draw.boxes import GRID_TILE
from util.draw.sheet import contact_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_rows_of_images_in_their_order(tmp_path: Path) -> None:
    tiles = [
        (Image.new("RGB", (GRID_TILE, 100), RED), "a"),
        (Image.new("RGB", (GRID_TILE, 60), RED), "b"),
        (Image.new("RGB", (200, GRID_TILE), BLUE), "c"),
    ]
    contact_sheet(tiles, columns=2, path=tmp_path / "new" / "sheet.png", title="A title")
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        colours = [sheet.convert("RGB").getpixel(p) for p in ((184, 130), (524, 150), (184, 400), (524, 400))]
        assert sheet.width == 2 * 24 + 2 * GRID_TILE + 20
    assert colours == [RED, RED, BLUE, (255, 255, 255)]


def test_long_captions_keep_both_ends_within_the_tile(tmp_path: Path) -> None:
    tile = Image.new("RGB", (GRID_TILE, 50), RED)
    contact_sheet([(tile, "x" * 500)], columns=4, path=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        margin = sheet.convert("L").crop((0, 0, 20, sheet.height))
        assert sheet.width == 2 * 24 + GRID_TILE and margin.getextrema() == (255, 255)


@pytest.mark.parametrize(("tiles", "columns"), [([], 3), ([(Image.new("RGB", (9, 9)), "a")], 0)])
def test_nothing_to_show_is_refused(tmp_path: Path, tiles: list, columns: int) -> None:
    with pytest.raises(ValueError, match="a sheet needs images and columns"):
        contact_sheet(tiles, columns=columns, path=tmp_path / "sheet.png")
