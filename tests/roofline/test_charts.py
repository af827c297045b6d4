"""Every chart draws: one kernel, many, none with FLOPs; numbers and names do not lie on each other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import roofline
import roofline_pu
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from rooflines import RoofError
from rooflines.analysis import analyse, by_name
from rooflines.charts import sections as sections_chart
from rooflines.charts import time as time_chart
from rooflines.charts.compare import differences
from rooflines.charts.compare import draw as draw_compare
from rooflines.charts.markers import areas
from rooflines.charts.sections import section_order
from rooflines.charts.style import percent, save, seconds, si, significant
from rooflines.gpus import find_gpu
from rooflines.roofs import Roofs, table_roofs
from rooflines.table import tidy

from tests.roofline.kernel_tables import joined, rows

ROOFS = table_roofs(find_gpu("A100 SXM 40"), 1.09e9)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [roofline.draw, roofline_pu.draw, time_chart.draw, sections_chart.draw])
@pytest.mark.parametrize("table", [rows(1), rows(60), rows(5, flops=False)], ids=["one", "many", "no FLOPs"])
@pytest.mark.parametrize("roofs", [ROOFS, Roofs("none")], ids=["roofs", "no roofs"])
def test_charts_draw(draw: Callable, table: pd.DataFrame, roofs: Roofs) -> None:
    figure = draw(table, roofs, title="r")
    figure.set_dpi(40)  # nobody reads it: small images are drawn in half the time
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()) / 255
    assert pixels[..., :3].std() > 0.05, "something is drawn"


def test_a_chart_is_saved_as_image_and_as_vectors(tmp_path: Path) -> None:
    paths = save(roofline.draw(rows(1), ROOFS), tmp_path / "chart")
    assert [path.name for path in paths] == ["chart.png", "chart.svg"]
    assert imread(paths[0])[..., :3].std() > 0.05 and "<svg" in paths[1].read_text()


@pytest.mark.slow
def test_the_same_table_gives_the_same_svg(tmp_path: Path) -> None:
    first, second = (save(roofline.draw(rows(9), ROOFS), tmp_path / name, ("svg",))[0].read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(("draw", "place"), [(roofline.draw, 0), (roofline_pu.draw, 0)])
def test_numbers_do_not_lie_on_each_other(draw: Callable, place: int) -> None:
    figure = draw(rows(40), ROOFS)
    axes = figure.axes[place]
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text().isdigit()]
    assert len(boxes) >= 5
    shrunk = [box.padded(-2) for box in boxes]
    assert not any(a.overlaps(b) for n, a in enumerate(shrunk) for b in shrunk[:n])


def test_area_is_in_proportion_to_time() -> None:
    assert areas(pd.Series([0.2, 0.4])).tolist() == pytest.approx([520, 1040])


def test_the_strip_says_how_much_time_has_no_flops() -> None:
    figure = roofline.draw(rows(60), ROOFS)
    analysed = analyse(by_name(rows(60)), ROOFS)
    share = analysed.loc[analysed["unit"] == "none", "share"].sum()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"hatched: 20 kernels without FLOPs, {percent(share)} of the time" in texts


@pytest.mark.slow
def test_sections_come_in_the_order_of_a_step() -> None:
    table = joined(
        *(rows(2, section=name) for name in ("evaluation", "optimizer_step", "", "backward", "forward", "loss"))
    )
    assert section_order(table) == ["forward", "loss", "backward", "optimizer_step", "evaluation", ""]
    assert len(sections_chart.draw(table, ROOFS).axes) == 5, "four sections and their times"


def test_compare_says_what_each_family_won_or_lost() -> None:
    a = tidy(pd.DataFrame({"run": "a", "kernel": ["x", "y"], "family": ["convolution", "copy"], "time_s": [5.0, 1.0]}))
    b = tidy(
        pd.DataFrame({"run": "b", "kernel": ["z", "w"], "family": ["convolution", "softmax"], "time_s": [2.0, 0.5]})
    )
    table = differences(a, b)
    assert table["change"].to_dict() == {"convolution": -3.0, "copy": -1.0, "softmax": 0.5}
    figure = draw_compare(rows(9), rows(9, seed=1), ROOFS, ROOFS, names=("a", "b"))
    assert any("→" in text.get_text() for text in figure.texts)


@pytest.mark.slow
def test_the_originals_functions_take_their_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flops, hbm, l2, l1, labels = (
        [53_000.0, 160.0, 0.0],
        [530.0, 0.13, 0.0],
        [28.0, 0.06, 0.0],
        [30.0, 0.11, 0.0],
        ["conv", "mul", "cat"],
    )
    assert roofline.roofline("output_x", flops, hbm, l2, l1, labels, "all") == Path("output_x_all.png")
    assert roofline.roofline("output_x", flops, hbm) == Path("output_x_HBM.png")
    units = ["TC/CC", "FP32", "MemOP"]
    assert roofline_pu.roofline_pu("output_x", flops, hbm, hbm, l2, l1, labels, units, "AI") == Path(
        "output_x_PU_AI.png"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"output_x_all.png", "output_x_HBM.png", "output_x_PU_AI.png"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([], [1.0]), "no kernel with FLOPs"),
        (([0.0], [1.0]), "no kernel with FLOPs"),
        (([1.0], []), "must be given"),
        (([1.0], [1.0, 2.0]), "AIHBM has 2 entries, FLOPS has 1"),
        (([1.0], [1.0], None, None, None, "L3"), "flag 'L3' must be one of"),
        (([1.0], [1.0], None, None, None, "L2"), "flag L2 needs AIL2"),
        (([1.0], [1.0], None, None, ["a", "b"]), "LABELS has 2"),
    ],
)
def test_lists_that_do_not_fit_are_named(arguments: tuple, reason: str) -> None:
    with pytest.raises(RoofError, match=reason):
        roofline.roofline("x", *arguments)


def test_short_numbers() -> None:
    assert [si(v, "B/s") for v in (1555e9, 5.0, 0.0)] == ["1.55 TB/s", "5.00 B/s", "0 B/s"] or si(
        1555e9, "B/s", 4
    ) == "1.555 TB/s"
    assert [si(v, "FLOP") for v in (999_960, 3e19)] == ["1.00 MFLOP", "30.0 EFLOP"]
    assert [seconds(v) for v in (4.12e-4, 2e-3, 5e-9, 3.0)] == ["412 us", "2.00 ms", "5.00 ns", "3.00 s"]
    assert [percent(v) for v in (0.65, 0.0161, float("nan"))] == ["65 %", "1.6 %", "-"]
    assert [significant(v) for v in (1163.97, 0.0644, 9.995, float("inf"))] == ["1,160", "0.0644", "9.99", "inf"]


def test_lists_may_be_arrays_or_columns(tmp_path: Path) -> None:
    values = np.array([10.0, 20.0])
    roofline.roofline(str(tmp_path / "a"), values, pd.Series(values), values, values, np.array(["x", "y"]), "all")
    roofline_pu.roofline_pu(str(tmp_path / "b"), values, values, values, None, None, None, PU=["TC", "MemOP"])
    assert {path.name for path in tmp_path.iterdir()} == {"a_all.png", "b_PU_HBM.png"}
