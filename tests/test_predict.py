"""The command predict.py: what it reads, writes and says, and the same detections as main.py --eval."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import main
import predict
from tests.helpers import assert_refused
from tests.inference.checkpoints import NAMES, write_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

SIZES = {1: (90, 60), 2: (64, 64), 5: (50, 130), 7: (200, 40), 8: (64, 70)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and images of mixed sizes in COCO's layout with an object each."""
    folder = tmp_path_factory.mktemp("data")
    write_checkpoint(folder / "best.pth", names=NAMES)
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    random = np.random.default_rng(0)
    for image_id, (width, height) in SIZES.items():
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in SIZES.items()],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 3, "bbox": [5, 5, 30, 20], "area": 600, "iscrowd": 0}
            for i in SIZES
        ],
        "categories": [{"id": id_, "name": name} for id_, name in NAMES.items()],
    }
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on the model; returns exit code, output, errors."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        flags = ["--resume", str(data / "best.pth"), "--device", "cpu", "--output", str(tmp_path / "out")]
        code = predict.cli([*flags, *map(str, words)])
        return code, *capsys.readouterr()

    return call


def results(path: Path) -> dict[int, list[dict]]:
    """Results in COCO's format by image, the surest first."""
    found: dict[int, list[dict]] = {}
    for result in sorted(json.loads(path.read_text()), key=lambda result: -result["score"]):
        found.setdefault(result["image_id"], []).append(result)
    return found


def assert_equal_results(one: dict[int, list[dict]], other: dict[int, list[dict]]) -> None:
    assert one.keys() == other.keys() == SIZES.keys()
    for image_id in one:
        assert len(one[image_id]) == len(other[image_id]) == 6  # as many as queries
        for a, b in zip(one[image_id], other[image_id]):
            assert a["category_id"] == b["category_id"] and a["score"] == pytest.approx(b["score"], abs=1e-5)
            assert a["bbox"] == pytest.approx(b["bbox"], abs=2e-3)


@pytest.mark.slow
def test_detections_are_those_of_an_evaluation_in_any_batch(data: Path, run: Any, tmp_path: Path) -> None:
    def evaluate(name: str, flags: str) -> dict[int, list[dict]]:
        common = f"--eval --resume {data}/best.pth --data_path {data} --dataset_file custom --device cpu"
        assert main.cli(f"{common} --num_workers 0 --output_dir {tmp_path / name} {flags}".split()) == 0
        return results(tmp_path / name / "predictions.json")

    def detect(flags: str) -> dict[int, list[dict]]:
        truth = data / "annotations" / "val.json"
        given = ["--input", data / "images", "--truth", truth, "--json", "--no_images"]
        assert run(*given, *flags.split())[0] == 0
        return results(tmp_path / "out" / "predictions.json")

    alone, leaky = evaluate("one", "--batch_size 1"), evaluate("leaky", "--batch_size 4")
    assert_equal_results(detect(""), alone)
    assert_equal_results(detect("--batch_size 4"), alone)
    assert_equal_results(detect("--batch_size 4 --no_padding_invariant"), leaky)
    with pytest.raises(AssertionError):
        assert_equal_results(alone, leaky)


@pytest.mark.slow
def test_everything_that_can_be_written(data: Path, run: Any, tmp_path: Path) -> None:
    code, out, err = run(
        *("--input", data / "images", "--threshold", "0.2", "--top", "3", "--batch_size", "2"),
        *("--json", "--csv", "--yolo", "--save_crops"),
    )
    assert (code, err) == (0, "") and out.count(" objects: ") == 6 and "5 images, 15 objects: " in out
    assert "images a second: reading " in out and "writing" in out
    folder = tmp_path / "out"
    assert {path.name for path in folder.glob("*.png")} == {f"{i}.png" for i in SIZES}
    found = json.loads((folder / "predictions.json").read_text())
    assert len(found) == 15 and {(r["image_id"], r["file_name"]) for r in found} >= {(1, "1.png"), (5, "8.png")}
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    assert len(rows) == 15 and float(rows[0]["score"]) == pytest.approx(found[0]["score"], abs=1e-4)
    assert float(rows[0]["right"]) == pytest.approx(found[0]["bbox"][0] + found[0]["bbox"][2], abs=0.1)
    assert (folder / "classes.txt").read_text().split() == ["cat", "dog", "cup"]
    lines = (folder / "labels" / "1.txt").read_text().splitlines()
    left, top, width, height = found[0]["bbox"]
    clipped = (max(left, 0) + min(left + width, 90)) / 2 / 90
    assert lines and float(lines[0].split()[1]) == pytest.approx(clipped, abs=1e-4)
    crops = list(folder.glob("crops/*/*.png"))
    assert crops and {path.parent.name for path in crops} <= set(NAMES.values())


@pytest.mark.slow
def test_classes_and_duplicates_are_left_out(data: Path, run: Any, tmp_path: Path) -> None:
    code, _, _ = run("--input", data / "images", "--classes", "Dog, cup", "--no_images", "--json", "--nms", "0.0")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert code == 0 and {result["category_id"] for result in found} <= {2, 3}
    assert not list((tmp_path / "out").glob("*.png"))
    assert_refused(run("--input", data / "images", "--classes", "dgo"), "--classes dgo", "did you mean dog?")


