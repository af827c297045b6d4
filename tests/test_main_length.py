"""The times at which a run is evaluated and ends, a backbone frozen at first, and the images of an evaluation."""

import shutil
from pathlib import Path

import pytest
import torch

import main
import run_data
from tests.helpers import TINY, Run, assert_refused, rows, rows_without_measured
from tests.processes import command, start_two
from util.dist.distributed import Launch
from util.plot_utils import plot_curves

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: Three epochs of two steps, each kept; the backbone is frozen in the first, and the second and third are evaluated.
FLAGS = f"{TINY} --epochs 3 --lr_drop 1 --freeze_backbone 1 --eval_every 2 --weight_decay 0.1 --val_size 2"


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def backbone_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in read(path)["model"].items() if "backbone" in name}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None, undrawn_curves: None) -> Path:
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("straight")
    assert main.cli(f"{FLAGS} --output_dir {folder}".split()) == 0
    return folder


# ---- --eval_every, --freeze_backbone


@pytest.mark.slow
def test_epochs_without_an_evaluation_are_logged_and_saved(straight: Path, tmp_path: Path) -> None:
    log = rows(straight)
    assert [row["epoch"] for row in log] == [0, 1, 2]
    assert [any(name.startswith("test_") for name in row) for row in log] == [False, True, True]
    checkpoints = [read(straight / f"checkpoint000{epoch}.pth") for epoch in range(3)]
    assert ["ap" in checkpoint for checkpoint in checkpoints] == [False, True, True]
    assert read(straight / "best.pth")["epoch"] in (1, 2)
    plot_curves(straight / "log.txt", tmp_path / "curves.png")


@pytest.mark.slow
def test_the_backbone_is_frozen_with_its_statistics_and_then_trains(straight: Path, tmp_path: Path, run: Run) -> None:
    short = f"{FLAGS} --max_steps 1 --output_dir {tmp_path}"
    assert run(short)[0] == 0
    first, second, third = (
        backbone_of(path)
        for path in (tmp_path / "checkpoint.pth", straight / "checkpoint0000.pth", straight / "checkpoint0001.pth")
    )
    assert same(first, second)  # though a weight decay of 0.1 pulled at all the rest
    changed = [name for name in second if not torch.equal(second[name], third[name])]
    assert {name for name in second if name.endswith(("weight", "running_mean"))} <= set(changed)
    groups = read(straight / "checkpoint0000.pth")["optimizer"]["param_groups"]
    assert [len(group["params"]) for group in groups] == [
        len(group["params"]) for group in read(straight / "checkpoint.pth")["optimizer"]["param_groups"]
    ]


@pytest.mark.slow
def test_a_run_resumed_while_the_backbone_was_frozen_ends_the_same(run: Run, tmp_path: Path, straight: Path) -> None:
    code, _, err = run(f"{FLAGS} --output_dir {tmp_path} --resume {straight / 'checkpoint0000.pth'}")
    assert code == 0, err
    assert rows_without_measured(tmp_path) == rows_without_measured(straight)[1:]
    assert same(read(tmp_path / "checkpoint.pth")["model"], read(straight / "checkpoint.pth")["model"])


@pytest.mark.slow
def test_two_processes_average_freeze_the_backbone_and_end_together(tmp_path: Path) -> None:
    flags = f"{TINY} --epochs 3 --batch_size 2 --freeze_backbone 1 --lr_drop 1 --ema 0.5 --output_dir {tmp_path}"
    (code0, out0, err0), (code1, _, err1) = start_two(first_asks_for_the_end, flags)
    assert (code0, code1) == (0, 0), err0 + err1
    assert "a test asks: the run ends after step 4 of 6" in out0 and "Warning" not in err0 + err1
    first, last = read(tmp_path / "checkpoint0000.pth"), read(tmp_path / "checkpoint.pth")
    assert (first["ema_updates"], last["ema_updates"]) == (2, 4) and "test_ema_coco_eval_bbox" in rows(tmp_path)[0]
    frozen = [name for name in first["model"] if "backbone" in name]
    assert all(torch.equal(first["model"][name], first["ema"][name]) for name in frozen)
    assert not same({name: last["model"][name] for name in frozen}, {name: first["model"][name] for name in frozen})


