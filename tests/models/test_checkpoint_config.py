"""The model that a checkpoint belongs to, by its weights, its run's flags or its name, and what contradicts it."""

import re
from argparse import Namespace
from collections import OrderedDict
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from models.backbone import RESNETS
from models.checkpoint_config import architecture_of, model_from_checkpoint, refuse_other_architecture
from models.config import Architecture, build_detector
from models.empty_weights import EmptyWeights
from models.zoo import BASE_URL, PUBLISHED
from tests.models.official import constant_state, write_published, write_training
from util.errors import CheckpointError, UserError
from util.runs.checkpoint import load_checkpoint

SMALL = Architecture(
    backbone="resnet18",
    enc_layers=1,
    dec_layers=2,
    dim_feedforward=24,
    hidden_dim=16,
    nheads=2,
    num_queries=5,
    num_classes=3,
)


@cache
def meta_state(architecture: Architecture) -> dict[str, torch.Tensor]:
    """The names and shapes of a model's weights; of a published one they are asked for many times."""
    with torch.device("meta"), EmptyWeights():
        return build_detector(architecture).state_dict()


def weights(architecture: Architecture, prefix: str = "") -> dict:
    return {"model": {prefix + name: value for name, value in meta_state(architecture).items()}}


def read(checkpoint: dict, path: str = "own.pth", **given) -> Architecture:
    return architecture_of(checkpoint, path, given=given)[0]


# ---- what weights tell


@pytest.mark.parametrize("backbone", [*RESNETS, "mobilenet_v2"])
@pytest.mark.parametrize(("norm", "feature_map"), [("frozen", "c5"), ("batch", "c5"), ("batch", "c4")])
def test_every_backbone_is_recognised(backbone: str, norm: str, feature_map: str) -> None:
    architecture = replace(SMALL, backbone=backbone, backbone_norm=norm, feature_map=feature_map)
    assert read(weights(architecture), nheads=2) == architecture


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"position_embedding": "learned"},
        {"pre_norm": True},
        {"enc_layers": 0},
        {"dec_layers": 11},
        {"num_queries": 1},
        {"num_classes": 1},
        {"hidden_dim": 32, "dim_feedforward": 8},
        {"masks": True},
        {"masks": True, "nheads": 4},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_tell_all_but_heads_and_dilation(changes: dict, prefix: str) -> None:
    architecture = replace(SMALL, **changes)
    given = {} if architecture.masks else {"nheads": 2}  # a mask head tells the heads too
    assert read(weights(architecture, prefix), **given) == architecture


def test_a_detector_with_the_prefix_of_a_mask_head_has_no_masks() -> None:
    assert not read(weights(SMALL, "detr."), nheads=2).masks


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("query_embed.weight", "lacks query_embed.weight"),
        ("class_embed.weight", "lacks class_embed.weight"),
        ("transformer.decoder.layers", "lacks transformer.decoder"),
        ("backbone.0.body.layer1.1", "its backbone is none of resnet18, "),
    ],
)
def test_weights_of_something_else_are_refused(lost: str, words: str) -> None:
    checkpoint = weights(SMALL)
    checkpoint["model"] = {name: w for name, w in checkpoint["model"].items() if not name.startswith(lost)}
    with pytest.raises(CheckpointError, match=words) as error:
        read(checkpoint)
    assert str(error.value).startswith("own.pth: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("query_embed.weight", (5,)),
        ("class_embed.weight", ()),
        ("class_embed.weight", (1, 16)),
    ],
)
def test_shapes_of_something_else_are_refused(name: str, shape: tuple) -> None:
    checkpoint = weights(SMALL)
    checkpoint["model"][name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match="own.pth: its weights are not those of a DETR"):
        read(checkpoint)


# ---- what weights do not tell


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("folder", ["", "some/folder/", BASE_URL])
def test_published_files_need_no_flag(name: str, folder: str) -> None:
    published = PUBLISHED[name]
    line = architecture_of(weights(published.architecture), folder + published.file)[1]
    assert read(weights(published.architecture), folder + published.file) == published.architecture
    assert (
        "its name" in line
        and "the file cannot tell" not in line
        and f"--backbone {published.architecture.backbone}" in line
    )


def test_another_name_tells_nothing_and_the_line_says_so() -> None:
    dc5 = weights(PUBLISHED["detr_resnet50_dc5"].architecture)
    architecture, line = architecture_of(dc5, "mine.pth")
    assert not architecture.dilation and architecture.nheads == 8
    assert line.endswith("--nheads 8 no --dilation (DETR's; the file cannot tell)")
    architecture, line = architecture_of(dc5, "mine.pth", given={"dilation": True, "nheads": 4, "lr": 3.0})
    assert architecture.dilation and architecture.nheads == 4
    assert line.endswith(", --dilation --nheads 4 (chosen)")


def test_a_published_name_over_other_weights_tells_nothing() -> None:
    line = architecture_of(weights(replace(SMALL, nheads=8)), "detr-r50-dc5-f0fb7ef5.pth")[1]
    assert "the file cannot tell" in line and "no --dilation" in line


