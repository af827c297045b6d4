"""Entry points of torch hub: the original's names and arguments, weights from a server on this machine, no network."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hubconf
from models import zoo as published
from models.panoptic import PostProcessPanoptic
from models.postprocess import PostProcess
from tests import small_runs
from tests.file_server import FileServer, serve
from tests.models.official import constant_state, write_published
from util.errors import CheckpointError, UserError

ROOT = Path(hubconf.__file__).parent
DETECTORS = ("detr_resnet50", "detr_resnet50_dc5", "detr_resnet101", "detr_resnet101_dc5")
BASE_URL = published.BASE_URL
PANOPTIC = ("detr_resnet50_panoptic", "detr_resnet50_dc5_panoptic", "detr_resnet101_panoptic")


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server in place of the authors', torch hub's cache in an empty folder, and no way to any other server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with serve(tmp_path / "remote") as site:
        monkeypatch.setattr(published, "BASE_URL", f"{site.url}/")
        yield site


def offline(*_, **__):
    raise OSError("no network")


def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **sizes) -> Path:
    """Put a stand-in for the weights of an entry point on the server, under a name with its own hash."""
    model = published.PUBLISHED[name]
    path = write_published(tmp_path / "remote", model.file.rpartition("-")[0], **sizes)
    monkeypatch.setitem(published.PUBLISHED, name, replace(model, file=path.name))
    return path


def load(name: str, **arguments):
    return torch.hub.load(str(ROOT), name, source="local", **arguments)


@pytest.mark.slow
def test_a_model_of_ones_own_is_made_as_in_hub_files(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("models.backbone.load_imagenet_weights", lambda body, name, **_: asked.append(name))
    model = hubconf._make_detr("resnet50", False, 7, True)
    assert list(inspect.signature(hubconf._make_detr).parameters) == [
        "backbone_name",
        "dilation",
        "num_classes",
        "mask",
        "feature_map",
    ]
    assert model.detr.class_embed.out_features == 8 and asked == ["resnet50"]
    assert hubconf._make_detr("resnet50", dilation=True).backbone[0].body.layer4[1].conv2.dilation == (2, 2)
    assert not hasattr(hubconf._make_detr("resnet18", feature_map="c4").backbone[0].body, "layer4")


# ---- names


def test_the_entry_points_are_the_originals() -> None:
    # What torch.hub.list goes by; it takes no local folder.
    shown = {name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    assert shown == {*DETECTORS, *PANOPTIC}
    for name in DETECTORS:
        arguments = inspect.signature(getattr(hubconf, name)).parameters.values()
        assert [(a.name, a.default) for a in arguments] == [
            ("pretrained", False),
            ("num_classes", 91),
            ("return_postprocessor", False),
        ]
    for name in PANOPTIC:
        arguments = inspect.signature(getattr(hubconf, name)).parameters.values()
        assert [(a.name, a.default) for a in arguments] == [
            ("pretrained", False),
            ("num_classes", 250),
            ("threshold", 0.85),
            ("return_postprocessor", False),
        ]


def test_files_and_addresses_are_the_originals() -> None:
    assert BASE_URL == "https://dl.fbaipublicfiles.com/detr/"
    assert {name: model.file for name, model in published.PUBLISHED.items()} == {
        "detr_resnet50": "detr-r50-e632da11.pth",
        "detr_resnet50_dc5": "detr-r50-dc5-f0fb7ef5.pth",
        "detr_resnet101": "detr-r101-2c7b67e5.pth",
        "detr_resnet101_dc5": "detr-r101-dc5-a2e86def.pth",
        "detr_resnet50_panoptic": "detr-r50-panoptic-00ce5173.pth",
        "detr_resnet50_dc5_panoptic": "detr-r50-dc5-panoptic-da08f1b1.pth",
        "detr_resnet101_panoptic": "detr-r101-panoptic-40021d53.pth",
    }
    for name, model in published.PUBLISHED.items():
        made = model.architecture
        assert ("resnet101" in name, "dc5" in name, "panoptic" in name) == (
            made.backbone == "resnet101",
            made.dilation,
            made.masks,
        )
        assert made.num_classes == (250 if made.masks else 91)


# ---- without pretrained weights


@pytest.fixture
def small_resnet50(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-50 has an eighth of its channels."""
    small_runs.narrow_resnet50(monkeypatch)


@pytest.mark.usefixtures("small_resnet50")
def test_an_untrained_model_runs_an_image_and_says_that_it_is_offline(capsys: pytest.CaptureFixture) -> None:
    model, postprocessor = load("detr_resnet50", pretrained=False, num_classes=5, return_postprocessor=True)
    assert isinstance(postprocessor, PostProcess) and model.training
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("detr_resnet50: cannot download the ImageNet weights of resnet50 (no network)")
    outputs = model.eval()([torch.rand(3, 64, 96)])
    assert outputs.keys() == {"pred_logits", "pred_boxes"} and outputs["pred_logits"].shape == (1, 100, 6)
    (result,) = postprocessor(outputs, torch.tensor([[64, 96]]))
    assert result["boxes"].shape == (100, 4) and result["labels"].max() < 5


