"""Reports from the command line: of an evaluation just made, of a run's folder, of two runs, and every mistake."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import TINY, Run, assert_refused
from util.report.__main__ import cli

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

#: A detection for each object of the fixture `coco_folder` that has a box with an area.
FOUND = [(1, 3, [10, 10, 20, 10]), (1, 7, [0, 0, 20, 20]), (4, 3, [2, 0, 1, 50]), (9, 7, [50, 30, 10, 10])]
Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Run `python -m util.report` in this process: its exit code, what it printed, and its errors."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli([*map(str, words)])
        return code, *capsys.readouterr()

    return call


def write_run(folder: Path, data_path: Path, *, shift: float = 0, **flags: Any) -> Path:
    """Write what an evaluation leaves: every object found, `shift` pixels to the right."""
    folder.mkdir(exist_ok=True)
    results = [
        {"image_id": i, "category_id": label, "bbox": [x + shift, y, w, h], "score": 0.9}
        for i, label, (x, y, w, h) in FOUND
    ]
    (folder / "predictions.json").write_text(json.dumps(results))
    annotations = data_path / "annotations" / "instances_val2017.json"
    info = {"flags": {"dataset_file": "coco", "data_path": str(data_path), **flags}, "annotations": str(annotations)}
    (folder / "eval.json").write_text(json.dumps(info | {"command": "main.py --eval", "stats": {}}))
    return folder


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_a_report_of_a_folder_is_one_page_and_its_numbers(report: Report, coco_folder: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a <run> & co", coco_folder)
    code, out, err = report(folder)
    assert code == 0 and "index.html and" in out, err
    data = read(folder / "report")
    assert data["kinds"]["bbox"]["metrics"]["AP"] == 1 and data["images"] == 4 and data["training"] is None
    assert any("no training curves" in note for note in data["notes"])
    page = (folder / "report" / "index.html").read_text()
    assert "<h1>a &lt;run&gt; &amp; co</h1>" in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/jpeg;base64,") == 2 * len(data["shown"]["best"]) > 0
    (folder / "log.txt").write_text('{"epoch": 0, "train_loss": 2.0, "test_coco_eval_bbox": [0.1, 0.2]}\n')
    (folder / "eval.json").rename(folder / "run.json")  # as of an evaluation before eval.json was
    assert report(folder, "--images", 1, "--output", tmp_path / "other")[0] == 0
    data = read(tmp_path / "other")
    assert data["training"]["AP"]["AP50 of boxes"] == {"epoch": [0], "value": [0.2]}
    assert len(data["shown"]["best"]) == 1


def test_images_and_folders_that_are_gone_leave_a_line(report: Report, coco_folder: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", coco_folder)
    (coco_folder / "val2017" / "000000000001.png").unlink()
    assert report(folder)[0] == 0
    assert any(
        "1 of 3 images cannot be read" in note and "no such file" in note for note in read(folder / "report")["notes"]
    )
    (coco_folder / "val2017").rename(tmp_path / "elsewhere")
    assert report(folder)[0] == 0
    data = read(folder / "report")
    assert any("not where the evaluation found it" in note for note in data["notes"])
    assert data["kinds"]["bbox"]["metrics"]["AP"] == 1


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "predictions.json").unlink(), ["no predictions.json", "main.py --eval"]),
        (lambda folder: (folder / "predictions.json").write_text("[{"), ["predictions.json: cannot be read"]),
        (lambda folder: (folder / "eval.json").unlink(), ["neither eval.json nor run.json"]),
        (lambda folder: (folder / "eval.json").write_text("[]"), ["eval.json: no flags"]),
        (lambda folder: (folder / "report").write_text("in the way"), ["a report cannot be written there"]),
    ],
)
def test_folders_of_no_evaluation_are_one_line(
    report: Report, coco_folder: Path, tmp_path: Path, break_it: Callable[[Path], object], words: list[str]
) -> None:
    folder = write_run(tmp_path / "run", coco_folder)
    break_it(folder)
    assert_refused(report(folder), *words)
    assert_refused(report(tmp_path / "missing"), "no such folder")
    assert_refused(report(folder, "--images", -1), "--images -1")


def test_images_without_objects_have_no_report(report: Report, coco_folder: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", coco_folder)
    file = coco_folder / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    assert_refused(report(folder), "its 4 images have no objects")


def test_two_runs_are_compared(report: Report, coco_folder: Path, tmp_path: Path) -> None:
    good, bad = (write_run(tmp_path / name, coco_folder, shift=shift) for name, shift in (("good", 0), ("bad", 9)))
    code, out, err = report(bad, good, "--bootstrap", 20)
    assert code == 0 and f"wrote {good / 'comparison' / 'index.html'}" in out, err
    data = read(good / "comparison")
    ap = data["kinds"]["bbox"]["metrics"][0]
    assert (ap["name"], ap["b"]) == ("AP", 1) and ap["change"] == pytest.approx(1 - ap["a"], abs=1e-4) and ap["a"] < 1
    assert ap["lower"] <= ap["change"] <= ap["upper"] and ap["share_above_0"] == 1
    assert data["differing"]["better"] == len(data["shown"]["better"]) > 0 and not data["shown"]["worse"]
    page = (good / "comparison" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * len(data["shown"]["better"])
    assert report(good, good, "--bootstrap", 0)[0] == 0
    same = read(good / "comparison")
    assert same["differing"] == {"better": 0, "equal": 4, "worse": 0, "kind": "bbox"}
    assert all(not row["change"] and row["lower"] is None for row in same["kinds"]["bbox"]["metrics"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [({"fast_dev_run": 0.5}, "different images (4 and 2, 2 in both)"), ({"max_dets": 200}, "one --max_dets")],
)
def test_runs_of_different_data_are_not_compared(
    report: Report, coco_folder: Path, tmp_path: Path, flags: dict[str, Any], words: str
) -> None:
    a, b = write_run(tmp_path / "a", coco_folder), write_run(tmp_path / "b", coco_folder, **flags)
    assert_refused(report(a, b), words)


@pytest.mark.slow
def test_eval_report_gives_the_report_that_the_folder_gives_later(run: Run, report: Report, tmp_path: Path) -> None:
    code, out, err = run(f"{TINY} --masks --eval --report --output_dir {tmp_path}")
    assert code == 0 and f"wrote {tmp_path / 'report' / 'index.html'}" in out, err
    data = read(tmp_path / "report")
    assert list(data["kinds"]) == ["bbox", "segm"] and data["main_kind"] == "segm"
    info = json.loads((tmp_path / "eval.json").read_text())
    assert [v or 0 for v in data["kinds"]["segm"]["metrics"].values()] == pytest.approx(
        [max(v, 0) for v in info["stats"]["coco_eval_masks"]], abs=2e-5
    )
    assert report(tmp_path, "--output", tmp_path / "later")[0] == 0
    assert read(tmp_path / "later") == data


@pytest.mark.slow
def test_predictions_without_truth_are_written_and_no_report(run: Run, coco_folder: Path, tmp_path: Path) -> None:
    file = coco_folder / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    flags = TINY.replace("--dataset_file shapes", f"--data_path {coco_folder} --max_size 64 --no_check")
    assert_refused(run(f"{flags} --eval --report --output_dir {tmp_path / 'out'}"), "no report", "no objects")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (tmp_path / "out" / "detections.png").is_file()


@pytest.mark.slow
def test_a_panoptic_report_has_the_table_of_quality(
    run: Run, report: Report, panoptic_folder: Path, tmp_path: Path
) -> None:
    flags = TINY.replace("--dataset_file shapes", "--dataset_file coco_panoptic --masks --no_check")
    out_dir = tmp_path / "out"
    code, _, err = run(f"{flags} --data_path {panoptic_folder} --eval --report --output_dir {out_dir}")
    assert code == 0, err
    data = read(out_dir / "report")
    assert {"All", "Things", "Stuff"} < data["panoptic"].keys()
    assert [row["name"] for row in data["panoptic"]["per_class"]][:1] == ["sky"]
    assert "Panoptic quality" in (out_dir / "report" / "index.html").read_text()


@pytest.mark.parametrize("flags", ["--report", "--report --eval", "--report --output_dir out"])
def test_report_is_about_an_evaluation_with_a_folder(run: Run, flags: str) -> None:
    assert_refused(run(flags), "--report is about an evaluation")


def test_without_hotcoco_a_report_is_refused_at_once(
    run: Run, report: Report, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert_refused(run(f"--eval --report --output_dir {tmp_path}"), "--report needs hotcoco", "pip install hotcoco")
    assert_refused(report(write_run(tmp_path / "run", coco_folder)), "a report needs hotcoco", "pip install hotcoco")
