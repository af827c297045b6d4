"""The fifty-line DETR of docs/: it computes what the whole project computes, from the same weights."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from models.config import Architecture, build_detector

SIZES = {"hidden_dim": 32, "nheads": 4, "enc_layers": 2, "dec_layers": 2, "dim_feedforward": 16, "num_queries": 7}


@pytest.fixture(scope="module")
def minimal() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("minimal", Path(__file__).parents[2] / "docs" / "minimal.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_loads_the_weights_of_a_detector_and_detects_the_same(minimal: ModuleType) -> None:
    model = build_detector(Architecture(backbone="resnet18", num_classes=5, **SIZES)).eval()
    short = minimal.MinimalDETR("resnet18", d=32, heads=4, layers=2, hidden=16, queries=7, classes=5).eval()
    short.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 75, 101, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, (logits, boxes) = model(image), short(image)
    torch.testing.assert_close(logits, expected["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes, expected["pred_boxes"], atol=1e-4, rtol=0)


def test_it_has_the_names_of_a_published_model(minimal: ModuleType) -> None:
    with torch.device("meta"):
        published = build_detector(Architecture()).state_dict()
        short = minimal.MinimalDETR().state_dict()
    assert {name: t.shape for name, t in short.items()} == {name: t.shape for name, t in published.items()}


def test_the_command_prints_objects_with_boxes_inside_the_image(
    minimal: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = minimal.MinimalDETR("resnet18", d=32, heads=4, layers=1, hidden=16, queries=3, classes=5)
    torch.nn.init.constant_(short.class_embed.bias[2:3], 20.0)  # every query is sure of class 2
    monkeypatch.setattr(minimal, "MinimalDETR", lambda: short)
    torch.save({"model": short.state_dict()}, tmp_path / "weights.pth")
    Image.new("L", (1333, 32), 128).save(tmp_path / "image.png")
    minimal.main(str(tmp_path / "weights.pth"), str(tmp_path / "image.png"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("label 2  score 1.00") for line in lines)
