"""Train on Slurm by submitit, on one node or several; a job that is preempted or out of time goes on where it stopped.

    python run_with_submitit.py --timeout 3000 --coco_path DIR --job_dir runs/%j
    SBATCH_ACCOUNT=m1234 SBATCH_QOS=regular SBATCH_CONSTRAINT=gpu python run_with_submitit.py --ngpus 4 --nodes 2 ...
    python run_with_submitit.py --cluster local --ngpus 1 --nodes 1 --job_dir runs/%j ...     on this machine

The flags are main.py's and DETR's four: --ngpus, --nodes, --timeout, --job_dir (%j: the job's id), where checkpoints,
logs and submitit's files go. sbatch reads account, queue and more from its own variables, SBATCH_*.
"""

import argparse
import copy
import os
import shlex
import signal
import sys
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

from flag_checks import check_flags
from flags import get_args_parser
from util.errors import RunStopped, UserError
from util.flags import FlagParser


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of main.py and of the job."""
    parser = FlagParser(prog="run_with_submitit.py", description=__doc__.splitlines()[0], parents=[get_args_parser()])
    group = parser.add_argument_group("job")
    group.add_argument("--ngpus", default=8, type=int, help="GPUs to request on each node (%(default)s)")
    group.add_argument("--nodes", default=4, type=int, help="nodes to request (%(default)s)")
    group.add_argument("--timeout", default=60, type=int, help="minutes until the job goes on in another (%(default)s)")
    group.add_argument(
        "--job_dir", default="", help="folder of the run (/checkpoint/$USER/experiments/%%j where there is one)"
    )
    group.add_argument(
        "--cluster", default="slurm", choices=("slurm", "local"), help="local: on this machine (%(default)s)"
    )
    return parser.parse_args(arguments)


def get_shared_folder() -> Path:
    """Return DETR's folder for experiments. Raises UserError where there is none: then --job_dir names one."""
    if not Path("/checkpoint").is_dir():
        raise UserError("--job_dir is not given: name a folder that every node sees, e.g. --job_dir /shared/runs/%j")
    return Path("/checkpoint") / os.environ.get("USER", "") / "experiments"


def get_init_file() -> Path:
    """Return the name of a new file in the shared folder: `file://` and it make a meeting point of processes."""
    folder = get_shared_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{uuid.uuid4().hex}_init"


class Trainer:
    """Run main.py with these flags in every process of the job, and go on in another job when time is up."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args

    def __call__(self) -> None:
        """Train. Slurm's variables tell main.py which of the processes this is, and where they meet.

        A mistake of the user ends the process with main.py's one line and exit code.
        """
        import submitit

        import main as detection

        job = submitit.JobEnvironment()
        # Only in the job is its id known.
        output_dir = str(self.args.output_dir).replace("%j", job.job_id)
        self.args = with_values(self.args, output_dir=output_dir)
        if self.args.cluster == "local" and job.num_tasks > 1:
            # On one machine no Slurm sets rank and meeting point.
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        time_is_up = TimeIsUp()
        # Returns after it has saved: only then may the process end.
        code = detection.cli(typed=self.args)
        if code == RunStopped.exit_code and time_is_up.came:
            time_is_up.requeue()
        elif code:
            sys.exit(code)

    def checkpoint(self) -> Any:
        """Return the job that goes on from the last checkpoint, for submitit to put in the queue."""
        import submitit

        # Preempted before the first checkpoint, it starts as it did; --init_from would contradict --resume.
        resumes = (Path(self.args.output_dir) / "checkpoint.pth").exists()
        args = with_values(self.args, resume="auto", init_from="") if resumes else self.args
        return submitit.helpers.DelayedSubmission(type(self)(args))


class TimeIsUp:
    """submitit's signal that the time of a job is up, or that it is preempted, turned into one that main.py saves at.

    By itself submitit leaves in the middle of a step, and what was made since the last checkpoint is lost.
    """

    def __init__(self) -> None:
        self.came = False
        # Before main.py trains: what submitit does at either signal.
        self._number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
        self._leave: Any = signal.signal(self._number, self._take)
        self._before = signal.getsignal(signal.SIGTERM)

    def requeue(self) -> None:
        """Let submitit put the job back into the queue; it ends the process that does so."""
        self._leave(self._number, None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) == self._before:  # not training: there is nothing to save
            self._leave(number, frame)
        elif not self.came:
            self.came = True
            # main.py saves at the end of the step that it is in.
            os.kill(os.getpid(), signal.SIGTERM)


def with_values(args: argparse.Namespace, **values: Any) -> argparse.Namespace:
    """Return a copy of the flags with other values."""
    changed = copy.copy(args)
    vars(changed).update(values)
    return changed


def submit(args: argparse.Namespace) -> Any:
    """Put the job into the queue and return it. Raises UserError for flags that cannot work, before that."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit is missing: pip install submitit; or train with srun: slurm/cluster.sh") from error
    job_dir = args.job_dir or str(get_shared_folder() / "%j")
    args = with_values(args, job_dir=job_dir, output_dir=job_dir)
    # Here, and again in the job: a mistake should not wait hours in the queue.
    check_flags(args)
    try:
        # A training of 300 epochs outlives a queue's limit many times.
        times = {f"{args.cluster}_max_num_timeout": 30}
        executor = submitit.AutoExecutor(folder=args.job_dir, cluster=args.cluster, **times)
        # The job's processes must find this project's modules, wherever they start.
        found = f"export PYTHONPATH={shlex.quote(str(Path(__file__).resolve().parent))}:${{PYTHONPATH:-}}"
        executor.update_parameters(
            name="detr",
            # DETR's own figures for a node.
            mem_gb=40 * args.ngpus,
            gpus_per_node=args.ngpus,
            # A process for each GPU, as srun starts them: no torchrun between.
            tasks_per_node=args.ngpus,
            cpus_per_task=10,
            nodes=args.nodes,
            timeout_min=args.timeout,
            slurm_setup=[found],
            local_setup=[found],
        )
        return executor.submit(Trainer(args))
    except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"{args.cluster} did not take the job: {' '.join(str(error).split())}") from error


def main(arguments: list[str] | None = None) -> None:
    """Submit the job, and wait for it where it runs here. Raises UserError."""
    args = parse_args(arguments)
    job = submit(args)
    print("Submitted job_id:", job.job_id, flush=True)
    if args.cluster == "local":
        import submitit

        try:
            job.results()
        except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
            raise UserError(f"the job failed; its last words are in {job.paths.stderr}") from error


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"run_with_submitit.py: error: {error.line()}", file=sys.stderr)
        sys.exit(error.exit_code)
