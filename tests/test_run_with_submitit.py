"""The Slurm launcher with DETR's flags: the job it submits to a stand-in for sbatch, training, and resuming."""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import run_with_submitit
from benchmarks.killed_run import rows
from run_with_submitit import TimeIsUp, Trainer, parse_args
from run_with_submitit import submit as put_in_queue
from tests.processes import run_python
from tests.stand_ins import StandIns

submitit = pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")

SCRIPT = Path(run_with_submitit.__file__)
TINY = (
    "--device cpu --dataset_file shapes --image_size 64 --train_size 8 --val_size 2 --num_workers 0 "
    "--backbone mobilenet_v3_small --backbone_weights none --backbone_norm batch --enc_layers 1 --dec_layers 1 "
    "--hidden_dim 16 --nheads 2 --dim_feedforward 16 --num_queries 12 --batch_size 4 --epochs 1"
).split()


def submit(stand_ins: StandIns, *flags: str, alone: bool = False) -> subprocess.CompletedProcess:
    """Run the launcher in a fork."""
    return run_python([sys.executable, str(SCRIPT), *flags], env=stand_ins.environ(alone=alone), cwd=stand_ins.folder)


@pytest.fixture
def stand_ins(tmp_path: Path) -> StandIns:
    """sbatch, which keeps what it is given, and srun."""
    found = StandIns(tmp_path)
    found.add(
        "sbatch",
        f"open({str(tmp_path / 'job.sh')!r}, 'w').write(open(argv[-1]).read()); print('Submitted batch job 42')",
    )
    found.add("srun")
    return found


def test_the_defaults_are_detrs() -> None:
    args = parse_args([])
    assert (args.ngpus, args.nodes, args.timeout, args.job_dir, args.cluster) == (8, 4, 60, "", "slurm")
    assert (args.lr, args.num_queries) == (1e-4, 100)


@pytest.mark.slow
def test_a_job_with_a_task_for_each_gpu(stand_ins: StandIns, tmp_path: Path) -> None:
    result = submit(
        stand_ins, *TINY, "--ngpus", "4", "--nodes", "2", "--timeout", "300", "--job_dir", str(tmp_path / "runs" / "%j")
    )
    assert (result.returncode, result.stdout) == (0, "Submitted job_id: 42\n"), result.stderr
    text = (tmp_path / "job.sh").read_text()
    for line in (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=10",
        "--mem=160GB",
        "--time=300",
        "--job-name=detr",
    ):
        assert f"#SBATCH {line}\n" in text


@pytest.mark.slow
def test_the_submitted_job_trains(stand_ins: StandIns, tmp_path: Path) -> None:
    """As Slurm would start it: from another folder, a single task."""
    flags = [*TINY, "--ngpus", "1", "--nodes", "1", "--job_dir", str(tmp_path / "runs" / "%j")]
    assert submit(stand_ins, *flags).returncode == 0
    slurm = {
        "SLURM_JOB_ID": "42",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODEID": "0",
        "SUBMITIT_EXECUTOR": "slurm",
    }
    setup = re.search(r"^export PYTHONPATH=.*$", (tmp_path / "job.sh").read_text(), re.M).group()
    job = f"{setup}; {sys.executable} -m submitit.core._submit '{tmp_path}/runs/%j'"
    environ = stand_ins.environ(**slurm)
    result = subprocess.run(["bash", "-c", job], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "42"
    assert {"checkpoint.pth", "log.txt", "run.json"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "run.json").read_text())["flags"]["output_dir"] == str(folder)


def test_a_preempted_job_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(argparse.Namespace(output_dir=str(tmp_path), resume="", init_from="weights.pth"))
    assert trainer.checkpoint().function.args.init_from == "weights.pth", "nothing was saved: it starts as before"
    (tmp_path / "checkpoint.pth").touch()
    args = trainer.checkpoint().function.args
    assert (args.resume, args.init_from) == ("auto", "")


def test_submitits_signal_is_one_that_saves_while_it_trains_and_submitits_own_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, saved = [], []
    before = {name: signal.signal(name, lambda *_: left.append(1)) for name in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        time_is_up = TimeIsUp()
        signal.raise_signal(signal.SIGUSR2)
        assert (left, time_is_up.came) == ([1], False)
        signal.signal(signal.SIGTERM, lambda *_: saved.append(1))  # as main.py does when it trains
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR2)
        assert (left, saved, time_is_up.came) == ([1], [1], True), "the second would end the run at once"
        time_is_up.requeue()
        assert left == [1, 1]
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@pytest.mark.slow
def test_on_this_machine_a_job_whose_time_is_up_is_saved_put_back_and_resumed(tmp_path: Path) -> None:
    flags = [*TINY, "--train_size", "16", "--epochs", "300", "--max_hours", "0.1", "--print_freq", "1"]
    place = ["--cluster", "local", "--ngpus", "1", "--nodes", "1", "--job_dir", str(tmp_path / "run")]
    job = put_in_queue(parse_args([*flags, *place]))
    log = tmp_path / "run" / "log.txt"
    try:
        wait_for(log.exists)
        os.kill(started_by(job.job_id)[-1], signal.SIGUSR2)  # as submitit does
        wait_for(lambda: "resuming at epoch" in job.stdout())
    finally:
        for process in started_by(job.job_id):  # submitit's first, so that it starts nothing anew
            with contextlib.suppress(ProcessLookupError):  # ended with the one before it
                os.kill(process, signal.SIGKILL)
    output = job.stdout()
    step = re.search(r"SIGTERM: the run ends after step (\d+) of 1200, saved", output)
    assert step and f"step {step[1]}" in re.search(r"resuming at epoch .*", output).group(), output[-2000:]
    assert [row["epoch"] for row in rows(log.parent)] == list(range(len(rows(log.parent))))


def started_by(process: str) -> list[int]:
    """The chain of a process's child, its child, and so on: of a job without workers, the task is the last."""
    child = subprocess.run(["pgrep", "-P", process], capture_output=True, text=True).stdout.strip()
    return [int(child), *started_by(child)] if child else []


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 250
    while not condition():
        assert time.monotonic() < deadline, "waited four minutes in vain"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--batch_size 0 --job_dir x", "--batch_size 0"),
        ("--ngpu 4", "did you mean --ngpus?"),
        ("", "--job_dir is not given"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_submitted(stand_ins: StandIns, flags: str, complaint: str) -> None:
    if os.path.isdir("/checkpoint") and not flags:
        pytest.skip("this machine has DETR's shared folder /checkpoint")
    result = submit(stand_ins, *flags.split())
    assert result.returncode == 2
    assert complaint in result.stderr and len(result.stderr.splitlines()) == 1
    assert stand_ins.calls("sbatch") == []


@pytest.mark.slow
def test_without_slurm_one_line_says_so(stand_ins: StandIns) -> None:
    (stand_ins.folder / "srun").unlink()
    # Alone: the machine may have a Slurm of its own.
    result = submit(stand_ins, "--job_dir", "runs", alone=True)
    assert result.returncode == 2
    assert "srun" in result.stderr and len(result.stderr.splitlines()) == 1
