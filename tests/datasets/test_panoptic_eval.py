"""Panoptic predictions of batches and ranks: numbers, table, files, and the reference implementation's numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets import panoptic_eval
from datasets.coco_panoptic import open_split, read_panoptic_file, read_segments
from datasets.evaluation import panoptic_evaluator
from datasets.panoptic_eval import PanopticEvaluator
from tests.datasets.panoptic_folder import panoptic_data, write_panoptic_folder
from util.panoptic_png import encode_segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_panoptic_folder(tmp_path, panoptic_data()) / "annotations"


def evaluator_of(folder: Path, output_dir: Path | None = None) -> PanopticEvaluator:
    return PanopticEvaluator(folder / "panoptic_val2017.json", folder / "panoptic_val2017", output_dir)


def prediction(image_id: int, ids: np.ndarray, **categories: int) -> dict:
    """`s3=18` is segment 3 of category 18."""
    segments = [
        {"id": int(name[1:]), "category_id": c, "isthing": c == 18, "area": int((ids == int(name[1:])).sum())}
        for name, c in categories.items()
    ]
    return {"image_id": image_id, "png_string": encode_segments(ids), "segments_info": segments}


def nearly_right() -> dict:
    """Image 9 with all of the sky and 4 of the dog's 6 pixels."""
    ids = np.zeros((6, 8), int)
    ids[1:3, 2:4] = 1
    return prediction(9, ids, s0=119, s1=18)


def test_quality_of_all_things_and_stuff(folder: Path, capsys: pytest.CaptureFixture) -> None:
    evaluator = evaluator_of(folder)
    evaluator.update([nearly_right()])
    evaluator.update([prediction(2, np.zeros((3, 4), int), s0=119)])
    evaluator.synchronize_between_processes()
    result = evaluator.summarize()
    # The annotations list a second dog of which the PNG has no pixel: it is missed, as by COCO's own implementation.
    # The sky of image 9 has 48 - 6 - 8 pixels; predicted are 44, of them 2 the dog's and 8 a crowd's of another class.
    sky = (34 / 44 + 1) / 2
    assert result["Things"] == pytest.approx({"pq": 4 / 9, "sq": 4 / 6, "rq": 2 / 3, "n": 1})
    assert result["Stuff"] == pytest.approx({"pq": sky, "sq": sky, "rq": 1, "n": 1})
    assert result["All"] == pytest.approx({"pq": (4 / 9 + sky) / 2, "sq": (4 / 6 + sky) / 2, "rq": 5 / 6, "n": 2})
    assert result["per_class"][18]["sq"] == pytest.approx(4 / 6)
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "Panoptic quality, images: 2" and table[1].split() == ["PQ", "SQ", "RQ", "classes"]
    assert table[3].split() == ["Things", "44.4", "66.7", "66.7", "1"] and table[6].split()[0] == "dog"


def test_only_images_that_were_seen_count_and_only_once(folder: Path) -> None:
    evaluator = evaluator_of(folder)
    evaluator.update([prediction(2, np.zeros((3, 4), int), s0=119)])
    evaluator.update([prediction(2, np.ones((3, 4), int), s1=18)])
    assert evaluator.summarize()["All"] == {"pq": 1, "sq": 1, "rq": 1, "n": 1}


def test_a_dataset_without_things_is_no_error(folder: Path, capsys: pytest.CaptureFixture) -> None:
    data = json.loads((folder / "panoptic_val2017.json").read_text())
    for category in data["categories"]:
        category["isthing"] = 0
    (folder / "panoptic_val2017.json").write_text(json.dumps(data))
    assert evaluator_of(folder).summarize()["Things"] == {"pq": 0, "sq": 0, "rq": 0, "n": 0}


def test_files_are_detrs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "not" / "there" / "yet"
    evaluator = evaluator_of(folder, out)
    wrong = nearly_right()
    evaluator.update([wrong, prediction(2, np.zeros((3, 4), int), s0=119) | {"file_name": "two.png"}])
    evaluator.synchronize_between_processes()
    evaluator.summarize()
    assert sorted(p.name for p in out.iterdir()) == ["000000000009.png", "predictions.json", "two.png"]
    assert (out / "000000000009.png").read_bytes() == wrong["png_string"]
    written = json.loads((out / "predictions.json").read_text())
    assert [(a["image_id"], a["file_name"]) for a in written["annotations"]] == [
        (2, "two.png"),
        (9, "000000000009.png"),
    ]
    assert written["annotations"][1]["segments_info"][1] == {"id": 1, "category_id": 18, "isthing": True, "area": 4}


def test_without_a_folder_nothing_is_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    evaluator = PanopticEvaluator(folder / "panoptic_val2017.json", folder / "panoptic_val2017", "")
    evaluator.update([nearly_right()])
    evaluator.summarize()
    assert not list((tmp_path / "here").iterdir())


