"""The model of many GPUs: each formula with numbers made by hand, and the command's table."""

import pytest

from benchmarks import scaling_model
from benchmarks.exchange_model import Network, Step, Work, all_reduce, fit_line, last_exchange, ready_times, ring, step
from benchmarks.exchange_model import tree as tree_seconds

#: Four GPUs a node; round rates.
NETWORK = Network(4, inside=200.0, outside=100.0, hop_inside=1.0, hop_outside=3.0, start=5.0)


def test_a_ring_sends_two_n_minus_one_parts() -> None:
    assert ring(800.0, 4, 100.0, 1.0) == 2 * 3 * (2.0 + 1.0)
    assert ring(800.0, 1, 100.0, 1.0) == 0.0


def test_a_tree_has_fewer_messages_and_more_bytes() -> None:
    assert tree_seconds(800.0, 8, 100.0, 1.0) == 2 * (8.0 + 3 * 1.0)
    assert tree_seconds(800.0, 5, 100.0, 1.0) == 2 * (8.0 + 3 * 1.0)
    assert tree_seconds(800.0, 1, 100.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("gpus", "seconds"),
    [
        (1, 0.0),
        (2, 5 + 2 * (400 / 200 + 1)),  # two GPUs of a node
        (4, 5 + 6 * (200 / 200 + 1)),
        (8, 5 + 6 * 2 + 2 * (400 / 100 + 3)),  # two nodes: a ring
        (64, 5 + 6 * 2 + 2 * (800 / 100 + 4 * 3)),  # 16 nodes: 30 messages of a ring would take 105, a tree 40
    ],
)
def test_an_all_reduce_is_one_inside_the_nodes_and_one_between_them(gpus: int, seconds: float) -> None:
    assert all_reduce(800.0, gpus, NETWORK) == pytest.approx(seconds)


def test_buckets_fill_evenly_inside_each_part() -> None:
    # 100 bytes in 1 s, then 100 in 4 s.
    assert ready_times([50, 100, 50], [(100, 1.0), (100, 4.0)]) == pytest.approx([0.5, 3.0, 5.0])


def test_exchanges_follow_each_other_and_wait_for_their_buckets() -> None:
    assert last_exchange([1.0, 2.0, 9.0], [3.0, 1.0, 2.0]) == 11.0  # the third begins at 9
    assert last_exchange([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]) == 7.0  # each begins when the one before is done


def test_only_what_sticks_out_of_the_backward_pass_is_waited_for() -> None:
    work = Work(forward=2.0, matcher=0.5, backward=((100, 1.0), (100, 4.0)), optimizer=1.0)
    assert step(work, [1.0, 1.0, 1.0], [50, 100, 50]) == Step(8.0, 0.5, 1.0, 0.0)
    # 0.5 + 3, 3.5 + 3 and 6.5 + 3 are the ends: 9.5, of which the backward pass covers 5.
    assert step(work, [3.0, 3.0, 3.0], [50, 100, 50]).exchange == pytest.approx(4.5)
    assert step(work, [0.0], [200]) == Step(8.0, 0.5, 0.0, 0.0)


def test_a_loader_counts_only_where_it_is_slower_than_the_step() -> None:
    slow = Work(2.0, 0.5, ((100, 5.0),), 1.0, loader=10.0)
    assert step(slow, [1.0], [100]) == Step(8.0, 0.5, 1.0, 0.5)
    assert step(slow, [1.0], [100]).seconds == 10.0


def test_a_line_through_measured_times() -> None:
    assert fit_line([10, 20, 40], [3.0, 5.0, 9.0]) == pytest.approx((1.0, 0.2))
    assert fit_line([10, 20], [1.0, 3.0]) == pytest.approx((0.0, 0.2))  # no time below 0


def test_counts_become_seconds_in_the_order_of_the_step() -> None:
    ops = [
        ("forward", "mm", 1.0),
        ("loss", "abs", 2.0),
        ("backward", "mm", 3.0),
        ("backward", "convolution_backward", 0.5),
    ]
    ops += [
        ("backward", "threshold_backward", 4.0),
        ("backward", "convolution_backward", 5.0),
        ("optimizer_step", "x", 7.0),
    ]
    # The first convolution of the backward pass is the projection into the transformer; the backbone follows.
    assert scaling_model.sections_of(ops) == pytest.approx({"forward": 3, "head": 3.5, "backbone": 9, "optimizer": 7})


def test_the_command_names_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scaling_model.main(["--gpus", "0"])
    assert ended.value.code == 2 and "--gpus 0" in capsys.readouterr().err
    assert scaling_model.main(["--gpu", "no such card"]) == 2
    assert "no such card" in capsys.readouterr().err
