"""Videos: frames, their times and rotation, in and out; predicted as images are."""

import json
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from inference.video import VideoReader, VideoWriter
from tests.inference.checkpoints import NAMES, write_checkpoint
from util.errors import ImageError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

pytest.importorskip("av", reason="PyAV is not installed")

RATE = Fraction(30000, 1001)
#: Matrices of an mp4 track that turn the picture by 90 and 180 degrees clockwise, as 16.16 fixed-point numbers.
QUARTER = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
HALF = (-1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30)


def write_video(path: Path, *, frames: int = 10, size: tuple[int, int] = (65, 48)) -> Path:
    """Write dark frames with a red corner at the top left; of odd size, to be cut."""
    writer = VideoWriter(path, rate=RATE)
    image = Image.new("RGB", size, (10, 10, 10))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    for number in range(frames):
        writer.write(image, pts=number * 1001, time_base=Fraction(1, 30000))
    writer.close()
    return path


def turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Write a rotation into the track header of an mp4 file."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd")
    start += 44 if content[start + 4] == 0 else 56
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


def red_corner(image: Image.Image) -> tuple[int, int]:
    """Return the middle of the red pixels, x and y."""
    rows, columns = np.nonzero(np.asarray(image)[..., 0] > 150)
    return round(columns.mean()), round(rows.mean())


@pytest.mark.parametrize(
    ("matrix", "size", "corner"), [(None, (64, 48), (8, 8)), (QUARTER, (48, 64), (40, 8)), (HALF, (64, 48), (56, 40))]
)
def test_frames_are_upright_and_have_their_times(
    tmp_path: Path, matrix: tuple[int, ...] | None, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "film.mp4")
    if matrix is not None:
        turn(path, matrix)
    reader = VideoReader(path, every=4)
    frames = list(reader)
    assert [frame.number for frame in frames] == [0, 4, 8] and (reader.rate, reader.frames) == (RATE, 3)
    assert [frame.time for frame in frames] == pytest.approx([0, 4 / RATE, 8 / RATE])
    assert frames[0].image.size == size
    assert np.abs(np.subtract(red_corner(frames[0].image), corner)).max() <= 1


@pytest.mark.slow
def test_a_video_is_predicted_frame_by_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pth", names=NAMES)
    film = write_video(tmp_path / "film.mp4")
    (tmp_path / "broken.mp4").write_bytes(film.read_bytes()[:500])
    flags = f"--resume {checkpoint} --output {tmp_path}/out --device cpu --json --csv --every 2 --batch_size 3"
    code = predict.cli([*flags.split(), "--input", str(film), str(tmp_path / "broken.mp4"), "--threshold", "0.1"])
    out = capsys.readouterr().out
    assert code == 1 and "film.mp4: 5 frames, " in out and "broken.mp4: cannot be read" in out
    reader = VideoReader(tmp_path / "out" / "film.mp4")
    assert reader.rate == RATE / 2
    assert [frame.time for frame in reader] == pytest.approx([number / RATE for number in range(0, 10, 2)])
    lines = [json.loads(line) for line in (tmp_path / "out" / "film.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 2, 4, 6, 8]
    assert lines[1]["time"] == pytest.approx(2 / RATE, abs=1e-6)
    assert lines[0]["detections"] and len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) > 5
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_what_is_no_video_or_no_camera_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    for source, name in ((tmp_path / "a.mp4", "a.mp4"), (77, "camera 77")):
        with pytest.raises(ImageError, match=f"{name}: cannot be read"):
            VideoReader(source)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"a\.mp4: reading videos needs PyAV: pip install av"):
        VideoReader(tmp_path / "a.mp4")
