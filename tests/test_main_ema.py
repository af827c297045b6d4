"""--ema: averaged weights are kept, evaluated, saved and resumed; best.pth holds the better of the two sets."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import main
from tests.helpers import TINY, Run, assert_refused, rows, rows_without_measured
from training.ema import WeightAverage, start_average
from util.runs.averaged import with_raw_weights
from util.runs.class_names import DataClasses, match_classes

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- the average itself


def test_the_average_follows_the_formula_and_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.3)
    expected, values = model[0].weight.detach().double(), []
    for step in range(6):
        with torch.no_grad():
            model[0].weight += 1 + step
        model(torch.randn(4, 2))  # the batch norm's statistics move too
        average.update()
        values.append(model[0].weight.detach().clone())
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * values[-1].double()
    state = average.state()
    torch.testing.assert_close(state["ema"]["0.weight"].double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(state["ema"]["1.running_mean"], model[1].running_mean)
    assert state["ema"]["1.num_batches_tracked"] == 6 and state["ema_updates"] == 6
    with average.in_model():
        assert torch.equal(model[0].weight, state["ema"]["0.weight"])
    assert torch.equal(model[0].weight, values[-1])


# ---- whole runs


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, narrow_resnet18: None, undrawn_curves: None) -> Path:
    """The folder of a run of three epochs, each kept; the averaged weights are made the better ones in the second."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "evaluate", with_precisions(0.1, 0.05, 0.2, 0.3, 0.25, 0.25))
        assert main.cli(f"{FLAGS} --output_dir {folder}".split()) == 0
    return folder


FLAGS = f"{TINY} --epochs 3 --lr_drop 1 --ema 0.5"


def with_precisions(*precisions: float):
    """Return an evaluation whose AP is the next of these at each call."""
    left, evaluate = list(precisions), main.evaluate

    def evaluate_as_told(*args, **more):
        stats, evaluator = evaluate(*args, **more)
        stats["coco_eval_bbox"][0] = left.pop(0)
        return stats, evaluator

    return evaluate_as_told


@pytest.mark.slow
def test_both_precisions_are_logged_and_best_holds_the_better_weights(straight: Path) -> None:
    log = rows(straight)
    assert [row["test_coco_eval_bbox"][0] for row in log] == [0.1, 0.2, 0.25]
    assert [row["test_ema_coco_eval_bbox"][0] for row in log] == [0.05, 0.3, 0.25]
    assert log[0]["test_ema_loss"] != log[0]["test_loss"]
    epochs = [read(straight / f"checkpoint000{epoch}.pth") for epoch in range(3)]
    assert [(c["ap"], c["best_ap"], c["best_weights"]) for c in epochs] == [
        (0.1, 0.1, "raw"),
        (0.3, 0.3, "ema"),
        (0.25, 0.3, "raw"),
    ]
    best = read(straight / "best.pth")
    assert best["epoch"] == 1 and best["best_weights"] == "ema"
    assert same(best["model"], epochs[1]["ema"]) and not same(best["model"], epochs[1]["model"])
    assert same(with_raw_weights(best)["model"], epochs[1]["model"])


@pytest.mark.slow
def test_a_run_resumed_from_its_best_ends_like_one_that_was_not_stopped(
    run: Run, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "evaluate", with_precisions(0.25, 0.25))
    code, _, err = run(f"{FLAGS} --output_dir {tmp_path} --resume {straight / 'best.pth'}")
    assert code == 0, err
    assert rows_without_measured(tmp_path) == rows_without_measured(straight)[2:]
    mine, theirs = read(tmp_path / "checkpoint.pth"), read(straight / "checkpoint.pth")
    assert same(mine["model"], theirs["model"]) and same(mine["ema"], theirs["ema"])
    assert mine["ema_updates"] == theirs["ema_updates"] == 6 and mine["best_ap"] == theirs["best_ap"]
    # The new folder had no best.pth: what is resumed is the best there is, with its better weights.
    assert same(read(tmp_path / "best.pth")["model"], read(straight / "best.pth")["model"])


@pytest.mark.slow
def test_an_evaluation_takes_the_weights_under_model(run: Run, tmp_path: Path, straight: Path) -> None:
    data = f"{TINY} --eval --output_dir {tmp_path}"

    def read_loss() -> float:
        return json.loads((tmp_path / "eval.json").read_text())["stats"]["loss"]

    code, out, _ = run(f"{data} --resume {straight / 'best.pth'}")
    assert code == 0 and "best.pth: its averaged weights (--ema) are evaluated, the better of its two\n" in out
    assert read_loss() == pytest.approx(rows(straight)[1]["test_ema_loss"])
    code, out, _ = run(f"{data} --resume {straight / 'checkpoint0001.pth'}")
    assert code == 0 and "checkpoint0001.pth: its raw weights (--ema) are evaluated; best.pth" in out
    assert read_loss() == pytest.approx(rows(straight)[1]["test_loss"])


def test_a_checkpoint_without_an_average_starts_one_and_one_without_the_flag_is_told(
    capsys: pytest.CaptureFixture,
) -> None:
    model = nn.Linear(2, 2)
    average = start_average(model, 0.9, {"model": model.state_dict()})
    assert average is not None and average.updates == 0 and same(average.state()["ema"], model.state_dict())
    assert "the average starts at its weights" in capsys.readouterr().out
    assert start_average(model, None, {"model": {}} | average.state()) is None
    assert "averaged weights are left behind" in capsys.readouterr().out


def test_classes_move_in_every_set_of_weights() -> None:
    head = {"class_embed.weight": torch.arange(3.0)[:, None], "class_embed.bias": torch.arange(3.0)}
    checkpoint = {"model": head, "ema": head, "raw": head, "class_names": {0: "cat", 1: "dog"}}
    matched, _ = match_classes(checkpoint, "best.pth", DataClasses({0: "dog", 1: "cat"}, 2, learned=True))
    assert [matched[key]["class_embed.bias"].tolist() for key in ("model", "ema", "raw")] == 3 * [[1, 0, 2]]


@pytest.mark.parametrize("decay", ["0", "1", "-0.5", "1.5", "nan"])
def test_a_decay_that_averages_nothing_is_refused(run: Run, decay: str) -> None:
    assert_refused(run(f"{TINY} --ema {decay}"), f"--ema {float(decay)}: must be between 0 and 1")
