"""Files of somebody else's: code in a checkpoint is not run, odd images are named, broken folders end in one line."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import export
import predict
from datasets.check.__main__ import cli as check
from tests.helpers import TINY, Run
from training import replay
from util.convert.__main__ import cli as convert
from util.errors import UserError
from util.plot_precision import plot_precision_recall
from util.runs.checkpoint import save_checkpoint
from util.runs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


class Marked:
    """Makes a folder when it is unpickled by a reader that runs what it reads."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


@pytest.fixture
def malicious(tmp_path: Path) -> Path:
    """A checkpoint that would make the folder `ran` beside it."""
    content = {"model": {"w": torch.zeros(1)}, "args": Marked(tmp_path / "ran"), "precision": Marked(tmp_path / "ran")}
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(FileExistsError):  # the file does what it says
        (tmp_path / "ran").mkdir()
        torch.load(tmp_path / "evil.pth", weights_only=False)
    (tmp_path / "ran").rmdir()
    return tmp_path / "evil.pth"


@pytest.mark.slow
def test_no_reader_runs_what_a_checkpoint_holds(run: Run, malicious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, folder = malicious.with_name("image.png"), malicious.with_name("out")
    Image.new("RGB", (32, 32)).save(image)
    readers: dict[str, Callable[[], int]] = {
        flag: lambda flag=flag: run(f"{TINY} --masks {flag} {malicious}")[0]
        for flag in ("--resume", "--init_from", "--frozen_weights", "--backbone_weights", "--eval --resume")
    }
    commands = {
        "predict": lambda: predict.cli(["--resume", str(malicious), "--input", str(image), "--output", str(folder)]),
        "export": lambda: export.cli(["--resume", str(malicious), str(folder / "x.onnx"), "--format", "onnx"]),
        "huggingface": lambda: convert(["hf", str(malicious), str(folder)]),
        "detectron2": lambda: convert(["d2", str(malicious), str(folder / "x.pth")]),
        "replay": lambda: replay.main([str(malicious)]),
    }
    for name, read in (readers | commands).items():
        assert read() == 2, name
        assert not malicious.with_name("ran").exists(), name
        err = capsys.readouterr().err  # of the commands; `run` has read its own
        assert name in readers or (len(err.splitlines()) == 1 and "evil.pth" in err), (name, err)
    with pytest.raises(UserError, match="evil.pth"):
        plot_precision_recall([malicious])
    assert not malicious.with_name("ran").exists()


def png(width: int, height: int, *, depth: int, colour: int) -> bytes:
    """A PNG with this header and next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def hostile(kind: str, path: Path) -> None:
    """Write an image file that is not what it should be, under any suffix."""
    if kind == "bomb":
        path.write_bytes(png(60_000, 60_000, depth=8, colour=2))
    elif kind == "palette of 16 bits":
        path.write_bytes(png(60, 40, depth=16, colour=3))
    elif kind == "strip":
        Image.new("RGB", (1, 65535)).save(path, format="PNG")
    else:
        Image.effect_noise((60, 40), 90).convert("RGB").save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[:600])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bomb", "palette of 16 bits", "strip", "truncated"])
def test_hostile_images_are_named_by_all_who_read_them(
    run: Run, coco_folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = coco_folder / "train2017" / "000000000001.png"
    hostile(kind, path)
    flags = f"--data_path {coco_folder}"
    checked = check(flags.split())
    out = capsys.readouterr().out
    assert path.name in out and checked == (1 if kind == "strip" else 2), out

    crops = "--crop_probability 1 --crop_resize 400"  # the scale before a crop has no limit
    code, _, err = run(f"{TINY} --dataset_file coco {flags} --epochs 1 --max_size 96 --no_check {crops}")
    assert code == 2 and len(err.splitlines()) == 1 and path.name in err and "Traceback" not in err, err
    if kind == "bomb":
        assert "3600000000 pixels" in err and "--max_pixels" in err


@pytest.mark.slow
def test_predict_goes_on_after_hostile_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.helpers import build

    model, _, _ = build("--backbone_norm batch")
    torch.save({"model": model.state_dict(), "args": {"image_size": 64, "max_size": 96}}, tmp_path / "model.pth")
    kinds = ("bomb", "palette of 16 bits", "strip", "truncated")
    for kind in kinds:
        hostile(kind, tmp_path / f"{kind}.png")
    inputs = [str(tmp_path / f"{kind}.png") for kind in kinds]
    argv = ["--resume", str(tmp_path / "model.pth"), "--output", str(tmp_path / "out"), "--device", "cpu", "--input"]
    assert predict.cli(argv + inputs) == 1
    out = capsys.readouterr().out
    for kind in kinds:
        assert f"{kind}.png" in out
    assert "strip.png: 0 objects" in out and out.count("cannot read the image") == 3


def test_no_shell_and_the_users_umask(tmp_path: Path) -> None:
    root = Path(predict.__file__).parent
    sources = [p for p in root.rglob("*.py") if not {".venv", "tests"} & set(p.relative_to(root).parts)]
    assert len(sources) > 200
    texts = {path: path.read_text() for path in sources}
    assert [p for p, text in texts.items() if "shell=True" in text or "os.system(" in text or "os.popen(" in text] == []

    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "run" / "checkpoint.pth", {"model": {"w": torch.zeros(1)}})
        RunFolder(tmp_path / "run", first_epoch=0).log({"epoch": 0})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "run", *(tmp_path / "run").iterdir()]}
    assert modes["run"] == 0o750 and modes["checkpoint.pth"] == modes["log.txt"] == 0o640, modes
