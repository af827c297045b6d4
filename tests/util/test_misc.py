"""The names that DETR's scripts import from util.misc, used as they use them."""

import argparse
import builtins
import copy
import os
import re
from pathlib import Path

import pytest
import torch

import util.misc as utils
from tests.processes import start_two
from util.dist.distributed import shutdown


def test_examples_become_a_padded_batch_and_tuples_of_the_rest() -> None:
    small, large = torch.rand(3, 4, 6), torch.rand(3, 5, 2)
    samples, targets, names = utils.collate_fn([(small, {"labels": 1}, "a"), (large, {"labels": 2}, "b")])
    assert isinstance(samples, utils.NestedTensor) and samples.tensors.shape == (2, 3, 5, 6)
    assert targets == ({"labels": 1}, {"labels": 2}) and names == ("a", "b")


def test_a_batch_without_a_mask_moves() -> None:
    batch = utils.NestedTensor(torch.rand(1, 3, 2, 2), None).to("meta")
    assert batch.mask is None and batch.tensors.device.type == "meta"
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    whole = utils.NestedTensor(pixels, torch.zeros(1, 2, 2, dtype=torch.bool))
    assert torch.equal(utils.NestedTensor(pixels, None).normalized().tensors, whole.normalized().tensors)


def test_a_series_knows_its_window_and_all_of_its_numbers() -> None:
    series = utils.SmoothedValue(window_size=4, fmt="{median:.1f} {avg:.2f} {global_avg:.2f} {max:.0f} {value:.0f}")
    for number in (100, 1, 4, 2, 8):
        series.update(number)
    assert str(series) == "2.0 3.75 23.00 8 8"  # of 1, 2, 4, 8 the lower in the middle, as torch.median
    assert series.median == torch.tensor([1.0, 4, 2, 8]).median() and series.count == 5
    series.update(3, n=5)
    assert series.global_avg == 13 and series.total == 130
    assert str(utils.SmoothedValue()) == "nan (nan)"


def test_a_logger_prints_detrs_lines(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    logger = utils.MetricLogger(delimiter="  ")
    logger.add_meter("lr", utils.SmoothedValue(window_size=1, fmt="{value:.6f}"))
    for item in logger.log_every(range(12), 5, "Epoch: [3]"):
        logger.update(loss=torch.tensor(float(item)), lr=0.1)
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition("eta")[0] for line in lines] == [f"Epoch: [3]  [{i:2d}/12]  " for i in (0, 5, 10, 11)]
    ending = r"eta: 0:00:00  lr: 0.100000  loss: 5.0000 \(5.5000\)  time: [\d.]+  data: [\d.]+"
    assert re.search(ending + "$", lines[-1]), lines[-1]
    assert re.fullmatch(r"Epoch: \[3\] Total time: 0:00:00 \([\d.]+ s / it\)", last)


def test_series_are_attributes_of_a_logger_and_others_are_none() -> None:
    logger = utils.MetricLogger()
    logger.update(loss=2.0)
    assert copy.deepcopy(logger).loss.count == 1
    with pytest.raises(AttributeError, match="MetricLogger has neither an attribute nor a series 'los'"):
        logger.los  # noqa: B018 - looking is the test


def test_accuracy_counts_targets_among_the_best() -> None:
    output = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]])
    first, second = utils.accuracy(output, torch.tensor([1, 2, 2, 2]), topk=(1, 2))
    assert (first.item(), second.item()) == (50, 75)
    assert utils.accuracy(output[:0], torch.zeros(0, dtype=torch.int64)) == [torch.tensor(0.0)]


def test_interpolate_is_pytorchs_and_takes_empty_batches() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert utils.interpolate(x, size=(4, 4))[0, 0, :, 0].tolist() == [0, 0, 2, 2]
    assert utils.interpolate(x[:0], (4, 4), None, "bilinear", False).shape == (0, 1, 4, 4)


def test_the_commit_is_one_line() -> None:
    assert re.fullmatch(r"sha: \S+, status: \S.*, branch: \S.*", utils.get_sha())


def test_largest_by_axis() -> None:
    assert utils._max_by_axis([[3, 4, 6], [3, 5, 2]]) == [3, 5, 6]


@pytest.mark.parametrize("is_master", [True, False])
def test_only_the_master_prints(
    is_master: bool, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "print", print)  # puts Python's own back afterwards
    utils.setup_for_distributed(not is_master)
    utils.setup_for_distributed(is_master)
    print("usual")
    print("forced", force=True)
    assert capsys.readouterr().out == "usual\n" * is_master + "forced\n"


def test_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    args = argparse.Namespace(device="cpu", dist_url="env://", world_size=1)
    utils.init_distributed_mode(args)
    assert args.distributed is False and "Not using distributed mode" in capsys.readouterr().out
    losses = {"loss": torch.tensor(2.0)}
    assert utils.reduce_dict(losses) is losses and utils.all_gather(3) == [3]
    utils.save_on_master({"model": 1}, tmp_path / "checkpoint.pth")
    assert torch.load(tmp_path / "checkpoint.pth") == {"model": 1}


def _two_processes(folder: str) -> None:
    rank = int(os.environ["RANK"])
    args = argparse.Namespace(device="cpu", dist_url="env://", world_size=1)
    utils.init_distributed_mode(args)
    assert args.distributed and (args.rank, args.world_size, args.gpu, args.dist_backend) == (rank, 2, None, "gloo")
    losses = {"b": torch.tensor(1.0 + rank), "a": torch.tensor(10.0)}
    assert utils.reduce_dict(losses) == {"a": 10, "b": 1.5}
    assert utils.reduce_dict(losses, average=False) == {"a": 20, "b": 3}
    logger = utils.MetricLogger()
    for number in range(1 + rank):
        logger.update(loss=float(number + 4 * rank))
    logger.synchronize_between_processes()
    assert logger.loss.count == 3 and logger.loss.global_avg == 3  # of 0, and of 4 and 5
    utils.save_on_master(rank, Path(folder) / f"saved-by-{rank}")
    print(f"said by {rank}")
    shutdown()


@pytest.mark.slow
def test_two_processes_share_losses_and_one_prints_and_saves(tmp_path: Path) -> None:
    (code, out, err), (other_code, other_out, other_err) = start_two(_two_processes, str(tmp_path))
    assert code == other_code == 0, err + other_err
    assert os.listdir(tmp_path) == ["saved-by-0"]
    assert "said by 0" in out and other_out == ""
