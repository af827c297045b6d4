"""Processes of a run that do not come, end or hang: those that are left end with a line that says who is missing."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import TINY, assert_refused
from tests.processes import LAUNCHERS, Started, command, free_port, start_two
from tests.signalled import signalled_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]


@pytest.mark.parametrize(("name", "lost", "timeout"), [("SIGKILL", 1, 60), ("SIGKILL", 0, 60), ("SIGSTOP", 1, 5)])
def test_the_rank_that_is_left_names_the_one_that_is_lost(name: str, lost: int, timeout: int) -> None:
    flags, port = f"{TINY} --epochs 9 --batch_size 2 --dist_timeout {timeout}", free_port()
    ranks = [Started(signalled_run, flags, lost, name, 2, **LAUNCHERS["torchrun"](rank, port)) for rank in (0, 1)]
    code, _, err = ranks[1 - lost].end()
    assert code == 4 and "Traceback" not in err, err
    (line,) = [line for line in err.splitlines() if "main.py: error" in line]
    assert f"rank {lost} of 2 ended, or has not answered for --dist_timeout" in line
    assert ranks[lost].end(timeout=0)[0] == -signal.SIGKILL


def test_processes_that_do_not_come_together_say_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = Started(command, TINY, **LAUNCHERS["torchrun"](0, port)).end()
        assert_refused(ended, f"127.0.0.1:{port}: the port is taken", "MASTER_PORT")
    alone = LAUNCHERS["torchrun"](0, free_port()) | {"WORLD_SIZE": "3"}
    ended = Started(command, f"{TINY} --dist_timeout 2", **alone).end()
    assert_refused(
        ended, "rank 0 of 3 did not meet the others in 2 s (--dist_timeout)", "have all of them been started"
    )


def test_a_rank_whose_images_hold_nothing_does_not_hang(
    write_coco: Callable, tiny_annotations: dict, tmp_path: Path
) -> None:
    few = tiny_annotations | {"images": tiny_annotations["images"][:1]}  # fewer images than processes
    few["annotations"] = [a for a in few["annotations"] if a["image_id"] == few["images"][0]["id"]]
    empty = tiny_annotations | {"annotations": tiny_annotations["annotations"][:1]}
    for annotations in (few, empty):
        flags = f"{TINY} --dataset_file coco --coco_path {write_coco(annotations)} --batch_size 1 --dist_timeout 60"
        ended = start_two(command, f"{flags} --epochs 1 --world_size 4")
        assert [code for code, _, _ in ended] == [0, 0], ended
        assert "--world_size 4: the launcher decides, and has started 2 processes" in ended[0][1]
