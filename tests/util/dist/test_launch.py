"""The place of a process: by torchrun's variables, by Slurm's, and without a launcher."""

import pytest

from util.errors import UserError
from util.dist.launch import Place, find_place, first_host, has_gpu_of_its_own, launch_rank

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
SRUN = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
}


def without(environ, *names):
    return {name: value for name, value in environ.items() if name not in names}


def test_without_a_launcher_there_is_one_process():
    assert find_place({}) == Place() == Place(0, 1, 0, "env://", None)
    assert launch_rank({}) == 0


def test_torchrun():
    assert find_place(TORCHRUN) == Place(3, 4, 1, "env://", "torchrun")
    assert find_place(TORCHRUN, "file:///tmp/x").init_method == "file:///tmp/x"
    assert launch_rank(TORCHRUN) == 3


def test_torchrun_goes_before_slurm():
    assert find_place({**SRUN, **TORCHRUN}).launcher == "torchrun"
    assert launch_rank({**SRUN, **TORCHRUN}) == 3


def test_torchrun_with_one_process_needs_no_meeting_point():
    assert find_place({"RANK": "0", "WORLD_SIZE": "1"}) == Place(launcher="torchrun")


def test_srun_on_two_nodes_meets_at_the_first():
    assert find_place(SRUN) == Place(5, 8, 1, "tcp://gpu003:13456", "srun")
    assert launch_rank(SRUN) == 5


def test_srun_on_one_node_needs_no_name_resolution():
    one = {**SRUN, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "gpu[003]"}
    assert find_place(one).init_method.startswith("tcp://127.0.0.1:")
    older = {**without(SRUN, "SLURM_STEP_NUM_NODES", "SLURM_STEP_NODELIST"), "SLURM_NODELIST": "gpu003"}
    assert find_place(older).init_method.startswith("tcp://127.0.0.1:")


def test_master_address_and_port_go_before_slurm():
    environ = {**SRUN, "MASTER_ADDR": "head", "MASTER_PORT": "29501"}
    assert find_place(environ).init_method == "tcp://head:29501"
    assert find_place(SRUN, "file:///shared/x").init_method == "file:///shared/x"


def test_steps_of_one_job_meet_at_different_ports():
    ports = {find_place({**SRUN, "SLURM_STEP_ID": str(step)}).init_method for step in range(20)}
    assert len(ports) == 20
    assert all(10_000 <= int(port.rpartition(":")[2]) < 30_000 for port in ports)


def test_steps_of_jobs_that_follow_each_other_meet_at_different_ports():
    jobs, steps = range(123456, 123476), range(20)
    places = [find_place({**SRUN, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}) for job in jobs for step in steps]
    assert len({place.init_method for place in places}) == len(places)


@pytest.mark.parametrize(
    "environ",
    [
        # sbatch script: a job of 8 tasks, no step
        {**without(SRUN, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"), "SLURM_PROCID": "0"},
        # shell of salloc in an interactive step: one task, though the job has 8
        {**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"},
        # salloc without a step: not even SLURM_PROCID
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_NODELIST": "gpu[1-2]"},
    ],
)
def test_a_lone_slurm_shell_is_one_process(environ):
    assert find_place(environ).world_size == 1
    assert launch_rank(environ) == 0


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({**TORCHRUN, "RANK": "two"}, "RANK is set to 'two'"),
        ({**TORCHRUN, "RANK": "4"}, "RANK=4 and WORLD_SIZE=4"),
        (without(TORCHRUN, "MASTER_PORT"), "MASTER_PORT is not"),
        (without(SRUN, "SLURM_LOCALID"), "SLURM_LOCALID is not set"),
        (without(SRUN, "SLURM_STEP_NODELIST"), "set MASTER_ADDR"),
    ],
)
def test_variables_that_make_no_sense_are_named(environ, words):
    with pytest.raises(UserError, match=words):
        find_place(environ)


def test_launch_rank_never_raises():
    assert launch_rank({"RANK": "x", "WORLD_SIZE": "2"}) == 0


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("gpu7", "gpu7"),
        ("gpu[003-007,12],login1", "gpu003"),
        ("gpu[12,003-007]", "gpu12"),
        ("a1,b2", "a1"),
        ("rack[1-2]-node[05-08]", "rack1-node05"),
        ("node[3-4].cluster.org,x", "node3.cluster.org"),
        ("", ""),
    ],
)
def test_first_host_of_a_node_list(nodelist, host):
    assert first_host(nodelist) == host


def test_gpu_binding_of_slurm_is_noticed():
    assert not has_gpu_of_its_own({}) and not has_gpu_of_its_own({"SLURM_GPU_BIND": "none"})
    assert has_gpu_of_its_own({"SLURM_GPUS_PER_TASK": "1"}) and has_gpu_of_its_own({"SLURM_GPU_BIND": "single:1"})
    assert has_gpu_of_its_own({"SLURM_TRES_PER_TASK": "cpu=4,gres/gpu=1"})
    assert not has_gpu_of_its_own({"SLURM_TRES_PER_TASK": "cpu=4"})
