"""Processes together: two real ones on gloo, joined by torchrun's variables and then by Slurm's."""

import json
import os
import socket
import sys
from typing import Any

import pytest
import torch

from tests.processes import Started
from util.dist import distributed
from util.dist import meeting
from util.dist.distributed import Launch, init_distributed
from util.errors import UserError
from util.dist.launch import find_place

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

def meet(variables: dict[str, str]) -> dict[str, Any]:
    """Join the other process as the variables say; return what both said and computed there."""
    os.environ.update(variables)
    before = distributed.get_rank()
    launch = distributed.init_distributed(device="cpu", world_size=1)
    rank = distributed.get_rank()
    distributed.print_once("said by", rank)
    x = torch.tensor([1.0, 2.0]) * (rank + 1)
    found = {
        "launch": [launch.rank, launch.world_size, launch.local_rank, launch.distributed, launch.backend, launch.gpu],
        "before": before,
        "rank": rank,
        "world": distributed.get_world_size(),
        "main": distributed.is_main_process(),
        "mean": distributed.reduce_mean(x).tolist(),
        "untouched": x.tolist(),
        "integer": distributed.reduce_mean(torch.tensor(rank)).item(),
        "gathered": distributed.all_gather({"rank": rank, "list": list(range(rank * 3))}),
    }
    distributed.barrier()
    distributed.shutdown()
    found["after"] = [
        distributed.is_dist_avail_and_initialized(),
        distributed.get_world_size(),
        distributed.get_rank(),
    ]
    for name in variables:
        del os.environ[name]
    return found


def meet_twice(rounds: list[dict[str, str]]) -> None:
    """Print as one line of JSON on standard error what two meetings gave; `print_once` has the output to itself."""
    print(json.dumps([meet(variables) for variables in rounds]), file=sys.stderr)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in [name for name in os.environ if name in LAUNCHERS or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchrun_variables(port):
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


def slurm_variables():
    """Those of `srun -n 2` on one node, of a job whose port is free."""
    for job in range(100, 20_000, 7):
        shared = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
        shared |= {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "node7"}
        places = [{**shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(find_place(places[0]).init_method.rpartition(":")[2]))):
                return places
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def pair():
    """The findings of both processes: [torchrun, Slurm] for each rank, and their standard output."""
    rounds = zip(torchrun_variables(free_port()), slurm_variables())
    ended = [process.end() for process in [Started(meet_twice, list(variables)) for variables in rounds]]
    assert [code for code, _, _ in ended] == [0, 0], ended
    return [json.loads(err.splitlines()[-1]) for _, _, err in ended], [out for _, out, _ in ended]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [0, 1], ids=["torchrun", "slurm"])
@pytest.mark.parametrize("rank", [0, 1])
class TestTwoProcesses:
    def test_know_their_place(self, pair, launcher, rank):
        found = pair[0][rank][launcher]
        assert found["launch"] == [rank, 2, rank, True, "gloo", None]
        assert (found["rank"], found["world"], found["main"]) == (rank, 2, rank == 0)

    def test_know_their_rank_before_and_after(self, pair, launcher, rank):
        found = pair[0][rank][launcher]
        assert found["before"] == rank and found["after"] == [False, 1, rank]

    def test_reduce_to_the_mean_and_keep_their_own(self, pair, launcher, rank):
        found = pair[0][rank][launcher]
        assert found["mean"] == [1.5, 3.0] and found["integer"] == 0.5
        assert found["untouched"] == [1.0 + rank, 2.0 + 2 * rank]

    def test_gather_any_value_in_the_order_of_ranks(self, pair, launcher, rank):
        gathered = pair[0][rank][launcher]["gathered"]
        assert gathered == [{"rank": 0, "list": []}, {"rank": 1, "list": [0, 1, 2]}]


@pytest.mark.slow
def test_only_rank_0_speaks(pair):
    first, second = pair[1]
    assert first.splitlines() == [
        "2 processes (torchrun, gloo)",
        "said by 0",
        "2 processes (srun, gloo)",
        "said by 0",
    ]
    assert second == ""


def test_a_single_process_talks_to_nobody(capsys):
    assert init_distributed(device="cpu") == Launch(0, 1, 0, False, None, None)
    x = torch.ones(2, requires_grad=True)
    assert distributed.reduce_mean(x) is x
    assert distributed.all_gather("a") == ["a"]
    distributed.barrier()
    distributed.shutdown()
    assert distributed.is_main_process() and distributed.get_world_size() == 1
    assert capsys.readouterr().out == ""


def test_world_size_without_a_launcher_is_one_line(capsys):
    assert init_distributed(device="cpu", world_size=4).world_size == 1
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "--world_size 4" in out and "torchrun --nproc_per_node=4" in out


@pytest.fixture
def second_of_two(monkeypatch):
    """The variables of local rank 1, with torch's group and GPUs replaced by stand-ins; returns what was asked."""
    asked = {}
    for name, value in torchrun_variables(1)[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: asked.update(gpu=gpu))

    def join(backend, **where):
        asked.update(where, backend=backend)

    def find_store(init_method, rank, world_size, **_):
        asked.update(init_method=init_method)
        return iter([(torch.distributed.HashStore(), rank, world_size)])

    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    monkeypatch.setattr(meeting, "rendezvous", find_store)  # there is nobody else to wait for
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    return asked


def test_each_process_takes_the_gpu_of_its_local_rank(second_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launch = init_distributed(device="cuda", dist_url="file:///shared/meet")
    assert (launch.gpu, launch.backend) == (1, "nccl")
    assert second_of_two["gpu"] == 1 and second_of_two["device_id"] == torch.device("cuda:1")
    assert second_of_two["init_method"] == "file:///shared/meet"


def test_more_processes_than_gpus_is_an_error(second_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="at most 1 process"):
        init_distributed(device="cuda")
    assert second_of_two == {}


def test_a_gpu_that_slurm_bound_to_the_task_is_number_0(second_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "1")
    assert init_distributed(device="cuda").gpu == 0
