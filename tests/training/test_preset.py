"""--preset auto: the rules by a table of facts, and runs that follow them, record them and go on with them."""

import json
from pathlib import Path
from typing import Any

import pytest

import main
from datasets.annotations import cache
from datasets.annotations import read_annotations as read_once
from datasets.coco import CocoDetection
from run_data import build_split
from tests.helpers import Run
from training.choices import Choice
from training.preset import choosing
from training.preset.auto import choose, choose_side
from training.preset.backbone import BackboneWishes, choose_backbone
from training.preset.facts import DataFacts, MachineFacts, _shorter_sides, read_data_facts
from util.errors import DownloadError

CELLS = {"images": 205, "classes": 3, "height": 480, "width": 640, "objects": 13, "most_objects": 30}
LAPTOP = MachineFacts(cores=2, memory=8)
CARD = MachineFacts(cores=16, memory=128, gpu="a card", gpu_memory=80)
DEFAULTS = vars(main.get_args_parser().parse_args([]))


def no_way(name: str) -> None:
    raise DownloadError(f"cannot download the ImageNet weights of {name} (no network)")


def chosen(machine: MachineFacts = LAPTOP, *, trained: bool = True, typed: Any = (), **data: Any) -> dict[str, Any]:
    facts = DataFacts(**CELLS | {"small_side": 0.08} | data)
    choices = choose(facts, machine, dict(typed), {"backbone": Choice("x", "why")}, trained_backbone=trained)
    assert all(choice.reason for choice in choices.values())
    return {name: choice.value for name, choice in choices.items()}


def test_facts_of_files_are_read_without_dictionaries_of_all_objects(
    coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = main.parse_flags(["--dataset_file", "coco", "--data_path", str(coco_folder)])
    split = build_split("train", args)
    truth = split.coco.imgToAnns
    expected = [[min(one["bbox"][2:]) for one in truth[id_] if not one["iscrowd"]] for id_ in split.ids]
    monkeypatch.setattr(CocoDetection, "coco", property(lambda self: pytest.fail("all objects are made")))
    assert [_shorter_sides(split, index) for index in range(len(split))] == expected and any(expected)
    assert read_data_facts(args)[0].objects == 1


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({}, {"image_size": 384, "batch_size": 4, "epochs": 30, "lr": 5e-4, "lr_backbone": 2e-4, "num_queries": 50}),
        ({}, {"queries": "encoder", "focal": True, "local_attention": True, "feature_map": "c4", "hidden_dim": 128}),
        ({}, {"warmup_steps": 50, "ema": 0.995, "num_workers": 1, "train_scales": [384], "clip_max_norm": 0.5}),
        ({"images": 30}, {"epochs": 205, "warmup_steps": 50}),
        ({"images": 2}, {"epochs": 300, "batch_size": 2}),
        ({"images": 50_000}, {"epochs": 12}),
        ({"small_side": 0.026}, {"image_size": 448}),
        ({"small_side": 0.001}, {"image_size": 480}),
        ({"height": 200, "width": 300}, {"image_size": 200, "train_scales": [200]}),
        ({"most_objects": 900}, {"num_queries": 300}),
        ({"most_objects": 1}, {"num_queries": 20}),
        ({"machine": MachineFacts(1, 2)}, {"batch_size": 2, "num_workers": 0}),
        ({"machine": CARD}, {"image_size": 480, "batch_size": 8, "hidden_dim": 256, "num_workers": 8, "ema": 0.9969}),
        ({"trained": False}, {"batch_size": 8, "epochs": 60, "lr_backbone": 5e-4}),
        ({"typed": {"batch_size": 1, "lr": 1e-4}}, {"lr_backbone": 4e-5, "warmup_steps": 184}),
        ({"typed": {"max_steps": 30}}, {"warmup_steps": 10}),
        ({"generated": True}, {"image_size": 128}),
    ],
)
def test_the_rules(case: dict, expected: dict) -> None:
    values = chosen(**case)
    assert {name: values.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("typed", "left_out"),
    [
        ({"image_size": 600, "queries": "dab"}, {"image_size", "queries"}),
        ({"masks": True}, {"feature_map"}),
        ({"dilation": True}, {"feature_map"}),
        ({"masks": True, "dataset_file": "coco_panoptic"}, {"focal", "feature_map"}),
        ({"crop_size": [300, 400]}, {"crop_sides"}),
        ({"scale_jitter": [0.5, 1.5]}, {"crop_sides", "train_scales"}),
    ],
)
def test_what_was_typed_or_contradicts_it_is_not_chosen(typed: dict, left_out: set) -> None:
    assert not left_out & chosen(typed=typed).keys()
    assert left_out - typed.keys() <= chosen().keys()


