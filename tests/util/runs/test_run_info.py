"""run.json: enough to repeat a run, and nothing about who ran it."""

import argparse
import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from util.runs.run_info import git_state, run_info, write_run_info

ARGS = argparse.Namespace(device="cpu", lr=1e-4, output_dir=Path("runs/x"), sizes=(1, 2))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one commit."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "a").write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-b", "trunk"], ["add", "a"], [*identity, "commit", "-m", "first"]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)
    return root


def test_run_info_is_plain_and_complete(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/main.py", "--output_dir", "my runs"])
    info = run_info(ARGS)
    assert json.dumps(info)
    assert info["flags"] == {"device": "cpu", "lr": 1e-4, "output_dir": "runs/x", "sizes": (1, 2)}
    assert info["command"] == "main.py --output_dir 'my runs'"
    assert info["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert info["versions"]["python"] == platform.python_version()
    assert info["machine"]["gpu"] is None and info["machine"]["cpu"] and info["machine"]["threads"] >= 1
    assert info["date"].endswith("+00:00")


def test_the_machine_is_described_without_its_name():
    described = set(run_info(ARGS)["machine"])
    assert described == {"gpu", "cuda", "cpu", "cpus", "threads", "processes", "system"}


def test_run_json_is_written(tmp_path):
    write_run_info(tmp_path / "new", ARGS)
    assert json.loads((tmp_path / "new" / "run.json").read_text())["flags"]["lr"] == 1e-4


def test_git_state_of_a_checkout(checkout):
    state = git_state(checkout)
    assert len(state["sha"]) == 40 and state["branch"] == "trunk" and state["status"] == "clean"
    (checkout / "a").write_text("2")
    assert git_state(checkout)["status"] == "dirty"


def test_no_git_state_outside_a_checkout(tmp_path, checkout):
    copy = checkout / "copy"
    copy.mkdir()
    assert git_state(copy) is None
    assert git_state(tmp_path) is None


def test_no_git_state_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) is None
