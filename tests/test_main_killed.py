"""A run that is killed by SIGKILL at each point between two files, and its resume.

One process is killed indeed. Of the other points there are copies of the folder of a run that goes on: what has reached
the files by then is all that a killed process leaves.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

import main
from tests.helpers import TINY, Run, rows_without_measured
from tests.processes import Started
from util.runs.run_folder import RunFolder

if not hasattr(signal, "SIGKILL"):
    pytest.skip("this system has no SIGKILL", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

#: Every epoch is kept, and is better than the one before; few images.
FLAGS = f"{TINY} --epochs 3 --lr_drop 1 --train_size 4 --val_size 2"
#: Files in the order in which an epoch writes them.
FILES = ("curves.png", "eval/latest.pth", "best.pth", "checkpoint0001.pth", "checkpoint.pth")
#: Before a file is in its place, those that come earlier are there: after the last one alone is a point of its own.
POINTS = [*((name, "before") for name in FILES), (FILES[-1], "after")]


def let_rise(patch: pytest.MonkeyPatch) -> None:
    """Let each epoch's AP be higher than that of the epoch before."""
    evaluate = main.evaluate

    def evaluate_rising(*args, **more):
        stats, evaluator = evaluate(*args, **more)
        log = Path(args[6]) / "log.txt"
        stats["coco_eval_bbox"][0] = 0.1 + 0.1 * (len(log.read_text().splitlines()) if log.exists() else 0)
        return stats, evaluator

    patch.setattr(main, "evaluate", evaluate_rising)


def is_second(folder: Path, name: str) -> bool:
    """Return True in the second epoch; by the time of its curves its row stands in the log."""
    log = folder / "log.txt"
    return name in FILES and log.exists() and len(log.read_text().splitlines()) == 2


def killed_run(folder: str) -> None:
    """Run the command, and kill it before checkpoint.pth is put in its place in the second epoch."""
    patch, replace = pytest.MonkeyPatch(), os.replace

    def replace_or_die(source: Path, target: Path) -> None:
        if target == Path(folder) / "checkpoint.pth" and is_second(target.parent, target.name):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    patch.setattr(os, "replace", replace_or_die)
    patch.setattr(os, "fsync", lambda _: None)  # the process is killed, not the machine
    let_rise(patch)
    main.cli(f"{FLAGS} --output_dir {folder}".split())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None, undrawn_curves: None) -> Path:
    """The folder of a run that is never killed; beside it copies FILE/before and FILE/after, those of `POINTS`."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    replace = os.replace

    def replace_and_copy(source: Path, target: Path) -> None:
        name = target.relative_to(folder).as_posix()
        second = is_second(folder, name)
        if second:
            shutil.copytree(folder, folder.parent / name / "before")
        replace(source, target)
        if second and (name, "after") in POINTS:
            shutil.copytree(folder, folder.parent / name / "after")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace_and_copy)
        let_rise(patch)
        assert main.cli(f"{FLAGS} --output_dir {folder}".split()) == 0
    return folder


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_best_is_there(folder: Path) -> None:
    """Check that best.pth holds the best AP that any checkpoint speaks of, or a later one."""
    for path in folder.glob("checkpoint*.pth"):
        assert read(folder / "best.pth")["ap"] >= read(path)["best_ap"], path


def test_a_killed_process_leaves_what_a_copy_holds(tmp_path: Path, straight: Path) -> None:
    code, _, err = Started(killed_run, str(tmp_path)).end()
    assert code == -signal.SIGKILL, err
    copy = straight.parent / "checkpoint.pth" / "before"
    files = [path.relative_to(copy) for path in sorted(copy.rglob("*"))]
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == files
    assert rows_without_measured(tmp_path) == rows_without_measured(copy)
    for name in (".checkpoint.pth.unfinished", "checkpoint.pth", "best.pth"):
        mine, theirs = read(tmp_path / name), read(copy / name)
        assert mine["epoch"] == theirs["epoch"], name
        assert all(torch.equal(mine["model"][key], theirs["model"][key]) for key in theirs["model"]), name


@pytest.mark.parametrize(("name", "when"), POINTS)
def test_a_run_killed_at_any_file_goes_on_to_the_same_files(
    run: Run, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(straight.parent / name / when, folder)
    unfinished = (folder / name).with_name(f".{Path(name).name}.unfinished")
    assert unfinished.exists() == (when == "before")
    assert_best_is_there(folder)
    let_rise(monkeypatch)
    code, _, err = run(f"{FLAGS} --output_dir {folder} --resume auto")
    assert code == 0, err
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in straight.iterdir())
    assert not unfinished.exists()
    assert rows_without_measured(folder) == rows_without_measured(straight)
    for file in ("best.pth", "checkpoint.pth", *(f"checkpoint000{epoch}.pth" for epoch in range(3))):
        mine, theirs = read(folder / file), read(straight / file)
        assert (mine["epoch"], mine["ap"], mine["best_ap"]) == (theirs["epoch"], theirs["ap"], theirs["best_ap"]), file
        assert all(torch.equal(mine["model"][key], theirs["model"][key]) for key in theirs["model"]), file


def test_a_lost_best_is_written_again_on_resume(run: Run, tmp_path: Path, straight: Path) -> None:
    """As an earlier version left it: killed between the checkpoint and best.pth."""
    content = read(straight / "checkpoint.pth")
    torch.save(content, tmp_path / "checkpoint.pth")
    (tmp_path / ".best.pth.unfinished").write_bytes(b"half")
    code, out, err = run(f"{FLAGS} --output_dir {tmp_path} --resume auto")
    assert code == 0 and "nothing to do" in out and "best.pth: was missing" in out, err
    assert read(tmp_path / "best.pth")["epoch"] == content["epoch"]
    assert not (tmp_path / ".best.pth.unfinished").exists()


def test_an_evaluation_removes_unfinished_files_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".predictions.json.unfinished").write_bytes(b"half")
    code, _, err = run(f"{FLAGS} --eval --output_dir {tmp_path}")
    assert code == 0, err
    assert not list(tmp_path.glob(".*"))


def test_a_script_that_writes_into_one_checkpoint_leaves_the_others(tmp_path: Path) -> None:
    state = {"model": {"w": torch.ones(1)}, "epoch": 0}
    RunFolder(tmp_path, first_epoch=0).save(state, is_best=True, keep=True)
    torch.save({"model": {}}, tmp_path / "checkpoint.pth")
    assert read(tmp_path / "best.pth")["model"] and read(tmp_path / "checkpoint0000.pth")["model"]
