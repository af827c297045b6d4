"""Checkpoints and data whose class ids mean different things: refused by the command, or matched by name."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, Run, assert_refused

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

EXCHANGED = {3: 7, 7: 3}


def rename(folder: Path, ids: dict[int, int], names: dict[int, str] | None = None) -> None:
    """Give the categories of both splits other ids, and by their old id other names."""
    for file in (folder / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["name"] = (names or {}).get(category["id"], category["name"])
            category["id"] = ids.get(category["id"], category["id"])
        for entry in content["annotations"]:
            entry["category_id"] = ids.get(entry["category_id"], entry["category_id"])
        file.write_text(json.dumps(content))


@pytest.fixture
def flags(run: Run, tmp_path: Path, coco_folder: Path) -> str:
    """Flags of a run of one epoch on `coco_folder` (3 dog, 7 cat) that is in the folder `run`."""
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --lr_backbone 0 --train_scales 64 --dropout 0"
    code, _, err = run(f"{flags} --epochs 1 --output_dir {tmp_path / 'run'}")
    assert code == 0, err
    return flags


@pytest.mark.parametrize(
    ("ids", "names", "words"),
    [
        (EXCHANGED, {}, ["its classes are 3 dog, 7 cat", "data 3 cat, 7 dog", "--match_classes"]),
        ({}, {3: "wolf", 7: "lion"}, ["3 dog, 7 cat", "3 wolf, 7 lion", "equal names"]),
        ({3: 30, 7: 70}, {}, ["3 dog, 7 cat", "30 dog, 70 cat", "--match_classes"]),
    ],
    ids=["exchanged", "other names", "other ids"],
)
def test_ids_that_mean_other_classes_are_refused(
    run: Run, tmp_path: Path, coco_folder: Path, flags: str, ids: dict, names: dict, words: list[str]
) -> None:
    rename(coco_folder, ids, names)
    file = tmp_path / "run" / "checkpoint.pth"
    assert_refused(run(f"{flags} --eval --resume {file}"), str(file), *words)
    assert_refused(run(f"{flags} --epochs 2 --resume {file}"), str(file), *words, "--init_from")


@pytest.mark.parametrize("ids", [EXCHANGED, {3: 30, 7: 70}], ids=["exchanged", "other ids"])
def test_an_evaluation_matched_by_name_finds_the_same(
    run: Run, tmp_path: Path, coco_folder: Path, flags: str, ids: dict[int, int]
) -> None:
    predictions, file = [], tmp_path / "run" / "checkpoint.pth"
    content = torch.load(file, weights_only=True)
    content["model"]["class_embed.bias"][[3, 7]] += 4  # a run this short would find neither of them
    torch.save(content, file)
    for changed, more in (({}, ""), (ids, "--match_classes")):
        rename(coco_folder, changed)
        folder = tmp_path / f"eval{more}"
        code, out, err = run(f"{flags} --eval --resume {file} {more} --output_dir", folder)
        assert code == 0, err
        predictions.append(json.loads((folder / "predictions.json").read_text()))
    assert f"dog 3 -> {ids[3]}" in out
    before, after = ([row for row in rows if row["category_id"] in (3, 7, 30, 70)] for rows in predictions)
    assert {row["category_id"] for row in before} & {3, 7}, "else this test shows nothing"
    for one, other in zip(before, after, strict=True):
        assert ids[one["category_id"]] == other["category_id"] and one["bbox"] == pytest.approx(other["bbox"])
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)


def test_a_run_matched_by_name_learns_the_same(run: Run, tmp_path: Path, coco_folder: Path, flags: str) -> None:
    results = []
    for changed, more in (({}, ""), (EXCHANGED, "--match_classes")):
        rename(coco_folder, changed)
        folder = tmp_path / f"train{more}"
        code, _, err = run(
            f"{flags} --epochs 2 --resume {tmp_path / 'run' / 'checkpoint.pth'} {more} --output_dir", folder
        )
        assert code == 0, err
        results.append(torch.load(folder / "checkpoint.pth", weights_only=True))
    order = torch.tensor([0, 1, 2, 7, 4, 5, 6, 3, 8])
    for name, value in results[0]["model"].items():
        expected = value[order] if name.startswith("class_embed") else value
        assert torch.allclose(expected, results[1]["model"][name], atol=1e-5), name
    assert results[1]["class_names"] == {3: "cat", 7: "dog"}


def test_the_flag_needs_a_checkpoint(run: Run) -> None:
    assert_refused(run(f"{TINY} --match_classes"), "--match_classes", "--resume")


def test_an_evaluation_looks_at_its_data_first(run: Run, coco_folder: Path) -> None:
    (coco_folder / "val2017" / "000000000004.png").unlink()
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --eval"
    assert_refused(run(flags), "000000000004.png: no such file", "of the 4 images of the val split")
