"""Checkpoints on the command line: published files and own runs evaluate without flags; contradictions are refused."""

import argparse
from pathlib import Path

import pytest
import torch

import building
import main
from tests import small_runs
from tests.file_server import serve
from tests.helpers import TINY, Run, assert_refused, rows
from tests.models.official import constant_state, write_published, write_training
from util.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: What is said of the machine and the data, and nothing of the model.
PLAIN = "--device cpu --num_workers 0 --image_size 64 --no_check"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None, undrawn_curves: None) -> Path:
    """The folder of a short run of our own with an unusual model; the tests leave it as it is."""
    folder = tmp_path_factory.mktemp("own")
    assert main.cli(f"{TINY} --pre_norm --position_embedding learned --epochs 1 --output_dir {folder}".split()) == 0
    return folder


def architecture_line(out: str) -> str:
    (line,) = [line for line in out.splitlines() if line.startswith("architecture of ")]
    return line


# ---- --eval --resume


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "sizes", "words", "params"),
    [
        ("detr-r50", {}, ["--backbone resnet50", "--num_classes 91", "no --masks"], 41_302_368),
        ("detr-r101", {"backbone": "resnet101"}, ["--backbone resnet101"], 60_242_272),
        (
            "detr-r50-panoptic",
            {"masks": True},
            ["--num_classes 250", "--masks", "--nheads 8 (its weights)"],
            42_676_888,
        ),
    ],
)
def test_files_like_the_published_ones_evaluate_without_flags(
    run: Run, tmp_path: Path, coco_folder: Path, stem: str, sizes: dict, words: list[str], params: int
) -> None:
    file = write_published(tmp_path, stem, **sizes)
    code, out, err = run(f"{PLAIN} --eval --coco_path {coco_folder} --resume {file}")
    assert code == 0, err
    line = architecture_line(out)
    assert line.startswith(f"architecture of {file}: ") and all(word in line for word in words), line
    assert "no --dilation (DETR's; the file cannot tell)" in line
    assert f"number of params: {params}\n" in out and ("IoU metric: segm" in out) == bool(sizes.get("masks"))