def first_asks_for_the_end(flags: str) -> int:
    """Run the command; the process of rank 1 alone asks for the end, in the second epoch."""
    from training.freeze import FrozenStart
    from training.stop import Stop
    from util.dist.distributed import get_rank

    stops: list[Stop] = []
    begin, build = FrozenStart.begin, Stop.__init__

    def begin_and_ask(self: FrozenStart, epoch: int) -> None:
        begin(self, epoch)
        if epoch == 1 and get_rank() == 1:
            stops[0].ask("a test asks")

    def build_and_keep(self: Stop, **settings: float) -> None:
        build(self, **settings | {"agree_every": 5})
        stops.append(self)

    FrozenStart.begin, Stop.__init__ = begin_and_ask, build_and_keep  # type: ignore[method-assign]
    return command(flags)


# ---- --max_hours, --early_stop


@pytest.mark.slow
def test_a_run_whose_time_is_over_is_saved_within_the_epoch_and_goes_on(run: Run, tmp_path: Path) -> None:
    flags = f"{TINY} --epochs 2 --val_size 2 --max_hours 1e-9 --output_dir {tmp_path}"
    code, out, err = run(flags)
    assert code == 0, err
    assert f"--max_hours 1e-09 is over: the run ends after step 1 of 4, saved in {tmp_path}; --resume auto" in out
    assert read(tmp_path / "checkpoint.pth")["step"] == 1 and not (tmp_path / "log.txt").exists()
    code, out, err = run(f"{flags} --resume auto")
    assert code == 0 and "resuming at epoch 0, step 1" in out and "ends after step 2 of 4" in out, err
    assert [row["epoch"] for row in rows(tmp_path)] == [0] and "test_loss" in rows(tmp_path)[0]


@pytest.mark.slow
def test_a_run_ends_when_the_precision_has_not_risen(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions, evaluate = [0.3, 0.2, 0.3, 0.1, 0.4], main.evaluate

    def evaluate_as_told(*args, **more):
        stats, evaluator = evaluate(*args, **more)
        stats["coco_eval_bbox"][0] = precisions.pop(0)
        return stats, evaluator

    monkeypatch.setattr(main, "evaluate", evaluate_as_told)
    flags = f"{TINY} --epochs 5 --train_size 4 --val_size 2 --output_dir {tmp_path}"
    assert run(f"{flags} --max_steps 2")[0] == 0  # epochs 0 and 1; the count goes on in the next process
    code, out, err = run(f"{flags} --early_stop 2 --resume auto")
    why = "--early_stop 2: the AP has not risen above 0.300 in 2 evaluations"
    assert code == 0 and f"{why}; a larger N would go on: the run ends after step 3 of 5" in out, err
    code, out, err = run(f"{flags} --early_stop 2 --resume auto")
    assert code == 0 and f"nothing to do: {why}" in out, err
    code, out, err = run(f"{flags} --early_stop 4 --resume auto")
    assert code == 0 and "ends after" not in out, err
    assert read(tmp_path / "best.pth")["epoch"] == 4 and precisions == []


# ---- --eval_batch_size, --split


def test_evaluations_have_a_batch_size_of_their_own() -> None:
    for flags, expected in (("", [4, 4]), ("--eval_batch_size 1", [4, 1])):
        args = main.parse_flags(f"{TINY} {flags}".split())
        loaders = [
            run_data.build_loader(run_data.build_split(split, args), args, Launch(), train=split == "train")
            for split in ("train", "val")
        ]
        assert [loader.batch_size for loader in loaders] == expected


def test_test_images_are_evaluated_where_there_are_any(run: Run, tmp_path: Path, coco_folder: Path) -> None:
    annotations = tmp_path / "data" / "annotations"
    annotations.mkdir(parents=True)
    (tmp_path / "data" / "images").symlink_to(coco_folder / "val2017")
    for split in ("val", "test"):
        shutil.copy(coco_folder / "annotations" / "instances_val2017.json", annotations / f"{split}.json")
    flags = f"{TINY} --eval --split test --dataset_file custom --data_path"
    code, out, err = run(f"{flags} {tmp_path / 'data'} --output_dir {tmp_path}")
    assert code == 0 and " test images" in out and "test.json" in (tmp_path / "eval.json").read_text(), err
    (annotations / "test.json").unlink()
    assert_refused(run(f"{flags} {tmp_path / 'data'}"), "there is no test split, only val", "--val_annotations")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--split test", "--split test is for --eval"),
        ("--split test --eval", "--dataset_file shapes draws training and validation images alone"),
        ("--max_hours 0", "--max_hours 0.0: must be above 0"),
        ("--eval_every 0", "--eval_every 0: must be at least 1"),
        ("--early_stop -1", "--early_stop -1: must be at least 0"),
        ("--eval_batch_size 0", "--eval_batch_size 0: must be at least 1"),
    ],
)
def test_switches_that_cannot_work_are_refused(run: Run, flags: str, words: str) -> None:
    assert_refused(run(f"{TINY} {flags}"), words)
