"""Sweeps: which jobs, on this machine and on Slurm (stand-ins), going on where one was stopped, and what is drawn."""

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pandas as pd
import pytest
import sweep
from rooflines import RoofError
from rooflines.sweeps import run as sweeps_run
from rooflines.sweeps.jobs import CONFIGURATIONS, VALUES, Job
from rooflines.sweeps.plot import draw, read_run, write_results

from tests.processes import Started, python
from tests.stand_ins import SRUN, StandIns

TINY = (
    "--device cpu --dataset_file shapes --image_size 64 --train_size 8 --val_size 2 --num_workers 0 --print_freq 1 "
    "--backbone_weights none --backbone_norm batch --enc_layers 1 --dec_layers 1 --hidden_dim 16 --dim_feedforward 16 "
    "--epochs 1 --batch_size 4"
).split()


def listed(capsys: pytest.CaptureFixture, *arguments: object) -> list[str]:
    """Return the lines of --print, one a job."""
    before, *after = " ".join(map(str, arguments)).split(" -- ")
    assert sweep.main([*before.split(), "--print", "--", *" ".join(after).split()]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of main.py, a program that writes a log, or ends with an error where there are 13 queries."""
    program = """
import json, sys
folder = sys.argv[sys.argv.index("--output_dir") + 1]
queries = int(sys.argv[sys.argv.index("--num_queries") + 1])
if queries == 13:
    sys.exit("main.py: error: an unlucky number")
row = {"epoch": 0, "test_coco_eval_bbox": [queries / 100] + [0] * 11, "train_step_time": 0.2}
open(folder + "/log.txt", "a").write(json.dumps(row) + "\\n")
"""
    monkeypatch.setattr(Job, "command", lambda self, gpus=1: [sys.executable, "-S", "-c", program, *self.flags()])


# ---- which jobs


def test_a_job_for_each_value_and_seed(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    lines = listed(capsys, "nheads --seeds 1 2 -o", tmp_path, "-- --epochs 3")
    assert [line.split()[1] for line in lines] == [
        f"basic{name}/seed{seed}" for name in ("", "-nheads=8", "-nheads=16", "-nheads=32") for seed in (1, 2)
    ]
    assert "--nheads 8" in lines[2] and "--epochs 3 --seed 1" in lines[2] and "--resume auto" in lines[2]
    assert all(line.split()[0] == "new" for line in lines)


def test_sweeps_share_the_run_of_the_configuration_itself(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    lines = listed(capsys, *VALUES, "configuration --seeds 0 -o", tmp_path)
    assert len(lines) == sum(len(values) - 1 for values in VALUES.values()) + len(CONFIGURATIONS)


def test_the_two_configurations_are_the_published_ones(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    basic, optimized = listed(capsys, "configuration --seeds 0 -o", tmp_path)
    common = "--backbone resnet18 --enc_layers 2 --dec_layers 2 --batch_size 2"
    assert f"{common} --dim_feedforward 512 --hidden_dim 64 --nheads 4 --num_queries 20" in basic
    assert f"{common} --dim_feedforward 2048 --hidden_dim 256 --nheads 32 --num_queries 5" in optimized


def test_precision_is_flags_of_main(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    fp32, tf32, bf16, fp16 = listed(capsys, "precision --seeds 0 -o", tmp_path)
    assert "--tf32" in tf32 and "--amp bf16" in bf16 and "--amp fp16" in fp16
    assert "--amp" not in fp32 + tf32 and "--tf32" not in fp32 + bf16 + fp16


@pytest.mark.slow
def test_main_takes_every_flag(tmp_path: Path) -> None:
    import flag_checks
    import flags
    import model_flag_checks

    args = sweep.parse_args([*VALUES, "-o", str(tmp_path)])
    for *_, job in sweep.all_jobs(args):
        given = flags.get_args_parser().parse_args(job.flags())
        flag_checks.check_flags(given)
        model_flag_checks.check_model_flags(given)
        assert (given.seed, given.output_dir, given.batch_size) == (job.seed, str(job.folder), job.batch_size)


def test_several_gpus_are_torchruns(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert "torch.distributed.run --standalone --nproc_per_node=4" in listed(capsys, "nheads --gpus 4 -o", tmp_path)[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("nheeds", "invalid choice"),
        ("nheads num_queries --values 5", "those of one parameter"),
        ("nheads --values x", "a positive number"),
        ("precision --values fp8", "one of fp32"),
        ("nheads -- --nheads 4", "--nheads is the sweep's to set"),
        ("nheads -- --output-dir x", "--output_dir is the sweep's"),
        ("precision -- --amp bf16", "--amp is the sweep's"),
        ("nheads --parallel 0", "must be at least 1"),
        ("nheads --slurm account", "key=value"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture, arguments: str, complaint: str) -> None:
    try:
        code = sweep.main(arguments.split())
    except SystemExit as exit_:
        code = exit_.code
    error = capsys.readouterr().err
    assert code == 2 and complaint in error and len(error.splitlines()) == 1


# ---- on this machine


class Forked:
    """Stands in for `subprocess.Popen` of main.py: a fork that has imported torch already."""

    def __init__(self, command: list[str], *, stdout: TextIO, env: Mapping[str, str], **_pipes: object) -> None:
        """Start it; what it prints is written when it ends."""
        self._started, self._output = Started(python, command[1:], str(Path.cwd()), **env), stdout

    def wait(self) -> int:
        """Wait for the process; return its exit code."""
        code, out, err = self._started.end()
        self._output.write(out + err)
        return code


class InThisProcess:
    """Stands in for submitit's LocalExecutor: runs a job where it is submitted."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written to the folder."""

    def update_parameters(self, **_: object) -> None:
        """Set no limits."""

    def submit(self, task: Callable[[], object]) -> SimpleNamespace:
        """Run it; one that breaks says so by the files that it leaves."""
        with contextlib.suppress(RuntimeError):
            task()
        return SimpleNamespace(done=lambda: True)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
def test_a_real_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """With main.py itself; that submitit starts a process for it is seen in the next test."""
    submitit = pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")
    monkeypatch.setattr(submitit, "LocalExecutor", InThisProcess)
    monkeypatch.setattr(sweeps_run.subprocess, "Popen", Forked)
    arguments = ["num_queries", "--values", "20", "--seeds", "0", "--cluster", "local", "-o", str(tmp_path)]
    code = sweep.main([*arguments, "--", *TINY])
    assert code == 0, capsys.readouterr()
    table = pd.read_csv(tmp_path / "results.csv")
    assert list(table["state"]) == ["finished"] and list(table["epochs"]) == [1]
    assert table["ap"].between(0, 1).all() and (table["ms_per_image"] > 0).all() and (table["memory_mib"] > 0).all()
    assert (tmp_path / "num_queries.png").is_file() and (tmp_path / "basic/seed0/checkpoint.pth").is_file()
    capsys.readouterr()
    assert sweep.main([*arguments, "--", *TINY]) == 0 and "1 jobs, 1 of them finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_broken_job_is_named_the_others_go_on_and_a_second_call_repeats_it(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")
    arguments = [
        "num_queries",
        "--values",
        "13",
        "20",
        "--seeds",
        "0",
        "--cluster",
        "local",
        "--parallel",
        "2",
        "-o",
        str(tmp_path),
    ]
    assert sweep.main(arguments) == 1
    out = capsys.readouterr().out
    assert re.search(r"basic-num_queries=13/seed0: broke; .*output.txt: main.py: error: an unlucky number", out)
    assert "basic/seed0: finished" in out
    assert sweep.main(arguments) == 1
    assert "2 jobs, 1 of them finished" in capsys.readouterr().out


