"""A model in a file for other programs computes what the checkpoint does, for any number and size of images."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import export
from inference.detector import Detector
from inference.export import check, formats
from inference.export.metadata import ExportMetadata
from inference.export.wrapper import Canvas
from inference.exported import open_exported
from inference.loading import load_trained
from models.variants.encoder_queries import NOTHING
from tests.helpers import built_once
from tests.inference.checkpoints import NAMES, write_checkpoint
from util.errors import CheckpointError, UserError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list

CPU = torch.device("cpu")
#: Programs that were read, by their content, with what is written beside them.
LOADED: dict[bytes, tuple[Any, dict[str, str]]] = {}
PLAIN = {"device": CPU, "padding_invariant": None}
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def run(flags: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = export.cli(flags.split())
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None) -> Path:
    """A model with masks, as ONNX, beside its checkpoint and its torch.export; tracing them takes seconds."""
    return built_once(tmp_path_factory, "exported", write_onnx) / "model.onnx"


def write_onnx(folder: Path) -> None:
    """Write best.pth, model.onnx and model.pt2."""
    write_checkpoint(folder / "best.pth", names=NAMES, masks=True, dec_layers=1)
    traced = cache(formats.trace)  # once for both formats
    with pytest.MonkeyPatch.context() as patch:
        model = load_trained(folder / "best.pth", **PLAIN).model
        patch.setattr(formats, "trace", lambda _, canvas: traced(model, canvas))
        patch.setattr(torch.export, "load", load_once)
        for name in ("onnx", "torch_export"):
            path = folder / f"model{formats.SUFFIXES[name]}"
            assert export.cli(f"--resume {folder}/best.pth --format {name} {path}".split()) == 0


def load_once(path: Path, *, extra_files: dict[str, str], load: Any = torch.export.load) -> Any:
    """Read a file of torch.export, which takes seconds, once in this process: export.py has, before it moved it."""
    content = hashlib.sha256(Path(path).read_bytes()).digest()
    if content not in LOADED:
        LOADED[content] = load(path, extra_files=extra_files), extra_files.copy()
    program, texts = LOADED[content]
    extra_files |= texts
    return program


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def batch(*sizes: tuple[int, int]) -> NestedTensor:
    generator = torch.Generator().manual_seed(0)
    return nested_tensor_from_tensor_list([torch.randn(3, *size, generator=generator) for size in sizes])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_graph_returns_as_many_images_as_it_takes(
    onnx_file: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DETR's own ONNX graph takes two images and returns one."""
    monkeypatch.setattr(torch.export, "load", load_once)
    exported = open_exported(onnx_file.with_suffix(suffix), device=CPU)
    model = load_trained(onnx_file.with_name("best.pth"), **PLAIN).model
    for sizes in ([(64, 64)], [(96, 70), (70, 131)], [(33, 200), (64, 64), (65, 90), (180, 41), (100, 100)]):
        samples = batch(*sizes)
        found = exported(samples)
        with torch.no_grad():
            expected = model(samples)
        assert found.keys() == expected.keys() and len(found["pred_boxes"]) == len(sizes)
        for name in ("pred_boxes", "pred_logits", "pred_masks"):
            assert torch.allclose(found[name], expected[name], atol=1e-3), (name, sizes)
        assert torch.equal(found["canvas"], expected["canvas"])


@pytest.mark.slow
def test_an_onnx_file_says_what_it_is_and_names_its_axes(onnx_file: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx_file)
    graph = onnx.load(onnx_file)
    facts = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert facts["class_names"] == {str(id_): name for id_, name in NAMES.items()}
    assert facts["preprocessing"]["image_size"] == 64 and facts["preprocessing"]["color"] == "RGB"
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert axes["images"] == ["batch", 3, "height", "width"] and axes["mask"] == ["batch", "height", "width"]
    assert axes["pred_logits"] == ["batch", 6, 5] and axes["pred_masks"][:2] == ["batch", 6]
    card = onnx_file.with_name("model.onnx.md").read_text()
    assert "1 cat, 2 dog, 3 cup" in card and "predict.py --resume model.onnx" in card and "Apache 2.0" in card


@pytest.mark.slow
def test_a_detector_runs_an_onnx_file_as_its_checkpoint(onnx_file: Path) -> None:
    images = [noise(90, 60), noise(50, 130), noise(64, 64)]
    of_file = Detector(onnx_file, device="cpu", threshold=0, batch_size=3)(images)
    alone = Detector(onnx_file.with_name("best.pth"), device="cpu", threshold=0)(images)
    for found, expected in zip(of_file, alone):
        assert found.names == expected.names and found.masks is not None
        assert np.allclose(found.boxes, expected.boxes, atol=1e-2) and np.allclose(
            found.scores, expected.scores, atol=1e-4
        )
        assert (found.masks != expected.masks).mean() < 1e-3


@pytest.mark.slow
def test_a_torch_export_of_a_fixed_size_takes_images_that_fit(folder: Path, capsys) -> None:
    write_checkpoint(folder / "plain.pth", names=NAMES, position_embedding="learned", dec_layers=1)
    flags = f"--resume {folder}/plain.pth --format torch_export --fixed_size 64 100 {folder}/fixed.pt2"
    code, out, err = run(flags, capsys)
    assert code == 0 and "batches of 1, 2 and 5 images" in out, err
    detector = Detector(folder / "fixed.pt2", device="cpu", threshold=0)
    found = detector(noise(100, 300))  # fits as 21 x 64
    assert detector.prepare(noise(100, 300)).shape == (3, 64, 21) and found.boxes.shape == (6, 4)
    with pytest.raises(UserError, match="made for 64 x 100 pixels, this batch has 65 x 65"):
        detector.model(batch((65, 65)))


