"""Curves from log.txt: what is read, what is drawn, what is refused."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from util import plot_utils
from util.errors import UserError
from util.plot_utils import plot_curves, plot_logs, read_log

matplotlib.use("Agg")


def row(epoch: int, **changes) -> dict:
    """A row as the training loop writes it: losses fall, AP rises, AP50 is twice AP."""
    values = {
        "loss": 8.0,
        "loss_ce": 1.0,
        "loss_bbox": 2.0,
        "loss_giou": 1.5,
        "class_error": 90.0,
        "loss_bbox_unscaled": 0.4,
    }
    losses = {f"{part}_{name}": value / (epoch + 1) for part in ("train", "test") for name, value in values.items()}
    ap = 0.1 * (epoch + 1)
    return losses | {"test_coco_eval_bbox": [ap, 2 * ap] + [0.0] * 10, "epoch": epoch} | changes


def write_log(folder: Path, rows: list[dict], tail: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "log.txt"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + tail)
    return path


@pytest.fixture
def axes_of(monkeypatch, tmp_path):
    """Draw the curves of some rows and return the panels by title."""
    from matplotlib.figure import Figure

    def draw(rows: list[dict]) -> dict:
        figures = []
        add_gridspec = Figure.add_gridspec
        monkeypatch.setattr(
            Figure, "add_gridspec", lambda self, *a, **k: figures.append(self) or add_gridspec(self, *a, **k)
        )
        plot_curves(write_log(tmp_path, rows), tmp_path / "curves.png")
        return {axes.get_title(): axes for axes in figures[-1].axes}

    return draw


@pytest.fixture(autouse=True)
def close_figures():
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def lines_of(axes) -> dict[str, tuple[list, list]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


# --- read_log ---------------------------------------------------------------------------------------------------------


def test_log_is_read_without_its_half_written_last_line(tmp_path):
    path = write_log(tmp_path, [row(0), row(1)], tail='\n{"train_loss": 0.3, "te')
    assert [r["epoch"] for r in read_log(path)] == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no epoch is logged"),
        ("\n \n", "no epoch is logged"),
        ('{"epo', "no epoch is logged"),
        ('{"epoch": 0}\n{"epo\n{"epoch": 2}\n', "line 2: not JSON"),
        ("[1, 2]\n", "line 1: not the row"),
    ],
)
def test_broken_logs_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "log.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_log(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_unreadable_logs_are_refused(tmp_path):
    with pytest.raises(UserError, match="no readable log"):
        read_log(tmp_path / "log.txt")
    with pytest.raises(UserError, match="no readable log"):
        read_log(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="no readable log"):
        read_log(tmp_path / "binary")


# --- plot_curves ------------------------------------------------------------------------------------------------------


def test_curves_show_ap_and_four_losses(axes_of):
    panels = axes_of([row(epoch) for epoch in range(4)])
    assert list(panels) == ["average precision, test", *plot_utils.LOSSES.values()]
    precision = {label.split(":")[0]: values for label, (_, values) in lines_of(next(iter(panels.values()))).items()}
    np.testing.assert_allclose(precision["AP"], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(precision["AP50"], [0.2, 0.4, 0.6, 0.8])
    for name, title in plot_utils.LOSSES.items():
        for part, label in (("train", "training"), ("test", "test")):
            epochs, values = lines_of(panels[title])[label]
            assert epochs == [0, 1, 2, 3]
            assert values == [row(epoch)[f"{part}_{name}"] for epoch in range(4)]


def test_legend_names_best_and_last_ap(axes_of):
    scores = [0.2, 0.5, 0.4]
    rows = [row(e, test_coco_eval_bbox=[ap, ap] + [0] * 10) for e, ap in enumerate(scores)]
    labels = lines_of(axes_of(rows)["average precision, test"])
    assert "AP: best 0.500, last 0.400" in labels


def test_masks_have_dashed_lines_of_their_own(axes_of):
    rows = [
        {"epoch": k, "test_coco_eval_bbox": [0.1 * k] * 12, "test_coco_eval_masks": [0.05 * k] * 12} for k in range(3)
    ]
    axes = axes_of(rows)["average precision, test"]
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert styles["AP: best 0.200, last 0.200"] == "-" and styles["mask AP: best 0.100, last 0.100"] == "--"


def test_one_epoch_is_visible(axes_of, tmp_path):
    panels = axes_of([row(7)])
    for axes in panels.values():
        assert all(line.get_marker() == "o" for line in axes.lines) and axes.lines
        assert axes.get_xlim() == (6.5, 7.5)
        assert [tick for tick in axes.get_xticks() if 6.5 <= tick <= 7.5] == [7]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG" and image.width >= 1000


@pytest.mark.slow
def test_rows_without_a_number_are_skipped(axes_of):
    rows = [row(0), row(1, train_loss=float("nan"), test_loss=None), row(2)]
    del rows[2]["test_coco_eval_bbox"]
    panels = axes_of(rows)
    assert lines_of(panels["total loss"])["training"][0] == [0, 2]
    assert lines_of(panels["total loss"])["test"][0] == [0, 2]
    assert next(iter(lines_of(panels["average precision, test"]).values()))[0] == [0, 1]


def test_log_without_evaluation_is_drawn(axes_of):
    panels = axes_of([{"epoch": 0, "train_loss": 3.0}])
    assert not panels["average precision, test"].lines
    assert "not in this log" in [text.get_text() for text in panels["class loss"].texts]


def test_curves_touch_no_global_figures(tmp_path):
    from matplotlib import pyplot

    plot_curves(write_log(tmp_path, [row(0)]), tmp_path / "curves.png")
    assert pyplot.get_fignums() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "log.txt"]


# --- plot_logs --------------------------------------------------------------------------------------------------------


def test_plot_logs_draws_ap_not_ap50(tmp_path):
    write_log(tmp_path / "run", [row(0), row(1)])
    _, panels = plot_logs(tmp_path / "run")
    assert [axes.get_title() for axes in panels] == ["class_error", "loss_bbox_unscaled", "AP"]
    np.testing.assert_allclose(lines_of(panels[2])["run"][1], [0.1, 0.2])
    _, panels = plot_logs(tmp_path / "run", fields=("AP", "AP50"))
    assert [axes.get_title() for axes in panels] == ["AP", "AP50"]
    np.testing.assert_allclose([lines_of(axes)["run"][1] for axes in panels], [[0.1, 0.2], [0.2, 0.4]])


def test_plot_logs_gives_each_run_a_colour_and_each_part_a_style(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        write_log(folder, [row(0), row(1)])
    _, (panel,) = plot_logs(folders, fields=("class_error",))
    assert [line.get_linestyle() for line in panel.lines] == ["-", "--"] * 2
    colours = [line.get_color() for line in panel.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["first", "second"]


def test_plot_logs_takes_another_file_name(tmp_path):
    write_log(tmp_path, [row(0)]).rename(tmp_path / "other.txt")
    _, panels = plot_logs([tmp_path], fields=["loss"], log_name="other.txt")
    assert lines_of(panels[0])[tmp_path.name] == ([0], [8.0])


@pytest.mark.parametrize("centre_of_mass", [0, 0.5, 3])
def test_smoothing_is_that_of_pandas(centre_of_mass):
    pandas = pytest.importorskip("pandas")
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    expected = pandas.Series(values).ewm(com=centre_of_mass).mean().tolist()
    np.testing.assert_allclose(plot_utils._smooth(values, centre_of_mass), expected)


def test_plot_logs_names_the_fields_there_are(tmp_path):
    write_log(tmp_path, [row(0)])
    with pytest.raises(UserError, match="no log has the field 'los'.*class_error.*loss_bbox"):
        plot_logs(tmp_path, fields=("los",))


def test_plot_logs_refuses_a_folder_without_log(tmp_path):
    with pytest.raises(UserError, match="no readable log"):
        plot_logs([tmp_path])


# --- python -m util.plot_utils ----------------------------------------------------------------------------------------


def test_the_command_draws_runs_over_each_other(tmp_path, monkeypatch, capsys):
    folders = [tmp_path / name for name in ("a/out", "b/out", "c")]
    for number, folder in enumerate(folders):
        folder.parent.mkdir(exist_ok=True)
        masks = {"test_coco_eval_masks": [0.3] * 12} if number else {}
        write_log(folder, [row(0, **masks), row(1, **masks)])
    drawn = []
    monkeypatch.setattr(plot_utils, "_finish", lambda axes, title: drawn.append((title, lines_of(axes))))
    assert plot_utils.cli([*map(str, folders), "--output", str(tmp_path / "over.png")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'over.png'}\n"
    assert [title.split(",")[0] for title, _ in drawn[:2]] == ["AP", "AP50"] and len(drawn) == 6
    for _, lines in drawn:
        assert [name for name in lines if not name.startswith("_")] == [str(folders[0]), str(folders[1]), "c"]
    np.testing.assert_allclose(drawn[1][1]["c"][1], [0.2, 0.4])
    assert sum(len(lines) for _, lines in drawn[:2]) == 2 * 5, "two of the runs have masks"
    with Image.open(tmp_path / "over.png") as image:
        assert image.format == "PNG" and image.width >= 1000


@pytest.mark.parametrize(("flags", "word"), [("missing", "no readable log"), ("run --output a.doc", "end it in .png")])
def test_the_command_answers_mistakes_in_one_line(tmp_path, monkeypatch, capsys, flags, word):
    write_log(tmp_path / "run", [row(0)])
    monkeypatch.chdir(tmp_path)
    assert plot_utils.cli(flags.split()) == 2
    err = capsys.readouterr().err
    assert word in err and err.count("\n") == 1
    assert not (tmp_path / "a.doc").exists()