@pytest.mark.slow
def test_the_name_of_a_published_dc5_file_dilates(
    run: Run, tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, build = [], building.build_model
    monkeypatch.setattr(building, "build_model", lambda args, **more: built.append(build(args, **more)) or built[-1])
    file = write_published(tmp_path, "x").rename(tmp_path / "detr-r50-dc5-f0fb7ef5.pth")
    code, out, err = run(f"{PLAIN} --eval --coco_path {coco_folder} --resume {file}")
    assert code == 0, err
    assert architecture_line(out).endswith("--nheads 8 --dilation (its name)") and "try --batch_size 1" in out
    assert built[0][0].backbone[0].body.layer4[1].conv2.dilation == (2, 2)


@pytest.mark.slow
def test_an_address_evaluates_without_flags(
    run: Run, tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with serve(tmp_path / "remote") as site:
        file = write_published(tmp_path / "remote", "detr-r50", hidden=16, ffn=24)
        code, out, err = run(f"{PLAIN} --eval --coco_path {coco_folder} --resume {site.url}/{file.name}")
    assert code == 0, err
    assert f"architecture of {site.url}/{file.name}: " in out and "--dim_feedforward 24 --hidden_dim 16" in out


@pytest.mark.slow
@pytest.mark.parametrize("original", ["", "--original_panoptic"])
def test_a_panoptic_checkpoint_is_evaluated_by_panoptic_quality_without_the_flag_masks(
    run: Run, tmp_path: Path, panoptic_folder: Path, original: str
) -> None:
    file = write_published(tmp_path, "detr-r50-panoptic", masks=True, hidden=16, ffn=24)
    place = f"--coco_path {panoptic_folder} --coco_panoptic_path {panoptic_folder} {original}"
    code, out, err = run(f"{PLAIN} --eval --dataset_file coco_panoptic {place} --resume {file}")
    assert code == 0, err
    assert "Panoptic quality, images: 2" in out


@pytest.mark.slow
def test_a_checkpoint_of_the_originals_training_evaluates_without_flags(
    run: Run, tmp_path: Path, coco_folder: Path
) -> None:
    file = write_training(tmp_path / "checkpoint.pth", sizes={"hidden": 16, "ffn": 24}, nheads=2, dilation=True)
    code, out, err = run(f"{PLAIN} --eval --coco_path {coco_folder} --resume {file} --batch_size 1")
    assert code == 0, err
    assert "--dilation --nheads 2 (the run that wrote it)" in architecture_line(out) and "note:" not in out


@pytest.mark.slow
def test_a_run_evaluates_without_flags_to_the_numbers_in_its_log(run: Run, tmp_path: Path, own: Path) -> None:
    again = tmp_path / "again"
    flags = f"--eval --dataset_file shapes --val_size 4 --device cpu --num_workers 0 --output_dir {again}"
    code, out, err = run(f"{flags} --resume {own / 'checkpoint.pth'}")
    assert code == 0, err
    line = architecture_line(out)
    for words in (
        "--backbone resnet18 --backbone_norm batch --position_embedding learned --enc_layers 1 --dec_layers 2",
        "--num_queries 12 --pre_norm --num_classes 5",
        "--nheads 2 (the run that wrote it)",
    ):
        assert words in line
    assert "--image_size 64; give another" in out
    files = (own / "eval" / "latest.pth", again / "eval.pth")
    figures = [torch.load(file, weights_only=True) for file in files]
    assert (figures[0]["precision"] == figures[1]["precision"]).all() and len(rows(own)) == 1


def test_evaluation_may_use_another_image_size_than_training(run: Run, own: Path) -> None:
    flags = "--eval --dataset_file shapes --val_size 4 --device cpu --num_workers 0 --image_size 96"
    code, out, err = run(f"{flags} --resume {own / 'checkpoint.pth'}")
    assert code == 0 and "as large as in the run" not in out, err


# ---- contradictions


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--num_queries 100",
            ["made with --num_queries 12,", "--num_queries 100 is given"],
        ),  # though that is the default
        ("--hidden-dim=32 --nheads 4", ["--hidden_dim 16 --nheads 2,", "--hidden_dim 32 --nheads 4 is given"]),
        ("--masks", ["made with no --masks,", "--masks is given"]),
        ("--num_classes 91", ["--num_classes 5,", "--num_classes 91 is given"]),
    ],
)
def test_a_flag_that_contradicts_the_file_is_refused_naming_both(
    run: Run, own: Path, flags: str, words: list[str]
) -> None:
    file = own / "checkpoint.pth"
    assert_refused(run(f"--device cpu --eval --dataset_file shapes --resume {file} {flags}"), str(file), *words)


def test_a_flag_equal_to_the_value_in_the_file_is_accepted(run: Run, own: Path) -> None:
    flags = "--val_size 2 --num_queries 12 --nheads 2 --pre_norm --backbone_norm frozen"
    code, _, err = run(f"{PLAIN} --eval --dataset_file shapes --resume {own / 'checkpoint.pth'} {flags}")
    assert code == 0, err


@pytest.mark.slow
def test_training_resumes_with_the_same_model_only(run: Run, own: Path) -> None:
    """Heads leave no trace in the weights: without the run's flags the model would be silently another."""
    flags = f"{TINY} --pre_norm --position_embedding learned --epochs 2 --resume {own / 'checkpoint.pth'}"
    assert_refused(run(f"{flags} --nheads 4"), "--nheads 2, this run has --nheads 4", "--init_from")
    code, out, err = run(flags)
    assert code == 0 and "resuming at epoch 1" in out, err


def test_flags_of_another_parser_count_as_given_if_they_differ_from_the_defaults(
    own: Path, capsys: pytest.CaptureFixture
) -> None:
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    words = f"{PLAIN} --eval --dataset_file shapes --val_size 2 --resume {own / 'checkpoint.pth'}".split()
    main.main(parser.parse_args(words))
    with pytest.raises(main.UserError, match="--num_queries 12, but --num_queries 50 is given"):
        main.main(parser.parse_args([*words, "--num_queries", "50"]))


