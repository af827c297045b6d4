"""Runs of a sweep's jobs by submitit: on this machine a few at a time, on Slurm as one job array."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import RoofError, atomic_file
from .jobs import Job

_POLL_SECONDS = 0.2


class TrainingRun:
    """The task that submitit runs: main.py in a process of its own, which prints to output.txt of the run's folder.

    Stopped for another job, or out of time, it is put in the queue again and goes on from its last checkpoint.
    """

    def __init__(self, command: Sequence[str], folder: Path, gpus: str | None = None) -> None:
        self.command, self.folder, self.gpus = list(command), Path(folder).absolute(), gpus
        self._process: subprocess.Popen | None = None

    def __call__(self) -> float:
        """Train; return the seconds it took. Raises RuntimeError when main.py ends with an error."""
        began = time.monotonic()
        environment = os.environ | ({} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus})
        with open(self.folder / "output.txt", "a") as output:
            self._process = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            code = self._process.wait()
        if code:
            raise RuntimeError(f"exit code {code}; see {self.folder / 'output.txt'}")
        seconds = time.monotonic() - began
        with atomic_file(self.folder / "finished.json") as file:
            file.write(json.dumps({"seconds_since_last_start": round(seconds, 1)}).encode() + b"\n")
        return seconds

    def checkpoint(self) -> Any:
        """End main.py, and ask submitit to run this again."""
        import submitit

        process, self._process = self._process, None
        if process is not None:
            # A signal's handler, in the midst of process.wait(): Popen's own methods would wait for that one's lock.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process.pid, signal.SIGTERM)
                os.waitpid(process.pid, 0)
        return submitit.helpers.DelayedSubmission(self)


def import_submitit() -> ModuleType:
    """Return the package. Raises RoofError where it is missing."""
    try:
        import submitit
    except ImportError as error:
        raise RoofError(
            "sweep.py runs jobs by submitit, which is missing: pip install submitit; --print lists the jobs"
        ) from error
    # The jobs' processes unpickle TrainingRun, so they need to find this module.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")))
    )
    return submitit


def run_here(jobs: Sequence[Job], root: Path, *, parallel: int, gpus: int, timeout: int) -> int:
    """Run jobs on this machine, `parallel` at a time, each with `gpus` GPUs of its own. Returns how many broke."""
    submitit = import_submitit()
    visible = _gpus_of_places(parallel, gpus)
    running: dict[int, tuple[Job, Any]] = {}
    waiting, broken, done = list(jobs), 0, 0
    while waiting or running:
        for place in range(parallel):
            if place not in running and waiting:
                job = waiting.pop(0)
                executor = submitit.LocalExecutor(folder=root / "submitit")
                executor.update_parameters(timeout_min=timeout)
                # Before it is submitted: a run that is killed at once has its flags on disk.
                job.write_record()
                running[place] = job, executor.submit(TrainingRun(job.command(gpus), job.folder, visible[place]))
        time.sleep(_POLL_SECONDS)
        for place, (job, submitted) in list(running.items()):
            if submitted.done():
                del running[place]
                done += 1
                broken += not job.finished
                print(f"{done}/{len(jobs)} {job.name}: {_outcome(job)}", flush=True)
    return broken


def _gpus_of_places(parallel: int, gpus: int) -> list[str]:
    """Return CUDA_VISIBLE_DEVICES for each of the jobs at a time: of those that this process sees, else from 0 on."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen == "":
        return [""] * parallel
    names = list(map(str, range(parallel * gpus))) if seen is None else seen.split(",")
    if len(names) < parallel * gpus:
        raise RoofError(f"--parallel {parallel} with --gpus {gpus}: CUDA_VISIBLE_DEVICES has only {len(names)}")
    return [",".join(names[place * gpus : (place + 1) * gpus]) for place in range(parallel)]


def _outcome(job: Job) -> str:
    if job.finished:
        return "finished"
    output = job.folder / "output.txt"
    lines = output.read_text(errors="replace").strip().splitlines() if output.is_file() else []
    return f"broke; {output}: {lines[-1] if lines else 'empty'}"


def submit_array(
    jobs: Sequence[Job], root: Path, *, parallel: int, gpus: int, cpus: int, timeout: int, options: dict[str, str]
) -> list[str]:
    """Hand jobs to Slurm as one array, `parallel` of them at a time at most; return their ids. Raises RoofError."""
    submitit = import_submitit()
    waiting = still_queued()
    # The same command twice must not train a job twice.
    jobs = [job for job in jobs if job.record().get("slurm_job") not in waiting]
    try:
        executor = submitit.AutoExecutor(folder=root / "submitit", cluster="slurm", slurm_max_num_timeout=30)
        executor.update_parameters(
            name="sweep",
            timeout_min=timeout,
            gpus_per_node=gpus,
            cpus_per_task=cpus,
            tasks_per_node=1,
            nodes=1,
            slurm_array_parallelism=parallel,
            **{f"slurm_{name}": value for name, value in options.items()},
        )
        with executor.batch():
            submitted = [executor.submit(TrainingRun(job.command(gpus), job.folder)) for job in _recorded(jobs)]
    except (RuntimeError, NameError, ValueError, OSError, submitit.core.utils.FailedJobError) as error:
        raise RoofError(f"Slurm did not take the jobs: {' '.join(str(error).split())}") from error
    for job, handed in zip(jobs, submitted):
        job.write_record(slurm_job=handed.job_id)
    return [handed.job_id for handed in submitted]


def _recorded(jobs: Sequence[Job]) -> Sequence[Job]:
    for job in jobs:
        job.write_record()
    return jobs


def still_queued() -> set[str]:
    """Return the ids of this user's jobs that Slurm has not finished with; none where it does not answer."""
    try:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"note: squeue does not answer ({error}): jobs that still wait are submitted again", file=sys.stderr)
        return set()
    return set(done.stdout.split())
