"""Checkpoints that are cut or have a wrong byte are recognised; files without a checksum load as ever."""

import os
import random
from pathlib import Path

import pytest
import torch

from util.errors import CheckpointError
from util.runs.checkpoint import find_resume, load_checkpoint, save_checkpoint

#: Damaged files of each kind; `make soak` asks for more.
FILES = int(os.environ.get("SOAK", 100))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pth"
    save_checkpoint(path, {"model": {"w": torch.randn(500)}, "epoch": 1, "optimizer": {}, "lr_scheduler": {}})
    return path.read_bytes()


def refused(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        assert "truncated" in str(error)
        return True
    return False


def test_a_flipped_byte_is_recognised_wherever_it_is(whole: bytes, tmp_path: Path) -> None:
    dice = random.Random(0)
    last = range(len(whole) - 95, len(whole))  # the end of the zip file, the mark and the sum
    for place in [*(dice.randrange(len(whole)) for _ in range(FILES)), *last]:
        flipped = whole[place] ^ 1 << dice.randrange(8)
        damaged = whole[:place] + bytes([flipped]) + whole[place + 1 :]
        assert refused(tmp_path / "x.pth", damaged), place


def test_a_truncated_file_is_recognised(whole: bytes, tmp_path: Path) -> None:
    dice = random.Random(0)
    for length in [0, 1, len(whole) - 1, *(dice.randrange(len(whole)) for _ in range(FILES))]:
        assert refused(tmp_path / "x.pth", whole[:length]), length


def test_the_sum_is_inside_and_everyone_reads_the_file(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(whole)
    for mapped in (False, True):
        assert torch.load(tmp_path / "x.pth", weights_only=True, mmap=mapped)["epoch"] == 1


def test_files_without_a_sum_load(tmp_path: Path) -> None:
    content = {"model": {"w": torch.ones(2)}, "epoch": 7}
    torch.save(content, tmp_path / "zipped.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert all(load_checkpoint(tmp_path / name)["epoch"] == 7 for name in ("zipped.pth", "old.pth"))


def test_resume_auto_goes_back_to_the_newest_whole_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for epoch in range(3):
        state = {"model": {"w": torch.ones(1)}, "epoch": epoch}
        save_checkpoint(tmp_path / "checkpoint.pth", state, previous=tmp_path / "previous.pth")
        if epoch == 0:
            save_checkpoint(tmp_path / "best.pth", state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pth", "checkpoint.pth", "previous.pth"]
    for damaged, (name, epoch) in zip(("checkpoint.pth", "previous.pth"), (("previous.pth", 1), ("best.pth", 0))):
        content = bytearray((tmp_path / damaged).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / damaged).write_bytes(content)
        found = find_resume("auto", tmp_path)
        assert found == str(tmp_path / name) and load_checkpoint(found)["epoch"] == epoch
        assert f"{tmp_path / name} is the newest whole checkpoint" in capsys.readouterr().out
