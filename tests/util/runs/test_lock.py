"""One run at a time in a folder, and no lock that a dead run holds."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from util.errors import UserError
from util.runs.lock import hold_folder

pytest.importorskip("fcntl", reason="Windows has other locks")
_FORKS = multiprocessing.get_context("fork")


def test_a_second_run_is_refused_in_one_line_until_the_first_ends(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "run"):
        with pytest.raises(UserError, match=rf"in use by another run \(process {os.getpid()} on") as error:
            with hold_folder(tmp_path / "run"):
                pass
        assert "\n" not in error.value.line()
    with hold_folder(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def hold_and_fork(folder: Path) -> None:
    """Hold a folder, start a worker that lives on, and be killed."""
    with hold_folder(folder):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_does_not_hold_the_folder_though_its_worker_lives(tmp_path: Path) -> None:
    process = _FORKS.Process(target=hold_and_fork, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and (tmp_path / ".lock").exists()
    deadline = time.monotonic() + 5
    while True:  # the worker may be a moment short of closing its copy
        try:
            with hold_folder(tmp_path):
                break
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("where", ["under a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    place = tmp_path / "x"
    if where == "under a file":
        place.write_text("")
    else:
        place.mkdir(mode=0o500)
        if os.access(place, os.W_OK):
            pytest.skip("this user may write anywhere")
    with pytest.raises(UserError, match=r"--output_dir .* cannot be written \("), hold_folder(place / "run"):
        pass
