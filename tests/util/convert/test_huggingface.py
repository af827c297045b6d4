"""Checkpoints as folders of Hugging Face's DETR, and back."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.config import Architecture, build_detector
from tests.helpers import assert_refused
from util.convert import huggingface_check
from util.convert.__main__ import architecture, cli, outputs
from util.convert.huggingface import convert
from util.convert.huggingface_config import config_from_flags, kind_of, kind_of_config
from util.convert.huggingface_names import Renaming
from util.errors import UserError
from util.runs.checkpoint import load_checkpoint, save_checkpoint

SMALL = Architecture(
    backbone="resnet18", hidden_dim=32, nheads=4, enc_layers=1, dec_layers=2, dim_feedforward=48, num_queries=5,
    num_classes=6,
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "pre_norm": {"pre_norm": True, "position_embedding": "learned"},
    "masks": {"masks": True, "hidden_dim": 64, "nheads": 8},
}
NAMES = {1: "cat", 3: "dog"}
slow = pytest.mark.slow
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="no transformers: pip install -r requirements-extra.txt"
)


def write_checkpoint(file: Path, architecture: Architecture, **more: Any) -> dict[str, Tensor]:
    """Write a random model whose norms do something, and return its weights without the counters of batch norms."""
    torch.manual_seed(0)
    weights = build_detector(architecture).state_dict()
    for name, value in weights.items():
        if value.dim() == 1:  # norms and biases
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith(("weight", "var")) else torch.randn_like(value))
    args = asdict(architecture) | {"image_size": 256, "max_size": 320}
    save_checkpoint(file, {"model": weights, "args": args, "class_names": NAMES, **more})
    return {name: value for name, value in weights.items() if not name.endswith("tracked")}


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = cli([str(word) for word in words])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("timm", [False, True])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_names_lead_there_and_back(backbone: str, timm: bool, masks: bool, table: bool) -> None:
    changes = {"backbone": backbone, "masks": masks, "pre_norm": table, "position_embedding": "learned"}
    with torch.device("meta"):
        model = build_detector(Architecture(**asdict(SMALL) | changes))
    ours = {name: value.shape for name, value in model.state_dict().items()}
    names = Renaming(timm=timm, masks=masks, table=table)
    theirs, unknown = names.there(model.state_dict())
    assert unknown == [] and len(theirs) == len(ours) + 4 * 5  # two tensors become six in each of five attentions
    place = "backbone.position_embedding" if table else "position_embedding"
    assert f"{'detr.' * masks}model.{place}.row_embeddings.weight" in theirs
    back, unknown = names.back(theirs)
    assert unknown == [] and {name: value.shape for name, value in back.items()} == ours


def test_names_are_those_of_the_published_files() -> None:
    ours = {
        "backbone.0.body.conv1.weight": ("conv1", "embedder.embedder.convolution"),
        "backbone.0.body.layer4.2.bn3.running_var": ("layer4.2.bn3", "encoder.stages.3.layers.2.layer.2.normalization"),
        "backbone.0.body.layer2.0.downsample.0.weight": (
            "layer2.0.downsample.0",
            "encoder.stages.1.layers.0.shortcut.convolution",
        ),
    }
    for name, theirs in ours.items():
        for timm, module in zip((True, False), theirs):
            found, _ = Renaming(timm=timm, masks=False, table=False).there({name: torch.zeros(1)})
            assert list(found) == [f"model.backbone.conv_encoder.model.{module}.{name.rpartition('.')[2]}"]
    value = torch.arange(6.0).view(6, 1)
    found, _ = Renaming(timm=True, masks=True, table=False).there(
        {"detr.transformer.decoder.layers.5.multihead_attn.in_proj_weight": value}
    )
    start = "detr.model.decoder.layers.5.encoder_attn"
    assert {name: tensor.flatten().tolist() for name, tensor in found.items()} == {
        f"{start}.q_proj.weight": [0, 1],
        f"{start}.k_proj.weight": [2, 3],
        f"{start}.v_proj.weight": [4, 5],
    }


@slow
def test_a_file_survives_the_round_trip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # an import of it fails
    dense = {"class_names": {0: "cat", 1: "dog"}, "category_ids": {0: 17, 1: 3}}
    weights = write_checkpoint(tmp_path / "best.pth", SMALL, ap=0.25, **dense)
    code, out, err = run(capsys, "hf", tmp_path / "best.pth", tmp_path / "hf")
    assert (code, err) == (0, "") and "not compared, as transformers is not there: pip" in out
    folder = tmp_path / "hf"
    config, size = (json.loads((folder / f"{name}config.json").read_text()) for name in ("", "preprocessor_"))
    assert [config["id2label"][str(label)] for label in range(6)] == ["cat", "dog", *["N/A"] * 4]
    assert size["size"] == {"shortest_edge": 256, "longest_edge": 320}
    assert "0.250" in (folder / "README.md").read_text()
    assert run(capsys, "hf", folder, tmp_path / "back.pth")[0] == 0
    back = load_checkpoint(tmp_path / "back.pth")
    assert back["model"].keys() == weights.keys()
    assert all(torch.equal(back["model"][name], value) for name, value in weights.items())
    assert {key: back[key] for key in dense} == dense
    assert back["args"] == asdict(SMALL) | {"image_size": 256, "max_size": 320}

    weights_file = folder / "model.safetensors"
    save_file(load_file(weights_file) | {"model.extra.weight": torch.zeros(1)}, weights_file)
    assert_refused(run(capsys, "hf", folder, tmp_path / "no.pth"), "not those of a DETR: model.extra.weight")
    weights_file.write_bytes(b"nothing")
    assert_refused(run(capsys, "hf", folder, tmp_path / "no.pth"), "model.safetensors", "damaged")
    weights_file.unlink()
    assert_refused(run(capsys, "hf", folder, tmp_path / "no.pth"), "has no model.safetensors")
    assert_refused(run(capsys, "hf", tmp_path / "best.pth", tmp_path / "back.pth"), "is a file; give", "folder")
    assert not (tmp_path / "no.pth").exists()


@slow
@needs_transformers
@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_computes_the_same(variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "best.pth", Architecture(**asdict(SMALL) | VARIANTS[variant]))
    code, out, err = run(capsys, "hf", tmp_path / "best.pth", tmp_path / "hf")
    assert (code, err) == (0, "") and "check: the same as by transformers'" in out
    assert ("pred_masks" in out, "TableTransformer" in out) == (variant == "masks", variant == "pre_norm")


@slow
@needs_transformers
def test_what_transformers_saves_comes_back_and_another_model_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    weights = write_checkpoint(tmp_path / "best.pth", SMALL)
    code, out, _ = run(capsys, "hf", tmp_path / "best.pth", tmp_path / "hf")
    assert code == 0 and "check: the same as by transformers' DetrForObjectDetection" in out
    transformers.AutoModelForObjectDetection.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "saved")
    capsys.readouterr()
    convert(tmp_path / "saved", tmp_path / "back.pth", back=False, architecture=architecture)
    back = load_checkpoint(tmp_path / "back.pth")
    assert all(torch.equal(back["model"][name], value) for name, value in weights.items())
    assert back["class_names"] == NAMES and back["args"]["nheads"] == 4

    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | heads))
    with pytest.raises(UserError, match=r"outputs differ from those of .*best\.pth.*pred_logits [0-9.e+-]+"):
        huggingface_check.check(tmp_path / "hf", tmp_path / "best.pth", outputs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "mobilenet_v2"}, "no such backbone"),
        ({"feature_map": "c4"}, "the backbone's last map"),
        ({"pre_norm": True, "masks": True}, "no mask head for a model with --pre_norm"),
        ({"masks": True, "hidden_dim": 48, "nheads": 4}, "no width of 48 with 4 heads"),
    ],
)
def test_what_hugging_face_cannot_hold_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"best.pth: .*{words}"):
        kind_of(asdict(SMALL) | changes, "best.pth")


@pytest.mark.parametrize("changes", [{"dilation": True, "backbone": "resnet50"}, {"backbone": "wide_resnet50_2"}])
def test_a_backbone_that_transformers_lacks_is_timms(changes: dict[str, Any]) -> None:
    flags = asdict(SMALL) | changes
    config = config_from_flags(flags, kind_of(flags, "best.pth"), None)
    assert (config["use_timm_backbone"], config["backbone"]) == (True, flags["backbone"])
    assert config["dilation"] == flags["dilation"] and config["id2label"]["5"] == "LABEL_5"
    assert kind_of_config(config, "hf") == kind_of(flags, "best.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "yolos"}, "model_type 'yolos', not 'detr'"),
        ({"activation_function": "gelu"}, "activation_function 'gelu'"),
        ({"decoder_attention_heads": 2}, "unequal encoder_attention_heads and decoder_attention_heads"),
        ({"backbone_config": {"model_type": "resnet", "downsample_in_bottleneck": True}}, "downsample_in_bottleneck"),
    ],
)
def test_a_folder_of_another_model_is_refused(changes: dict[str, Any], words: str) -> None:
    flags = asdict(SMALL)
    with pytest.raises(UserError, match=f"hf: its config.json has .*{words}"):
        kind_of_config(config_from_flags(flags, kind_of(flags, "best.pth"), None) | changes, "hf")


def test_a_folder_without_a_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(run(capsys, "hf", tmp_path, tmp_path / "no.pth"), "has no config.json")
    assert_refused(run(capsys, "hf", "--back", tmp_path / "no.pth", tmp_path / "out.pth"), "has no config.json")
    assert_refused(run(capsys, "hf", tmp_path / "no.pth", tmp_path / "out"), "no such file")
