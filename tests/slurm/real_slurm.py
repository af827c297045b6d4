"""The batch scripts on a real Slurm of one node, which tests/slurm/one_node.sh starts: `make test-slurm`, minutes.

Not among the tests of `make test`: its name does not begin with test_. Every command and its answer is printed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.killed_run import FLAGS, rows, same_run

#: A machine that others use, too, may take minutes for a job.
pytestmark = pytest.mark.timeout(3000)

ROOT = Path(__file__).resolve().parents[2]
CLUSTER, PERLMUTTER = ROOT / "slurm" / "cluster.sh", ROOT / "slurm" / "perlmutter.sh"
ONE_NODE = ROOT / "tests" / "slurm" / "one_node.sh"
#: Of a run that lasts longer than Slurm takes to look at the time limits again, which is up to 30 s.
EPOCHS = 40


class Slurm:
    """The cluster, as its user sees it from another folder than the project's."""

    def __init__(self, folder: Path, conf: Path) -> None:
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        environment = {"PYTHON_ENV": str(Path(sys.executable).parents[1]), "SLURM_CONF": str(conf)}
        self.environ = clean | environment | {"PARTITION": "debug", "CPUS": "1", "TIME": "00:30:00"}

    def run(self, *command: object, **variables: object) -> subprocess.CompletedProcess:
        words = [str(word) for word in command]
        print(f"\n$ {' '.join(f'{k}={v}' for k, v in variables.items())} {' '.join(words)}".replace(str(ROOT), "DETR"))
        environ = self.environ | {name: str(value) for name, value in variables.items()}
        done = subprocess.run(words, env=environ, cwd=self.folder, capture_output=True, text=True, timeout=60)
        print((done.stdout + done.stderr).strip().replace(str(ROOT), "DETR"))
        return done

    def submit(self, *command: object, **variables: object) -> str:
        done = self.run(*command, **variables)
        assert done.returncode == 0, done.stderr
        return re.search(r"Submitted batch job (\d+)", done.stdout).group(1)

    def field(self, job: str, name: str) -> str:
        answer = subprocess.run(
            ["scontrol", "show", "job", job], env=self.environ, capture_output=True, text=True, check=True
        )
        return re.search(rf"\b{name}=(\S*)", answer.stdout).group(1)

    def wait(self, job: str, *states: str) -> str:
        """Wait until the job is in one of the states, by default at its end; return the state and print it."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        until(lambda: self.field(job, "JobState") in (states or ends), f"job {job}: {states or ends}")
        state = self.field(job, "JobState")
        print(f"  job {job}: {state}, exit code {self.field(job, 'ExitCode')}, Restarts={self.field(job, 'Restarts')}")
        return state


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < deadline, f"waited a quarter of an hour for {what}"
        time.sleep(0.2)


def log_of(out: Path) -> str:
    """Return the printed lines of the jobs of a folder; its last lines are shown."""
    text = "".join(path.read_text() for path in sorted(out.glob("*.log")) + sorted(out.glob("*.err")))
    print("\n".join(f"  | {line}" for line in text.strip().splitlines()[-6:]))
    return text


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if missing := [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not find(name)]:
        pytest.skip(f"no Slurm here ({', '.join(missing)}): apt-get install --no-install-recommends slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", ONE_NODE, "start", folder / "cluster"], check=True)
    try:
        yield Slurm(folder, folder / "cluster" / "slurm.conf")
    finally:
        subprocess.run(["bash", ONE_NODE, "stop", folder / "cluster"], check=True)


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_two_tasks_train_with_gloo(slurm: Slurm, launcher: str) -> None:
    out = slurm.folder / launcher
    flags = f"{FLAGS} --max_steps 4".split()
    job = slurm.submit("bash", CLUSTER, *flags, GPUS=2, LAUNCHER=launcher, OUT=out)
    assert slurm.wait(job) == "COMPLETED"
    assert f"2 processes ({launcher}, gloo)" in log_of(out) and rows(out)[-1]["global_step"] == 4


def test_sbatch_by_hand_from_another_folder(slurm: Slurm) -> None:
    """Without variables for the resources: those of the header, and the account of the job."""
    out = slurm.folder / "by_hand"
    command = ("sbatch", "--account=m1234", PERLMUTTER, *f"{FLAGS} --max_steps 2".split())
    job = slurm.submit(*command, OUT=out, CPUS="", TIME="")
    assert slurm.wait(job) == "COMPLETED" and rows(out)[-1]["global_step"] == 2
    assert (slurm.field(job, "Account"), slurm.field(job, "NumCPUs")) == ("m1234", "32")


def test_without_an_account_the_script_says_what_to_set(slurm: Slurm) -> None:
    done = slurm.run("bash", PERLMUTTER, OUT=slurm.folder / "none")
    assert done.returncode == 2 and "ACCOUNT: not set: the project that pays: ACCOUNT=m1234" in done.stderr
    job = slurm.submit("sbatch", PERLMUTTER, OUT=slurm.folder / "none", CPUS="")
    assert slurm.wait(job) == "FAILED"
    errors = (slurm.folder / f"detr-{job}.err").read_text()
    print(f"  | {errors.strip()}")
    assert "ACCOUNT: not set" in errors and "sbatch --account=m1234" in errors and len(errors.splitlines()) == 1


def go_on_after_requeue(slurm: Slurm, job: str, times: int) -> None:
    """Wait until a job is put back into the queue, and start it: Slurm waits two minutes, the test does not."""
    until(lambda: slurm.field(job, "Restarts") == str(times) and slurm.wait(job, "PENDING"), f"requeue {times}")
    # Not at once: in the second in which Slurm revokes a job's credential, it refuses the one of the next start, too.
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=30", "StartTime=now+3")


def test_a_job_near_its_limit_goes_on_twice_as_if_it_had_not_ended(slurm: Slurm) -> None:
    cut, straight = slurm.folder / "cut", slurm.folder / "straight"
    flags = f"{FLAGS} --epochs {EPOCHS} --checkpoint_every 100".split()
    job = slurm.submit("bash", CLUSTER, *flags, OUT=cut)
    until((cut / "log.txt").exists, "the first epoch")
    hours, minutes, _ = map(int, slurm.field(job, "RunTime").split(":"))
    slurm.run(
        "scontrol", "update", f"JobId={job}", f"TimeLimit={60 * hours + minutes + 2}"
    )  # less than two minutes left
    go_on_after_requeue(slurm, job, 1)
    before = len(rows(cut))
    until(lambda: len(rows(cut)) > before, "an epoch of the second start")
    slurm.run("scancel", "--signal=USR1", job)  # once more, without waiting for Slurm's clock
    go_on_after_requeue(slurm, job, 2)
    assert slurm.wait(job) == "COMPLETED" and slurm.field(job, "Restarts") == "2"
    output = log_of(cut)
    # The job's file and the run's console.log say the same: each of the two steps is there more than once.
    for line in (r"SIGUSR1: the run ends after step (\d+)", r"resuming at epoch \d+, step ([1-9]\d*)"):
        assert len(set(re.findall(line, output))) == 2, line
    assert output.count(f"job {job}: put back into the queue") >= 2
    assert slurm.wait(slurm.submit("bash", CLUSTER, *flags, OUT=straight)) == "COMPLETED"
    assert same_run(cut, straight) and len(rows(cut)) == EPOCHS
    print(f"  weights, optimizer and {EPOCHS} rows of the log are those of a run that was not stopped")


def test_evaluate_and_predict(slurm: Slurm) -> None:
    out, data = slurm.folder / "straight", slurm.folder / "photos"
    data.mkdir()
    shutil.copy(ROOT / "docs" / "figures" / "predict.jpg", data)
    data_flags = FLAGS.partition("--backbone ")[0].replace("--num_workers 0 ", "").split()
    assert slurm.wait(slurm.submit("bash", CLUSTER, "evaluate", *data_flags, OUT=out)) == "COMPLETED"
    assert "Average Precision" in log_of(out) and (out / "evaluation" / "predictions.json").exists()
    # MobileNetV3, which --padding_invariant does not know.
    flags = ("--device", "cpu", "--no_padding_invariant")
    job = slurm.submit("bash", CLUSTER, "predict", *flags, "--input", data, OUT=out)
    assert slurm.wait(job) == "COMPLETED"
    log_of(out)
    assert any((out / "predictions").iterdir())


def test_torchruns_workers_get_the_signal_and_the_job_is_put_back(slurm: Slurm) -> None:
    out = slurm.folder / "workers"
    flags = f"{FLAGS} --epochs 500 --checkpoint_every 1000".split()
    job = slurm.submit("bash", CLUSTER, *flags, GPUS=2, LAUNCHER="torchrun", OUT=out)
    until((out / "log.txt").exists, "the first epoch")
    slurm.run("scancel", "--signal=USR1", job)  # as Slurm does before the time is up: all steps, not the script
    until(lambda: slurm.field(job, "Restarts") == "1", "the requeue")
    slurm.run("scancel", job)
    assert "SIGUSR1: the run ends after step" in log_of(out) and (out / "checkpoint.pth").exists()
