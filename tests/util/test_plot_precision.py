"""Curves over recall from kept evaluations, of this project and of the original."""

import datetime
import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from pycocotools.cocoeval import Params

from util.errors import UserError
from util.plot_precision import read_evaluation
from util.plot_utils import plot_precision_recall
from util.runs.plain import to_plain

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RECALLS = np.linspace(0, 1, 5)


def evaluation() -> dict:
    """An evaluation as pycocotools leaves it: two IoU thresholds, five recalls, three classes, one without objects."""
    params = Params(iouType="bbox")
    params.recThrs, params.imgIds, params.catIds = RECALLS, list(np.unique([4, 7])), [1, 2, 3]
    precision = np.full((2, 5, 3, 4, 3), -1.0)
    precision[0, :, :2, 0, -1] = np.stack([1 - RECALLS, 1 - RECALLS / 2], axis=1)
    recall = np.full((2, 3, 4, 3), -1.0)
    recall[0, :2, 0, -1] = (0.5, 0.75)
    counts, date = list(precision.shape), datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    return dict(params=params, counts=counts, date=date, precision=precision, recall=recall, scores=precision / 2)


def ours(content: dict) -> dict:
    arrays = {name: torch.from_numpy(content[name]) for name in ("precision", "recall", "scores")}
    return content | arrays | {"params": to_plain(vars(content["params"]))}


@pytest.mark.parametrize("original", [False, True])
def test_curves_are_means_over_the_measured_classes(
    original: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "a_run" / "eval" / "050.pth"
    path.parent.mkdir(parents=True)
    torch.save(evaluation() if original else ours(evaluation()), path)
    if not original:
        torch.load(path, weights_only=True)
    figure, axes = plot_precision_recall([path])
    lines = [ax.lines[0].get_xydata() for ax in axes]
    np.testing.assert_allclose(lines[0], np.stack([RECALLS, 1 - 0.75 * RECALLS], axis=1))
    np.testing.assert_allclose(lines[1][:, 1], lines[0][:, 1] / 2)
    # The mean precision is 0.625, the mean recall too, and so is their harmonic mean.
    assert capsys.readouterr().out == "iter 050: mAP@50= 62.5, score=0.312, f1=0.625\n"
    plot_precision_recall([path], "exp_id")
    assert capsys.readouterr().out.startswith("exp_id a_run: ")
    plt.close("all")
    assert [ax.get_title() for ax in figure.axes] == ["Precision / Recall", "Scores / Recall"]


def test_files_of_numpy_before_version_2_are_read(tmp_path: Path) -> None:
    path = tmp_path / "eval.pth"
    torch.save(evaluation(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    np.testing.assert_array_equal(read_evaluation(path)["precision"], evaluation()["precision"])
    assert read_evaluation(path)["params"]["imgIds"] == [4, 7]


def test_classes_without_objects_alone_give_zero(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = evaluation()
    content["precision"][:], content["recall"][:] = -1, -1
    torch.save(content, tmp_path / "latest.pth")
    plot_precision_recall([tmp_path / "latest.pth"])
    plt.close("all")
    assert capsys.readouterr().out == "iter latest: mAP@50=  0.0, score=0.000, f1=0.000\n"


class Unsafe:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("content", [{"model": {}}, {"precision": Unsafe()}, b"text"])
def test_other_files_are_refused_and_never_executed(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "latest.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match="latest.pth: no evaluation of a DETR"):
        plot_precision_recall([path])
    assert os.listdir(tmp_path) == ["latest.pth"]


def test_a_missing_file_and_another_scheme_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="latest.pth: no such file"):
        plot_precision_recall([tmp_path / "latest.pth"])
    with pytest.raises(ValueError, match="naming_scheme"):
        plot_precision_recall([], "epoch")