def test_a_folder_with_other_flags_is_not_gone_on_with(tmp_path: Path) -> None:
    job = Job(tmp_path, "basic", {}, 0, ("--epochs", "3"))
    job.write_record()
    assert job.state() == "new"
    with pytest.raises(RoofError, match="other flags"):
        Job(tmp_path, "basic", {}, 0, ("--epochs", "5")).state()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the job's process in /proc")
def test_a_job_told_to_make_room_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's signal reaches the job in the midst of its wait: main.py is ended, and started anew by submitit."""
    pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")
    from rooflines.sweeps.run import TrainingRun, import_submitit

    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    started = tmp_path / "started"
    program = (
        f"import os, time; again = os.path.exists({str(started)!r}); "
        f"open({str(started)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(0 if again else 60)"
    )
    executor = import_submitit().LocalExecutor(folder=tmp_path / "submitit")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(TrainingRun([sys.executable, "-S", "-c", program], tmp_path))
    wait_for(lambda: started.exists() and started.read_text())
    controller = int(job.job_id)
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    wait_for(job.done)
    first, second = map(int, started.read_text().split())
    assert not Path(f"/proc/{first}").exists() and first != second
    assert (tmp_path / "finished.json").is_file()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_each_of_several_jobs_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from rooflines.sweeps.run import _gpus_of_places

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _gpus_of_places(2, 2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert _gpus_of_places(2, 1) == ["3", "5"]
    with pytest.raises(RoofError, match="has only 2"):
        _gpus_of_places(3, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpus_of_places(2, 1) == ["", ""]


def test_without_submitit_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert sweep.main(["nheads", "--cluster", "local", "-o", str(tmp_path)]) == 2
    assert "pip install submitit" in capsys.readouterr().err


# ---- on Slurm


def test_slurm_gets_one_array_of_what_is_neither_finished_nor_waiting(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")
    stand_ins = StandIns(tmp_path)
    script = tmp_path / "submitted.sh"
    stand_ins.add("sbatch", f"open({str(script)!r}, 'w').write(open(argv[-1]).read()); print('Submitted batch job 77')")
    stand_ins.add("srun", SRUN)
    stand_ins.add("squeue", "print('77_0')")
    monkeypatch.setenv("PATH", stand_ins.environ()["PATH"])
    out = tmp_path / "sweep"
    command = [
        "nheads",
        "--seeds",
        "0",
        "-o",
        str(out),
        "--slurm",
        "account=m1234",
        "qos=shared",
        "constraint=gpu",
        "--parallel",
        "2",
    ]
    assert sweep.main(command) == 0
    text = script.read_text()
    for line in (
        "--array=0-3%2",
        "--account=m1234",
        "--qos=shared",
        "--constraint=gpu",
        "--gpus-per-node=1",
        "--time=1440",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "submitted 4 (77_0, 77_1, 77_2, 77_3)" in capsys.readouterr().out
    assert json.loads((out / "basic" / "seed0" / "job.json").read_text())["slurm_job"] == "77_0"
    assert sweep.main(command) == 0  # 77_0 still waits, the others are gone without having finished
    assert "#SBATCH --array=0-2%2\n" in script.read_text()


def test_what_slurm_says_no_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("submitit", reason="no submitit: pip install -r requirements-dev.txt")
    stand_ins = StandIns(tmp_path)
    stand_ins.add("sbatch", "sys.exit('sbatch: error: Invalid account')")
    stand_ins.add("srun")
    stand_ins.add("squeue")
    monkeypatch.setenv("PATH", stand_ins.environ()["PATH"])
    for more, complaint in ((["account=x"], "Invalid account"), (["acount=x"], "acount")):
        assert sweep.main(["nheads", "--seeds", "0", "-o", str(tmp_path / "out"), "--slurm", *more]) == 2
        line = capsys.readouterr().err.splitlines()[-1]  # after sbatch's own
        assert complaint in line and line.startswith("sweep.py: error: Slurm did not take the jobs")


# ---- what is drawn


def test_measures_come_from_the_log(tmp_path: Path) -> None:
    job = Job(tmp_path, "basic", {"batch_size": "4"}, 0)
    assert read_run(job) == {}
    job.write_record()
    rows = [
        {"test_coco_eval_bbox": [ap, 0.3], "train_step_time": seconds, "train_max_memory": memory}
        for ap, seconds, memory in ((0.1, 9.0, 10), (0.15, 0.2, 700), (0.2, 0.2, 650))
    ]
    (job.folder / "log.txt").write_text("\n".join(map(json.dumps, rows)) + '\n{"half')
    assert read_run(job) == {"ap": 0.2, "epochs": 3, "ms_per_image": pytest.approx(50), "memory_mib": 700}


def test_the_chart_has_a_line_for_each_configuration_and_bars_over_seeds() -> None:
    rows = [
        {
            "parameter": "nheads",
            "value": value,
            "configuration": name,
            "seed": seed,
            "ap": 0.1 * seed,
            "ms_per_image": 5.0,
            "memory_mib": None,
        }
        for name in CONFIGURATIONS
        for value in ("4", "8")
        for seed in (1, 2, 3)
    ]
    figure = draw(pd.DataFrame(rows), "nheads")
    ap, _, memory = figure.axes
    assert ap.get_legend_handles_labels()[1] == ["basic", "optimized"]
    line, _, (bars,) = ap.containers[0]
    assert line.get_ydata() == pytest.approx([0.2, 0.2])
    assert bars.get_segments()[0][:, 1] == pytest.approx([0.1, 0.3])
    assert "not in log.txt" in memory.texts[0].get_text(), "missing measures are named"


def test_results_are_written_while_some_runs_are_missing(tmp_path: Path) -> None:
    done, missing = Job(tmp_path, "basic", {}, 0), Job(tmp_path, "basic", {"nheads": "8"}, 0)
    done.write_record()
    (done.folder / "log.txt").write_text('{"test_coco_eval_bbox": [0.5]}\n')
    paths = write_results([("nheads", "4", "basic", done), ("nheads", "8", "basic", missing)], tmp_path)
    assert [path.name for path in paths] == ["results.csv", "nheads.png"]
    assert list(pd.read_csv(paths[0])["state"]) == ["started", "new"]