def test_the_flags_of_the_run_tell_the_rest() -> None:
    architecture = replace(SMALL, backbone="resnet50", dilation=True, padding_invariant=True)
    run = asdict(architecture) | {"num_classes": 77, "lr": 1e-4, "num_queries": 9}  # weights are surer than flags
    assert read(weights(architecture) | {"args": run}) == architecture
    name = PUBLISHED["detr_resnet50"]  # and flags surer than a name
    assert read(weights(name.architecture) | {"args": {"dilation": True, "nheads": 4}}, name.file) == replace(
        name.architecture, dilation=True, nheads=4
    )


@pytest.mark.parametrize("run", [None, 3, {"nheads": 0, "dilation": 1}, {"nheads": "two"}, {"nheads": True}])
def test_flags_that_make_no_sense_are_not_believed(run: object) -> None:
    assert read(weights(SMALL) | {"args": run}) == replace(SMALL, nheads=8)


# ---- contradictions


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backbone": "resnet34"}, ["--backbone resnet18", "--backbone resnet34"]),
        ({"num_queries": 100}, ["--num_queries 5", "--num_queries 100"]),
        ({"masks": True}, ["no --masks", "but --masks"]),
        ({"dilation": True, "nheads": 4}, ["made with no --dilation --nheads 2", "but --dilation --nheads 4"]),
        ({"num_classes": 91}, ["--num_classes 3", "--num_classes 91"]),
        ({"pre_norm": True, "hidden_dim": 32}, ["--hidden_dim 16 no --pre_norm", "--hidden_dim 32 --pre_norm"]),
    ],
)
def test_a_flag_that_contradicts_the_file_is_named_with_it(given: dict, words: list[str]) -> None:
    checkpoint = weights(SMALL) | {"args": {"nheads": 2, "dilation": False}}
    with pytest.raises(UserError, match=r"^own\.pth: made with ") as error:
        read(checkpoint, **given)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_a_flag_that_contradicts_a_published_name_is_named_with_it() -> None:
    dc5 = PUBLISHED["detr_resnet101_dc5"]
    assert read(weights(dc5.architecture), dc5.file, dilation=True) == dc5.architecture
    plain = PUBLISHED["detr_resnet101"]
    with pytest.raises(UserError, match=re.escape(f"{plain.file}: made with no --dilation, but --dilation is given")):
        read(weights(plain.architecture), plain.file, dilation=True)


def test_what_does_not_change_the_meaning_of_weights_may_be_chosen() -> None:
    checkpoint = weights(SMALL) | {"args": {"nheads": 2, "padding_invariant": False}}
    chosen = read(checkpoint, padding_invariant=True, backbone_norm="batch")
    assert chosen == replace(SMALL, padding_invariant=True, backbone_norm="batch")


def test_heads_that_do_not_fit_the_width_are_one_line() -> None:
    with pytest.raises(UserError, match=r"own\.pth: its width 12 is no multiple of --nheads 8"):
        read(weights(replace(SMALL, hidden_dim=12)))


def test_training_goes_on_with_the_same_model_only() -> None:
    checkpoint = weights(SMALL) | {"args": {"nheads": 2, "dilation": False}}
    flags = asdict(SMALL) | {"num_classes": None, "padding_invariant": True, "masks": True}
    refuse_other_architecture(checkpoint, "own.pth", flags=flags)
    for name, value in {"nheads": 4, "dilation": True, "dec_layers": 3}.items():
        with pytest.raises(
            UserError, match=f"own.pth: made with .*--{name}.* this run has --{name}.*--init_from own.pth"
        ):
            refuse_other_architecture(checkpoint, "own.pth", flags=flags | {name: value})


# ---- the model


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{}, {"backbone": "resnet101"}, {"masks": True}])
def test_a_file_of_the_published_kind_becomes_its_model(tmp_path: Path, sizes: dict) -> None:
    path = write_published(tmp_path, "detr", **sizes)
    model, architecture, line = model_from_checkpoint(load_checkpoint(path), path)
    assert architecture == Architecture(**sizes, num_classes=250 if "masks" in sizes else 91)
    assert line.startswith(f"{path}: --backbone ")
    expected, loaded = constant_state(**sizes), model.state_dict()
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_a_file_of_the_originals_training_becomes_its_model(tmp_path: Path) -> None:
    path = write_training(tmp_path / "checkpoint.pth", dilation=True, sizes={"hidden": 32, "ffn": 16})
    assert isinstance(torch.load(path, weights_only=False)["args"], Namespace)
    model, architecture, _ = model_from_checkpoint(load_checkpoint(path), path)
    assert architecture == Architecture(dilation=True, hidden_dim=32, dim_feedforward=16)
    assert model.backbone[0].body.layer4[1].conv2.dilation == (2, 2)
    assert model(torch.rand(1, 3, 64, 64))["pred_boxes"].isfinite().all()


def test_a_model_of_a_file_is_built_without_drawing_a_number() -> None:
    state, before = OrderedDict(constant_state(hidden=16, ffn=16)), torch.get_rng_state()
    model = model_from_checkpoint({"model": state}, "own.pth")[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_tensor_too_few_is_refused() -> None:
    state = OrderedDict(constant_state(hidden=16, ffn=16))
    del state["bbox_embed.layers.1.bias"]
    with pytest.raises(CheckpointError, match=r"own\.pth: lacks bbox_embed\.layers\.1\.bias"):
        model_from_checkpoint({"model": state}, "own.pth")
