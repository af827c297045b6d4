"""Kept columns: equal to what is parsed, and never taken where anything has changed."""

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datasets.annotations import cache, read_annotations, turn
from datasets.annotations.cache import Reading, ReadOptions, open_annotations
from datasets.annotations.classes import ChosenClasses
from datasets.annotations.dense import DenseLabels
from datasets.annotations.findings import Findings
from datasets.coco import CocoDetection
from util.errors import DatasetError

PLAIN = Reading()
CACHED = ReadOptions(cached=True)


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep files of any size, and nothing in the user's own folder."""
    monkeypatch.setattr(cache, "LEAST_BYTES", 0)
    monkeypatch.setattr(cache, "BLOCK", 16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def path(tmp_path: Path, tiny_annotations: dict[str, Any]) -> Path:
    """Annotations with something to repair, and a name that is no UTF-8."""
    tiny_annotations["images"][1]["file_name"] = "Größe \ud800.png"
    tiny_annotations["annotations"][0]["area"] = "200"
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "instances.json"
    file.write_text(json.dumps(tiny_annotations))
    return file


def opened(path: Path, reading: Reading = PLAIN, options: ReadOptions = CACHED) -> tuple[dict[str, Any], list[str]]:
    """Everything that is read, and the findings' lines."""
    findings = Findings()
    annotations = open_annotations(path, reading, options, findings=findings)
    return annotations.to_dict(), [finding.line() for finding in findings]


def kept(path: Path) -> list[Path]:
    return sorted(path.parent.glob(".*"))


@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        Reading(need_masks=True),
        Reading(DenseLabels()),
        Reading(ChosenClasses(words=("cat",), labels=DenseLabels())),
    ],
)
def test_what_is_kept_equals_what_is_parsed(
    path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = opened(path, reading, ReadOptions())
    assert kept(path) == []
    assert opened(path, reading) == plain and len(kept(path)) == 1
    assert re.search(r"parsed in .* s; kept for later runs as .*\.columns", capsys.readouterr().out)
    monkeypatch.setattr(cache, "read_annotations", None)  # it is not parsed again
    assert opened(path, reading) == plain and capsys.readouterr().out == ""
    annotations = open_annotations(path, reading, CACHED, findings=Findings())
    parsed = read_annotations(path, **reading._asdict())
    assert annotations.listed == parsed.listed and annotations.left_out == parsed.left_out
    for name, column in parsed.columns().items():
        mapped = annotations.columns()[name]
        assert mapped.dtype == column.dtype and mapped.tobytes() == column.tobytes()
    # A size that is corrected in memory stays there.
    annotations.set_image_size(0, (1, 2))
    assert opened(path, reading) == plain


def test_strict_reading_refuses_from_what_is_kept_as_from_the_file(path: Path) -> None:
    opened(path)
    findings = Findings()
    with pytest.raises(DatasetError, match="strict reading refuses"):
        open_annotations(path, Reading(), ReadOptions(strict=True, cached=True), findings=findings)
    assert len(findings)


def test_a_changed_file_is_read_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(path)
    state = path.stat()
    # One digit, and the clock set back: the same size and time.
    text = path.read_text()
    path.write_text(text.replace('"id": 4', '"id": 5', 1).replace('"image_id": 4', '"image_id": 5'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    capsys.readouterr()
    data, _ = opened(path)
    assert [image["id"] for image in data["images"]] == [1, 5, 7, 9] and len(kept(path)) == 1
    assert "another state" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "flipped", "version", "foreign"])
def test_a_damaged_file_of_columns_is_one_line(
    path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = opened(path)
    (place,) = kept(path)
    content = place.read_bytes()
    if damage == "version":
        monkeypatch.setattr(cache, "_code", lambda: "other rules")
    else:
        damaged = {"cut": content[:-9], "longer": content + b"1", "empty": b"", "foreign": b"PK\3\4" * 99}
        place.write_bytes(damaged.get(damage, content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]))
    capsys.readouterr()
    assert opened(path) == plain
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and "not used (" in out[0] and "kept for later runs" in out[1]
    assert opened(path) == plain and capsys.readouterr().out == ""


def test_every_flipped_byte_of_the_columns_is_noticed_or_harmless(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = opened(path)
    (place,) = kept(path)
    content = place.read_bytes()
    for number in range(0, len(content), 97):
        place.write_bytes(content[:number] + bytes([content[number] ^ 0x41]) + content[number + 1 :])
        assert opened(path) == plain


def test_a_folder_that_cannot_be_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, error = cache.atomic_file, errno.EROFS

    def refuse(place: Path, **more: Any) -> Any:
        if error == errno.ENOSPC or place.parent == path.parent:
            raise OSError(error, os.strerror(error))
        return write(place, **more)

    monkeypatch.setattr(cache, "atomic_file", refuse)
    plain = opened(path)
    assert kept(path) == [] and len(list((tmp_path / "user/detr/annotations").iterdir())) == 1
    capsys.readouterr()
    assert opened(path) == plain and capsys.readouterr().out == ""
    error = errno.ENOSPC
    other = Reading(need_masks=True)
    assert opened(path, other) == opened(path, other)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and all("it cannot be kept" in line and "No space left" in line for line in out)


def test_images_that_were_asked_for_their_size_are_asked_again(
    tmp_path: Path, write: Callable[[Any], Path], sound: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A box over the edge opens the image: the result is that of the image, whether it is parsed or kept."""
    sound["images"][0].update(width=25, height=15)  # image 6 has a box from 10 to 30
    path, images = write(sound), tmp_path / "images"
    images.mkdir()
    for width in (60, 60, 28):
        Image.new("RGB", (width, 40)).save(images / "6.png")
        dataset = CocoDetection(images, path, options=CACHED)
        box = dataset.annotations.boxes_of(1)[0].tolist()
        assert box == [[10, 10, min(width, 30) - 10, 10]] and dataset.get_height_and_width(1) == (40, width)
    assert "image files have changed" in capsys.readouterr().out


def test_those_who_wait_take_what_the_first_has_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second to come finds the lock taken, waits, and does not write."""
    with turn.turn(path) as first:
        assert first
    opened(path)
    calls = iter([None])
    find = cache._kept
    monkeypatch.setattr(cache, "_kept", lambda *words: next(calls, find(*words)))
    monkeypatch.setattr(cache, "turn", lambda path: _Waited())
    monkeypatch.setattr(cache, "read_annotations", None)
    assert len(opened(path)[0]["images"]) == 4


@pytest.mark.parametrize("rank", [1, 2])
def test_whoever_waits_says_so_and_without_locks_for_reading_a_stand_in_is_locked(
    path: Path, rank: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NFS refuses an exclusive lock of a file that is not open for writing; of ranks that wait, one line is enough."""
    locked = []

    def flock(file: Any, operation: int) -> None:
        if not file.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")
        locked.append((Path(file.name).parent, operation))
        if operation == fcntl.LOCK_EX | fcntl.LOCK_NB and len(locked) > 1:
            raise BlockingIOError

    monkeypatch.setattr(turn.fcntl, "flock", flock)
    monkeypatch.setattr(turn, "get_rank", lambda: rank)
    monkeypatch.setattr(turn.tempfile, "gettempdir", lambda: str(tmp_path / "data"))
    with turn.turn(path) as first, turn.turn(path) as second:
        assert first and not second
    assert [operation for _, operation in locked[2:]] == [fcntl.LOCK_SH, fcntl.LOCK_UN]
    assert {folder for folder, _ in locked} == {tmp_path / "data"}
    assert ("another process is reading it; waiting" in capsys.readouterr().out) == (rank == 1)


def test_small_files_and_missing_ones_leave_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LEAST_BYTES", 8 << 20)
    opened(path)
    assert kept(path) == []
    with pytest.raises(DatasetError, match="no such annotation file"):
        opened(path.with_name("other.json"))


def test_targets_are_equal(path: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, size in {
        "000000000004.png": (40, 50),
        "000000000007.png": (33, 47),
        "000000000009.png": (60, 40),
    }.items():
        Image.new("RGB", size).save(tmp_path / "images" / name)
    parsed, mapped = (CocoDetection(tmp_path / "images", path, return_masks=True, options=CACHED) for _ in range(2))
    for index in (1, 2, 3):
        one, other = parsed.load(index)[1], mapped.load(index)[1]
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert parsed.annotations.to_coco().dataset == mapped.annotations.to_coco().dataset


class _Waited:
    """The turn of a process that had to wait."""

    def __enter__(self) -> bool:
        return False

    def __exit__(self, *error: object) -> None:
        return None
