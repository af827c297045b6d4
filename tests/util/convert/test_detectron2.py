"""The Detectron2 wrapper's names and class rows, without Detectron2; tests/d2 holds the wrapper itself."""

import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch

from models.config import Architecture, build_detector
from tests.helpers import assert_refused
from util.coco_classes import COCO_NAMES
from util.convert.__main__ import cli
from util.convert.detectron2 import our_name, settings_of, to_wrapper, wrapper_name
from util.runs.checkpoint import load_checkpoint, save_checkpoint

SMALL = Architecture(
    backbone="resnet18", enc_layers=1, dec_layers=1, dim_feedforward=8, hidden_dim=16, nheads=2, num_queries=3
)


@cache
def weights(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Random weights, of the backbone's last stages a row each: to write them would be most of a test."""
    torch.manual_seed(0)
    model = build_detector(architecture).state_dict()
    return {
        name: value[:1].clone() if ".layer4." in name or ".layer3." in name else value for name, value in model.items()
    }


def write(path: Path, *, changed: dict[str, Any] | None = None, **more: Any) -> Path:
    """Write the checkpoint of a small model."""
    architecture = replace(SMALL, **(changed or {}))
    save_checkpoint(path, {"model": weights(architecture), "args": asdict(architecture), **more})
    return path


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone.0.body.conv1.weight", "detr.backbone.0.backbone.stem.conv1.weight"),
        ("backbone.0.body.bn1.running_var", "detr.backbone.0.backbone.stem.conv1.norm.running_var"),
        ("backbone.0.body.layer1.2.bn3.bias", "detr.backbone.0.backbone.res2.2.conv3.norm.bias"),
        ("backbone.0.body.layer4.0.downsample.0.weight", "detr.backbone.0.backbone.res5.0.shortcut.weight"),
        ("backbone.0.body.layer3.0.downsample.1.weight", "detr.backbone.0.backbone.res4.0.shortcut.norm.weight"),
        ("detr.backbone.0.body.layer2.0.conv2.weight", "detr.detr.backbone.0.backbone.res3.0.conv2.weight"),
        ("transformer.decoder.norm.weight", "detr.transformer.decoder.norm.weight"),
        ("mask_head.gn1.bias", "detr.mask_head.gn1.bias"),
    ],
)
def test_a_name_there_and_back(ours: str, theirs: str) -> None:
    assert wrapper_name(ours) == theirs and our_name(theirs) == ours


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_a_file_there_and_back_is_the_same_model(masks: bool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = write(tmp_path / "ours.pth", changed={"masks": masks})
    assert cli(["d2", str(source), str(tmp_path / "theirs.pth")]) == 0
    printed = capsys.readouterr().out
    assert "80 of 91 rows" in printed and "MODEL.RESNETS.DEPTH 18 " in printed and "NUM_CLASSES" not in printed
    assert ("MODEL.MASK_ON True" in printed) is masks
    assert cli(["d2", str(tmp_path / "theirs.pth"), str(tmp_path / "back.pth")]) == 0
    before, there, after = (load_checkpoint(tmp_path / f"{name}.pth") for name in ("ours", "theirs", "back"))
    assert all(name.startswith("detr.") for name in there["model"]) and before["args"] == after["args"]
    assert before["model"].keys() == after["model"].keys()
    for name, weight in before["model"].items():
        kept = [*COCO_NAMES, 91] if "class_embed" in name else slice(None)
        assert torch.equal(after["model"][name][kept], weight[kept]), name


def test_class_rows_follow_cocos_contiguous_ids(tmp_path: Path) -> None:
    """Scores are those of the model whose unused classes never win: theirs by position, ours by category id."""
    checkpoint = load_checkpoint(write(tmp_path / "ours.pth"))
    rows = to_wrapper(checkpoint, tmp_path)[0]["model"]["detr.class_embed.bias"]
    bias = checkpoint["model"]["class_embed.bias"]
    assert len(rows) == 81
    # stop sign is id 13 and, as 12 was never annotated, class 11; toothbrush is the last.
    assert [rows[i] for i in (0, 11, 79, 80)] == [bias[i] for i in (1, 13, 90, 91)]


def test_a_file_that_the_wrapper_trained_comes_back_with_cocos_ids(tmp_path: Path) -> None:
    """Detectron2 keeps no more than the weights, and those of the criterion among them."""
    model = to_wrapper(load_checkpoint(write(tmp_path / "ours.pth")), tmp_path)[0]["model"]
    save_checkpoint(
        tmp_path / "final.pth", {"model": model | {"criterion.empty_weight": torch.ones(81)}, "iteration": 9}
    )
    assert cli(["d2", "--back", str(tmp_path / "final.pth"), str(tmp_path / "back.pth")]) == 0
    back = load_checkpoint(tmp_path / "back.pth")["model"]
    bias, weight = back["class_embed.bias"], back["class_embed.weight"]
    assert torch.equal(bias[13], model["detr.class_embed.bias"][11]) and len(bias) == 92
    assert bias[12] == -100 and not weight[12].any() and not any(name.startswith("criterion") for name in back)


@pytest.mark.parametrize(
    ("more", "rows"),
    [
        ({"class_names": {1: "cat", 4: "dog"}}, [1, 4, 5]),
        (
            {"class_names": {1: "a", 4: "b", 5: "c", 6: "d", 7: "e"}, "category_ids": dict(enumerate((1, 4, 5, 6, 7)))},
            None,
        ),
        ({}, None),
    ],
    ids=["names", "dense", "nameless"],
)
def test_rows_of_other_classes_go_by_the_files_names(more: dict, rows: list[int] | None, tmp_path: Path) -> None:
    source = write(tmp_path / "ours.pth", changed={"num_classes": 5}, **more)
    assert cli(["d2", str(source), str(tmp_path / "theirs.pth")]) == 0
    assert cli(["d2", str(tmp_path / "theirs.pth"), str(tmp_path / "back.pth")]) == 0
    before, there, after = (load_checkpoint(tmp_path / f"{name}.pth") for name in ("ours", "theirs", "back"))
    bias = before["model"]["class_embed.bias"]
    kept = bias if rows is None else bias[rows]
    assert torch.equal(there["model"]["detr.class_embed.bias"], kept)
    assert torch.equal(after["model"]["class_embed.bias"][rows or range(6)], kept) and len(bias) == 6
    assert {key: after.get(key) for key in more} == more


def test_models_that_detectron2_has_not_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for flags, words in (
        ({"backbone": "mobilenet_v2"}, "mobilenet_v2"),
        ({"position_embedding": "learned"}, "sine"),
        ({"feature_map": "c4"}, "the backbone's last map"),
    ):
        source = write(tmp_path / "ours.pth", changed=flags)
        code = cli(["d2", str(source), str(tmp_path / "theirs.pth")])
        assert_refused((code, *capsys.readouterr()), words)
    code = cli(["d2", "--back", str(source), str(tmp_path / "theirs.pth")])
    assert_refused((code, *capsys.readouterr()), "not a file of the Detectron2 wrapper")
    assert not (tmp_path / "theirs.pth").exists()


@pytest.mark.parametrize(
    ("backbone", "groups", "width", "res2"),
    [("resnet34", 1, 64, 64), ("resnext101_32x8d", 32, 8, 256), ("wide_resnet50_2", 1, 128, 256)],
)
def test_settings_describe_the_backbone(backbone: str, groups: int, width: int, res2: int) -> None:
    settings, notes = settings_of(asdict(Architecture(backbone=backbone)), Path("a.pth"))
    names = ("NUM_GROUPS", "WIDTH_PER_GROUP", "RES2_OUT_CHANNELS")
    assert [settings[f"MODEL.RESNETS.{name}"] for name in names] == [groups, width, res2] and not notes
    assert settings_of(asdict(Architecture(dilation=True)), Path("a.pth"))[1]


def test_the_originals_command_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = write(tmp_path / "ours.pth"), tmp_path / "theirs.pth"
    monkeypatch.setattr(sys, "path", [*sys.path])  # which the script changes
    monkeypatch.setattr(sys, "argv", ["converter.py", "--source_model", str(source), "--output_model", str(output)])
    with pytest.raises(SystemExit) as ended:
        run_path(str(Path(__file__).resolve().parents[3] / "d2" / "converter.py"), run_name="__main__")
    assert ended.value.code == 0 and "detr.class_embed.bias" in load_checkpoint(output)["model"]