# ---- training from published files, in small


SMALL = {"hidden": 16, "ffn": 24, "width": 8}
TRAIN = f"{PLAIN} --dataset_file shapes --train_size 2 --val_size 1 --epochs 1 --hidden_dim 16 --dim_feedforward 24"


@pytest.fixture
def small_resnet50(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test, unlike `narrow_resnet50`: others of this module need a real one."""
    small_runs.narrow_resnet50(monkeypatch)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_resnet50: None):
    """Write a small file of the published kind; its path, or its address on a server of this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with serve(tmp_path / "remote") as site:

        def write(place: str, **sizes) -> str:
            file = write_published(site.folder, "detr-r50", **SMALL, **sizes)
            return str(file) if place == "file" else f"{site.url}/{file.name}"

        yield write


@pytest.mark.slow
@pytest.mark.parametrize("place", ["file", "address"])
def test_training_resumes_from_published_weights(run: Run, tmp_path: Path, published, place: str) -> None:
    where = published(place)
    flags = f"{TRAIN} --num_classes 91 --lr 0 --lr_backbone 0 --weight_decay 0 --output_dir {tmp_path / 'out'}"
    code, _, err = run(f"{flags} --resume {where}")
    assert code == 0, err
    weights, expected = load_checkpoint(tmp_path / "out" / "checkpoint.pth")["model"], constant_state(**SMALL)
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["file", "address"])
def test_training_starts_from_the_published_weights_that_fit(run: Run, published, place: str) -> None:
    where = published(place)
    code, out, err = run(f"{TRAIN} --init_from {where}")
    assert code == 0, err
    assert f"--init_from {where}: 458 tensors loaded; no class has a known name (COCO's, as the file has 91" in out


@pytest.mark.slow
@pytest.mark.parametrize("place", ["file", "address"])
@pytest.mark.parametrize("masks", [False, True])
def test_a_mask_head_trains_on_published_weights(run: Run, tmp_path: Path, published, place: str, masks: bool) -> None:
    where = published(place, masks=masks)
    flags = f"{TRAIN} --num_classes {250 if masks else 91} --masks --output_dir {tmp_path / 'out'}"
    code, out, err = run(f"{flags} --frozen_weights {where}")
    assert code == 0, err
    assert f"--frozen_weights {where}: 458 tensors of the detector loaded and frozen" in out
    assert ("32 tensors of its own mask head were left there" in out) == masks
    weights, expected = (
        load_checkpoint(tmp_path / "out" / "checkpoint.pth")["model"],
        constant_state(masks=masks, **SMALL),
    )
    for name, value in expected.items():
        if masks == name.startswith("detr."):
            assert torch.equal(weights[name if masks else f"detr.{name}"], value)


@pytest.mark.usefixtures("small_resnet50")
def test_a_mask_head_on_a_dilated_detector_needs_the_flag(run: Run, tmp_path: Path) -> None:
    file = write_training(tmp_path / "checkpoint.pth", sizes=SMALL, dilation=True)
    assert_refused(run(f"{TRAIN} --masks --frozen_weights {file}"), "made with --dilation, this run has no --dilation")


# ---- parts that are missing


@pytest.mark.slow
@pytest.mark.parametrize("deleted", ["class_embed.", "query_embed."])
@pytest.mark.parametrize("more", ["", "--eval"])
def test_a_file_whose_head_was_deleted_is_refused_with_the_way_out(
    run: Run, published, tmp_path: Path, deleted: str, more: str
) -> None:
    weights = load_checkpoint(published("file"))["model"]
    file = tmp_path / "stripped.pth"
    torch.save({"model": {name: value for name, value in weights.items() if not name.startswith(deleted)}}, file)
    assert_refused(run(f"{TRAIN} {more} --resume {file}"), f"{file}: lacks {deleted}weight", f"--init_from {file}")
    if not more:
        code, out, err = run(f"{TRAIN} --init_from {file}")
        assert code == 0 and f"{deleted}weight: not in the checkpoint" in out, err