def test_generated_images_are_not_resized() -> None:
    assert not {"train_scales", "crop_sides", "fast_resize"} & chosen(generated=True).keys()


def test_the_reason_of_a_size_says_what_becomes_of_small_objects() -> None:
    facts = DataFacts(**CELLS | {"small_side": 0.01, "height": 960, "width": 1280})
    assert choose_side(facts, "cpu") == (
        512,
        "a tenth of the objects have sides under 5 pixels; files are 1280 x 960; larger is slow on this device",
    )


@pytest.mark.parametrize(
    ("machine", "wishes", "reachable", "values", "trained"),
    [
        (LAPTOP, {}, True, {"backbone": "mobilenet_v2", "backbone_weights": "imagenet"}, True),
        (CARD, {}, True, {"backbone": "resnet50", "backbone_weights": "imagenet"}, True),
        (LAPTOP, {"masks": True}, True, {"backbone": "resnet18", "backbone_weights": "imagenet"}, True),
        (LAPTOP, {}, False, {"backbone": "resnet18", "backbone_weights": "none", "backbone_norm": "batch"}, False),
        (LAPTOP, {"name": "resnet34"}, False, {"backbone_weights": "none", "backbone_norm": "batch"}, False),
        (LAPTOP, {"weights": "own.pth"}, False, {"backbone": "mobilenet_v2"}, True),
        (LAPTOP, {"weights": "none"}, False, {"backbone_norm": "batch"}, False),
        (LAPTOP, {"brought": True}, False, {"backbone": "mobilenet_v2"}, True),
    ],
)
def test_the_backbone_and_its_weights(
    machine: MachineFacts, wishes: dict, reachable: bool, values: dict, trained: bool
) -> None:
    fetch = (lambda name: None) if reachable else no_way
    choices, starts_trained = choose_backbone(machine, BackboneWishes(**wishes), fetch)
    assert {name: choices[name].value for name in values} == values and starts_trained == trained
    if values.get("backbone_weights") == "none" and not reachable:
        assert "cannot download" in choices["backbone_weights"].reason


def test_every_flag_that_is_chosen_exists() -> None:
    every = chosen().keys() | chosen(CARD, trained=False).keys() | {"backbone", "backbone_weights", "backbone_norm"}
    assert every <= DEFAULTS.keys()


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_a_run_follows_records_and_resumes_its_choices(
    run: Run, tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without weights a small ResNet starts from nothing; what was typed wins, then and on resume."""
    monkeypatch.setattr(choosing, "fetch_imagenet_weights", no_way)
    flags = f"--data_path {coco_folder} --device cpu --image_size 32 --num_workers 0 --output_dir {tmp_path}"
    with monkeypatch.context() as patched:
        read: list[str] = []
        patched.setattr(cache, "read_annotations", lambda path, **how: read.append(path.name) or read_once(path, **how))
        code, out, err = run(f"{flags} --max_steps 1 --preset auto --num_queries 7")
    assert code == 0, err
    assert sorted(read) == ["instances_train2017.json", "instances_val2017.json"], "each once"
    assert "4 training images, the middle one 50 x 43; 2 classes; " in out
    assert "--backbone resnet18" in out and "no network" in out and "warning: plain DETR" not in out
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["flags"]["hidden_dim"] == 128 and info["flags"]["num_queries"] == 7
    assert info["chosen"]["queries"]["value"] == "encoder" and info["chosen"]["queries"]["reason"]
    assert "num_queries" not in info["chosen"] and "lr" not in info["flags_as_typed"]
    code, out, err = run(f"{flags} --resume auto --num_queries 7 --max_steps 2")
    assert code == 0 and "chosen by --preset when the run began" in out, err
    assert json.loads((tmp_path / "run.json").read_text())["chosen"] == info["chosen"]


@pytest.mark.usefixtures("narrow_resnet18")
def test_a_model_to_start_from_decides_on_the_architecture(run: Run, tmp_path: Path, coco_folder: Path) -> None:
    import torch

    from tests.helpers import build  # a detector of 32 channels

    torch.save({"model": build()[0].state_dict()}, tmp_path / "start.pth")
    flags = f"--data_path {coco_folder} --device cpu --image_size 32 --num_workers 0 --max_steps 1 --nheads 4"
    code, out, err = run(f"{flags} --preset auto --init_from {tmp_path / 'start.pth'}")
    assert code == 0, err
    assert "--hidden_dim 32 " in out and "--queries learned" in out and "--lr 5e-05" in out