@pytest.mark.usefixtures("small_resnet50")
def test_an_untrained_backbone_has_imagenet_weights_as_in_the_original(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import torchvision

    asked, network = [], torchvision.models.resnet50(weights=None)

    def answer(url: str, **_) -> dict:
        asked.append(url)
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", answer)
    model = load("detr_resnet50_dc5")
    assert [url.rpartition("/")[2] for url in asked] == ["resnet50-0676ba61.pth"] and capsys.readouterr().out == ""
    assert torch.equal(model.backbone[0].body.layer4[2].conv3.weight, network.layer4[2].conv3.weight)
    assert model.backbone[0].body.layer4[1].conv2.dilation == (2, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("small_resnet50")
def test_an_untrained_panoptic_model_makes_a_panoptic_image() -> None:
    model, postprocessor = load("detr_resnet50_panoptic", threshold=0.0, return_postprocessor=True)
    assert isinstance(postprocessor, PostProcessPanoptic) and postprocessor.threshold == 0.0
    assert postprocessor.is_thing_map == {label: label <= 90 for label in range(250)}
    with torch.no_grad():
        outputs = model.eval()(torch.rand(1, 3, 64, 64))
    assert outputs["pred_masks"].shape == (1, 100, 16, 16)
    (image,) = postprocessor(outputs, torch.tensor([[64, 64]]))
    assert image["png_string"].startswith(b"\x89PNG")
    assert load("detr_resnet50_panoptic", return_postprocessor=True)[1].threshold == 0.85


# ---- with pretrained weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("detr_resnet50_dc5", {}),
        ("detr_resnet101", {"backbone": "resnet101"}),
        ("detr_resnet50_panoptic", {"masks": True}),
    ],
)
def test_pretrained_weights_are_downloaded_checked_and_loaded(
    name: str, sizes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer
) -> None:
    path = publish(tmp_path, monkeypatch, name, **sizes)
    loaded, expected = load(name, pretrained=True).state_dict(), constant_state(**sizes)
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[n], expected[n]) for n in expected)
    assert (tmp_path / "hub" / "checkpoints" / path.name).is_file()
    load(name, pretrained=True)
    assert len(server.ranges) == 1  # the second time from the cache


def test_a_file_of_another_hash_is_refused(tmp_path: Path) -> None:
    write_published(tmp_path / "remote", "detr-r50").rename(tmp_path / "remote" / "detr-r50-e632da11.pth")
    with pytest.raises(CheckpointError, match="detr-r50-e632da11.pth: the downloaded file does not have the hash"):
        load("detr_resnet50", pretrained=True)
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_weights_that_do_not_fit_whole_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(tmp_path, monkeypatch, "detr_resnet50", backbone="resnet101")
    with pytest.raises(CheckpointError, match=f"{path.name}: has what this model lacks: backbone.0.body.layer3.6"):
        load("detr_resnet50", pretrained=True)


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(published, "BASE_URL", "http://127.0.0.1:9/")
    with pytest.raises(CheckpointError) as error:
        load("detr_resnet50", pretrained=True)
    copy = tmp_path / "hub" / "checkpoints" / "detr-r50-e632da11.pth"
    assert "\n" not in str(error.value) and "detr-r50-e632da11.pth: cannot be downloaded" in str(error.value)
    assert f"put a copy at {copy}" in str(error.value)


def test_another_class_count_than_the_published_is_one_line(server: FileServer) -> None:
    with pytest.raises(UserError, match=r"detr_resnet101\(pretrained=True, num_classes=5\).* have 91 classes"):
        load("detr_resnet101", pretrained=True, num_classes=5)
    assert server.ranges == []


# ---- what it needs


@pytest.mark.slow
def test_a_model_needs_the_listed_packages_and_no_other() -> None:
    """In a process in which the packages of training and evaluation cannot be imported."""
    program = (
        "import sys\n"
        "for name in ('scipy', 'pycocotools', 'pandas', 'matplotlib', 'msgspec', 'nvtx'):\n"
        "    sys.modules[name] = None\n"
        "import torch, torchvision.models._api as api\n"
        "def offline(*_, **__): raise OSError('no network')\n"
        "api.load_state_dict_from_url = offline\n"
        "model, post = torch.hub.load('.', 'detr_resnet50_panoptic', source='local', return_postprocessor=True)\n"
        "with torch.no_grad():\n"
        "    post(model.eval()(torch.rand(1, 3, 64, 64)), torch.tensor([[64, 64]]))\n"
        "print('datasets' in sys.modules, 'engine' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False False"
    assert hubconf.dependencies == ["torch", "torchvision", "numpy", "PIL"]
