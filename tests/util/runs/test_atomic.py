"""Atomic files: whole or untouched."""

import os
import stat

import pytest

from util.runs.atomic import atomic_file, remove_unfinished


def test_writes_and_creates_folders(tmp_path):
    path = tmp_path / "a" / "b.json"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["b.json"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_what_a_killed_run_left_is_overwritten(tmp_path):
    path = tmp_path / "x"
    leftover = tmp_path / ".x.unfinished"
    leftover.write_bytes(b"a longer leftover")
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and not leftover.exists()


def test_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append("folder" if is_folder(fd) else "file") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: steps.append("rename") or replace(a, b))
    with atomic_file(tmp_path / "x") as file:
        file.write(b"1")
    assert steps == ["file", "rename", "folder"]


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic_file(tmp_path / "x"):
        pass
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_of_killed_processes_are_removed_and_those_being_written_stay(tmp_path):
    for name in (".best.pth.unfinished", ".curves.png.unfinished", "mine.unfinished", ".hidden"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".coco.unfinished").mkdir()
    with atomic_file(tmp_path / "log.txt") as file:
        remove_unfinished(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "log.txt").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == [".coco.unfinished", ".hidden", "log.txt", "mine.unfinished"]
    remove_unfinished(tmp_path / "no folder")