def test_safetensors_hold_the_weights_and_are_checked_by_ap(coco_folder: Path, folder: Path, capsys) -> None:
    write_checkpoint(folder / "st.pth", names={3: "dog", 7: "cat"}, num_classes=8)
    flags = f"--resume {folder}/st.pth --format safetensors --data_path {coco_folder} {folder}/new/st.safetensors"
    code, out, err = run(flags, capsys)
    assert code == 0 and "check: 4 validation images: AP (bbox)" in out, err
    from safetensors.torch import load_file

    stored = torch.load(folder / "st.pth", weights_only=True)["model"]
    assert all(torch.equal(stored[name], tensor) for name, tensor in load_file(folder / "new/st.safetensors").items())
    found = Detector(folder / "new" / "st.safetensors", device="cpu", threshold=0)(noise(90, 60))
    assert np.array_equal(found.boxes, Detector(folder / "st.pth", device="cpu", threshold=0)(noise(90, 60)).boxes)
    assert [file.name for file in (folder / "new").iterdir()] in (
        ["st.safetensors", "st.safetensors.md"],
        ["st.safetensors.md", "st.safetensors"],
    )


def test_a_file_that_differs_is_not_kept_and_the_place_is_named(folder: Path, monkeypatch, capsys) -> None:
    path = write_checkpoint(folder / "off.pth", names=NAMES)
    write_model = formats.write_model

    def write_another(format_: str, model: torch.nn.Module, *rest: object) -> None:
        with torch.no_grad():
            model.query_embed.weight[2] += 1  # as an exporter's fault might
            write_model(format_, model, *rest)
            model.query_embed.weight[2] -= 1

    monkeypatch.setattr(formats, "write_model", write_another)
    code, _, err = run(f"--resume {path} --format safetensors {folder}/off.safetensors", capsys)
    assert code == 1 and "differs from the model's by" in err and "query 2 of image" in err and err.count("\n") == 1
    assert not (folder / "off.safetensors").exists() and not (folder / "off.safetensors.md").exists()


def test_a_difference_in_ap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([{"bbox": 0.5}, {"bbox": 0.498}])
    monkeypatch.setattr(check, "_average_precision", lambda *_: next(values))
    with pytest.raises(check.ExportError, match="AP .bbox. of the file is 0.4980 .* the model's 0.5000"):
        check.check_average_precision(None, None, None, [0])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--format onnx OUT.pt2", "--format onnx writes files that end in .onnx"),
        ("--format onnx --fixed_size 20 64 OUT.onnx", "at least 33 pixels"),
        ("--format safetensors --data_path nowhere OUT.safetensors", "nowhere"),
        ("--format safetensors --resume OUT.onnx OUT.safetensors", "no such file"),
    ],
)
def test_a_mistake_is_one_line(flags: str, words: str, folder: Path, capsys) -> None:
    write_checkpoint(folder / "m.pth", names=NAMES)
    code, _, err = run(f"--resume {folder}/m.pth {flags.replace('OUT', str(folder / 'bad'))}", capsys)
    assert code == 2 and words in err and err.count("\n") == 1 and not list(folder.glob("bad*"))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".safetensors"])
def test_a_broken_file_is_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=f"broken{suffix}: ") as error:
        open_exported(path, device=CPU)
    assert "\n" not in str(error.value)


def test_a_file_of_another_program_is_refused() -> None:
    with pytest.raises(CheckpointError, match="x.onnx: does not say its classes"):
        ExportMetadata.from_strings({"class_names": "{}"}, "x.onnx")


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    path = write_checkpoint(folder / "p.pth")
    code, _, err = run(f"--resume {path} --format onnx {folder}/p.onnx", capsys)
    assert code == 2 and "--format onnx needs the package onnxscript: pip install onnx onnxscript onnxruntime" in err


def test_help_does_not_wait_for_torch() -> None:
    program = "import sys, export; export.get_args_parser().format_help(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(export.__file__).parent
    )
    assert result.stdout == "False\n", result.stderr


def test_queries_on_padding_may_stand_in_any_order_and_others_may_not() -> None:
    def answers(*order: int) -> check.Model:
        logits, boxes = torch.tensor([2.0, 1.0, NOTHING, NOTHING]), torch.tensor([0.1, 0.2, 0.3, 0.9])
        picked = list(order)

        def model(batch: NestedTensor) -> dict[str, torch.Tensor]:
            b = len(batch.tensors)
            return {
                "pred_logits": logits[picked, None].expand(b, -1, 3) + torch.tensor([0.0, 1, 2]),
                "pred_boxes": boxes[picked, None].expand(b, -1, 4),
            }

        return model

    found = check.check_outputs(answers(0, 1, 2, 3), answers(0, 1, 3, 2), Canvas(), image_size=64)
    assert [difference.value for difference in found] == [0, 0]
    with pytest.raises(check.ExportError, match=r"pred_boxes of query 0 of image 1 of 1"):
        check.check_outputs(answers(0, 1, 2, 3), answers(1, 0, 2, 3), Canvas(), image_size=64)