def test_where_nothing_is_found_it_says_what_shows_more(data: Path, run: Any) -> None:
    code, out, _ = run("--input", data / "images" / "1.png", "--no_images", "--threshold", "1")
    assert code == 0 and "1 image, 0 objects" in out and "nothing scores 1: --threshold 0.5 shows what is less" in out


def test_truth_and_detections_lie_side_by_side(data: Path, run: Any, tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "other.png")
    truth = data / "annotations" / "val.json"
    code, out, _ = run("--input", data / "images", tmp_path / "other.png", "--truth", truth, "--json")
    counts = re.search(r"(\d+) objects found, (\d+) missed, (\d+) detections false", out)
    assert code == 0 and counts and int(counts[1]) + int(counts[2]) == 5
    assert "1 of the images are not in" in out
    with Image.open(tmp_path / "out" / "2.png") as image:
        assert image.size == (2 * 320 + 4, 320)
    assert set(results(tmp_path / "out" / "predictions.json")) == set(SIZES)


@pytest.mark.slow
def test_truth_of_a_model_that_learned_some_classes(data: Path, run: Any, tmp_path: Path) -> None:
    """Trained with --classes: objects of the others are neither missed nor a reason to refuse the file."""
    checkpoint = write_checkpoint(tmp_path / "two.pth", names={id_: NAMES[id_] for id_ in (1, 2)})
    content = torch.load(checkpoint, weights_only=True)
    flags = ["--resume", checkpoint, "--input", data / "images", "--no_images"]
    flags += ["--truth", data / "annotations" / "val.json"]
    assert_refused(run(*flags), "its classes are not the model's: 3 is cup")
    torch.save(content | {"args": content["args"] | {"classes": "Cat, dog"}}, checkpoint)
    code, out, err = run(*flags)
    assert (code, err) == (0, "") and "objects of Cat, dog count: the model was trained with these --classes" in out
    counts = re.search(r"(\d+) objects found, (\d+) missed", out)
    assert counts and int(counts[1]) + int(counts[2]) == 2, "of the five objects two are dogs, none is a cat"


@pytest.mark.slow
def test_labels_of_a_dense_model_become_the_ids_of_the_file(data: Path, run: Any, tmp_path: Path) -> None:
    ids = {0: 9_000_000, 1: 4, 2: 70}
    names = {0: "mug", 1: "cat", 2: "dog"}
    checkpoint = write_checkpoint(tmp_path / "dense.pth", names=names, category_ids=ids)
    content = json.loads((data / "annotations" / "val.json").read_text())
    content["categories"] = [{"id": ids[label], "name": name} for label, name in names.items()]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"] - 1]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    flags = ["--resume", checkpoint, "--input", data / "images", "--truth", tmp_path / "truth.json", "--json", "--csv"]
    code, out, err = run(*flags, "--threshold", "0.01")
    assert (code, err) == (0, "") and "objects found" in out
    pairs = {
        (int(row["category_id"]), row["name"]) for row in csv.DictReader((tmp_path / "out/predictions.csv").open())
    }
    assert pairs and pairs <= {(ids[label], name) for label, name in names.items()}  # the fourth class has no id
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {result["category_id"] for result in found} == {id_ for id_, _ in pairs}


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(data: Path, run: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    code, out, _ = run("--input", tmp_path / "broken.jpg", "missing.jpg", data / "images" / "1.png")
    assert code == 1 and "1 image, " in out
    last = out[out.index("could not be read: 2") :]
    assert "missing.jpg: no such file" in last and "broken.jpg: cannot read the image" in last
    assert (tmp_path / "out" / "1.png").is_file()


def test_what_was_done_before_an_interruption_is_kept(
    data: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect, calls = predict.Detector.detect, iter([False, False, True])

    def interrupted(self: predict.Detector, *args: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return detect(self, *args)

    monkeypatch.setattr(predict.Detector, "detect", interrupted)
    code, out, _ = run("--input", data / "images", "--json")
    assert code == 130 and "2 images, " in out
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 12
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--input missing.jpg *.nothing",
            ["nothing to read", "missing.jpg: no such file", "*.nothing: no file matches"],
        ),
        ("--input {data}/images --output a.jpg", ["--output a.jpg", "there are 5"]),
        ("--input {data}/images --output {data}/images", ["would overwrite", "1.png"]),
        ("--input {data}/images --output {data}/best.pth/out", ["cannot write", "best.pth"]),
        ("--input {data}/images --threshold 70", ["--threshold 70.0", "from 0 to 1"]),
        ("--input {data}/images --top 0", ["--top 0", "from 1"]),
        ("--input {data}/images --truth {data}/other.json", ["other.json", "1 is person, the model's cat"]),
    ],
)
def test_mistakes_are_one_line(data: Path, run: Any, flags: str, words: list[str]) -> None:
    content = json.loads((data / "annotations" / "val.json").read_text())
    content["categories"][0]["name"] = "person"
    (data / "other.json").write_text(json.dumps(content))
    assert_refused(run(*flags.format(data=data).split()), *words)


def test_a_single_image_can_go_to_a_file(data: Path, run: Any, tmp_path: Path) -> None:
    code, _, _ = run("--input", data / "images" / "1.png", "--output", tmp_path / "new" / "drawn.jpg")
    assert code == 0 and [path.name for path in (tmp_path / "new").iterdir()] == ["drawn.jpg"]
