"""A run that is killed by SIGKILL, in a process of its own, at each point between two files; and its resume."""

import os
import signal
from pathlib import Path

import pytest
import torch

import main
from tests.helpers import TINY, Run, rows_without_measured
from tests.processes import Started
from util.runs import atomic
from util.runs.run_folder import RunFolder

if not hasattr(signal, "SIGKILL"):
    pytest.skip("this system has no SIGKILL", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

#: Every epoch is kept, and is better than the one before; few images.
FLAGS = f"{TINY} --epochs 3 --lr_drop 1 --train_size 4 --val_size 2"
#: Files in the order in which an epoch writes them.
FILES = ("curves.png", "eval/latest.pth", "best.pth", "checkpoint0001.pth", "checkpoint.pth")


def rising_run(flags: str) -> int:
    """Run the command; each epoch's AP is higher than that of the epoch before."""
    evaluate = main.evaluate

    def evaluate_rising(*args, **more):
        stats, evaluator = evaluate(*args, **more)
        log = Path(args[6]) / "log.txt"
        stats["coco_eval_bbox"][0] = 0.1 + 0.1 * (len(log.read_text().splitlines()) if log.exists() else 0)
        return stats, evaluator

    main.evaluate = evaluate_rising
    atomic.os.fsync = lambda _: None  # the process is killed, not the machine
    return main.cli(flags.split())


def killed_run(flags: str, name: str, when: str) -> None:
    """Run the command, and kill it before or after the file of a name is put in its place in the second epoch."""
    replace = os.replace

    def replace_and_die(source: Path, target: Path) -> None:
        folder = target.parents[name.count("/")]
        log = folder / "log.txt"
        second = target == folder / name and log.exists() and len(log.read_text().splitlines()) == 2
        if second and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if second:
            os.kill(os.getpid(), signal.SIGKILL)

    atomic.os.replace = replace_and_die
    rising_run(flags)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None, undrawn_curves: None) -> Path:
    """The folder of the same run, never killed."""
    folder = tmp_path_factory.mktemp("straight")
    code, _, err = Started(rising_run, f"{FLAGS} --output_dir {folder}").end()
    assert code == 0, err
    return folder


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_best_is_there(folder: Path) -> None:
    """Check that best.pth holds the best AP that any checkpoint speaks of, or a later one."""
    for path in folder.glob("checkpoint*.pth"):
        assert read(folder / "best.pth")["ap"] >= read(path)["best_ap"], path


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", FILES)
def test_a_run_killed_at_any_file_goes_on_to_the_same_files(
    tmp_path: Path, straight: Path, name: str, when: str
) -> None:
    flags = f"{FLAGS} --output_dir {tmp_path}"
    code, _, err = Started(killed_run, flags, name, when).end()
    assert code == -signal.SIGKILL, err
    unfinished = (tmp_path / name).with_name(f".{Path(name).name}.unfinished")
    assert unfinished.exists() == (when == "before")
    assert_best_is_there(tmp_path)
    code, _, err = Started(rising_run, f"{flags} --resume auto").end()
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in straight.iterdir())
    assert not unfinished.exists()
    assert rows_without_measured(tmp_path) == rows_without_measured(straight)
    for file in ("best.pth", "checkpoint.pth", *(f"checkpoint000{epoch}.pth" for epoch in range(3))):
        mine, theirs = read(tmp_path / file), read(straight / file)
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