def test_ranks_are_brought_together_and_repeated_images_count_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = evaluator_of(folder), evaluator_of(folder)
    one.update([nearly_right()])
    two.update([prediction(2, np.zeros((3, 4), int), s0=119), prediction(9, np.full((6, 8), 5), s5=18)])
    monkeypatch.setattr(panoptic_eval, "all_gather", lambda _: [one._images, two._images])
    two.synchronize_between_processes()
    assert [row["image_id"] for row in two.predictions] == [2, 9]
    assert two.summarize()["Things"]["sq"] == pytest.approx(4 / 6)  # the first rank's image 9


def test_images_without_ground_truth_or_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="image id 5 is not"):
        evaluator_of(folder).update([prediction(5, np.zeros((3, 4), int))])
    with pytest.raises(ValueError, match="pixels"):
        evaluator_of(folder).update([prediction(2, np.zeros((4, 3), int), s0=119)])


def test_the_dataset_has_parsed_the_annotations_already(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluator_of(folder)
    dataset = open_split(img_folder=folder.parent / "val2017", ann_file=folder / "panoptic_val2017.json")
    monkeypatch.setattr(panoptic_eval, "read_panoptic_file", None)
    evaluator = panoptic_evaluator(dataset, "")
    for one in (whole, evaluator):
        one.update([nearly_right(), prediction(2, np.zeros((3, 4), int), s0=119)])
    assert evaluator.summarize() == whole.summarize() and evaluator.quality == whole.quality


# ---- real images


def disturbed(ids: np.ndarray, segments: list[dict], labels: list[int], seed: int) -> dict:
    """The ground truth moved a little, some segments split, relabelled or left out."""
    rng = np.random.default_rng(seed)
    ids = np.roll(ids, rng.integers(-12, 13, 2), (0, 1))
    result, info = np.zeros_like(ids), []
    for number, segment in enumerate(segments, start=1):
        inside = ids == segment["id"]
        if rng.random() < 0.1 or not inside.any():
            continue
        label = segment["category_id"] if rng.random() < 0.85 else int(rng.choice(labels))
        result[inside] = number
        info.append({"id": number, "category_id": label, "isthing": False, "area": int(inside.sum())})
    listed = [segment for segment in info if (result == segment["id"]).any()]
    return {"png_string": encode_segments(result), "segments_info": listed}


@pytest.fixture(scope="module")
def on_coco_mini(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """Annotation file, folder of predictions, and our numbers, for disturbed ground truth of COCO's images."""
    annotations = shared_dir / "data" / "coco_mini" / "annotations" / "panoptic_val2017.json"
    if not annotations.is_file():
        pytest.skip("no COCO images beside the checkout")
    folders = [annotations.parent.parent / "panoptic_val2017", annotations.parent / "panoptic_val2017"]
    folder = next(f for f in folders if f.is_dir())
    out = tmp_path_factory.mktemp("panoptic")
    data = read_panoptic_file(annotations)
    labels = [category["id"] for category in data["categories"]]
    evaluator = PanopticEvaluator(annotations, folder, out)
    for annotation in data["annotations"]:
        ids = read_segments(folder / annotation["file_name"], described="segments").numpy()
        found = disturbed(ids, annotation["segments_info"], labels, annotation["image_id"])
        evaluator.update([found | {"image_id": annotation["image_id"]}])
    return annotations, folder, {"out": out, "result": evaluator.summarize()}


@pytest.mark.slow
def test_disturbed_ground_truth_is_good_but_not_perfect(on_coco_mini: tuple) -> None:
    result = on_coco_mini[2]["result"]
    assert 0.3 < result["All"]["pq"] < 0.9 and result["Things"]["n"] + result["Stuff"]["n"] == result["All"]["n"] > 80


PQ_COMPUTE = """
import json, sys
from panopticapi.evaluation import pq_compute
annotations, folder, out = sys.argv[1:]
result = pq_compute(annotations, out + "/predictions.json", gt_folder=folder, pred_folder=out)
json.dump(result, open(out + "/reference.json", "w"))
"""


def test_numbers_are_panopticapis(on_coco_mini: tuple) -> None:
    """PANOPTICAPI names a checkout of github.com/cocodataset/panopticapi, COCO's own implementation."""
    checkout = os.environ.get("PANOPTICAPI")
    if not checkout:
        pytest.skip("PANOPTICAPI does not name a checkout of panopticapi")
    annotations, folder, ours = on_coco_mini
    command = [sys.executable, "-c", PQ_COMPUTE, str(annotations), str(folder), str(ours["out"])]
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    reference = json.loads((ours["out"] / "reference.json").read_text())
    for name in ("All", "Things", "Stuff"):
        assert ours["result"][name] == pytest.approx(reference[name], abs=1e-12), name
    for category, quality in reference["per_class"].items():
        assert ours["result"]["per_class"][int(category)] == pytest.approx(quality, abs=1e-12)
