"""The place of this process among all, read from the variables that torchrun or Slurm set.

Variables of Slurm: https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UserError


@dataclass(frozen=True)
class Place:
    """The place of one process: `rank` of `world_size`, and `local_rank` on its machine.

    `init_method` is where the processes meet, as `torch.distributed.init_process_group` takes it.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    init_method: str = "env://"
    launcher: str | None = None


def find_place(environ: Mapping[str, str], dist_url: str = "env://") -> Place:
    """Return the place that torchrun gave, else the one Slurm gave, else that of a single process.

    `dist_url` other than `env://` (`file://...`, `tcp://...`) wins over the meeting point of the launcher.
    Raises UserError when a variable is not a number, or the meeting point is missing.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _torchrun_place(environ, dist_url)
    if _is_slurm_step(environ):
        return _slurm_place(environ, dist_url)
    return Place()


def launch_rank(environ: Mapping[str, str]) -> int:
    """Return the rank a launcher gave this process, 0 without one; never raises.

    Known before, during and after the life of the process group, so that only one process speaks at all times.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        rank = environ["RANK"]
    else:
        rank = environ["SLURM_PROCID"] if _is_slurm_step(environ) else "0"
    return int(rank) if rank.isdecimal() else 0


def let_rank_0_speak(environ: Mapping[str, str], seconds: float = 2.0) -> None:
    """On other ranks, wait before ending with an error that all ranks meet; at once on rank 0.

    Launchers end every process as soon as one has failed: a silent rank that is first would take from rank 0 the
    time to print the line that says why.
    """
    if launch_rank(environ) > 0:
        time.sleep(seconds)


def has_gpu_of_its_own(environ: Mapping[str, str]) -> bool:
    """Tell if Slurm was asked to show each task only its own GPU, which then is number 0 in every task."""
    per_task = "SLURM_GPUS_PER_TASK" in environ or "gpu" in environ.get("SLURM_TRES_PER_TASK", "")
    return per_task or environ.get("SLURM_GPU_BIND", "none") != "none"


def first_host(nodelist: str) -> str:
    """Return the first machine of Slurm's short form: `gpu[003-007,12],login1` gives `gpu003`."""
    # Up to the first comma outside brackets; then, of each bracket, the first number alone.
    first = re.split(r",(?![^\[]*\])", nodelist.strip())[0]
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first)


def _torchrun_place(environ: Mapping[str, str], dist_url: str) -> Place:
    rank, world_size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    if not 0 <= rank < world_size:
        raise UserError(f"RANK={rank} and WORLD_SIZE={world_size} do not fit together: start with torchrun")
    if world_size == 1:
        return Place(launcher="torchrun")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environ]
    if dist_url == "env://" and missing:
        raise UserError(f"RANK and WORLD_SIZE are set but {missing[0]} is not: start with torchrun, or set it")
    local_rank = _number(environ, "LOCAL_RANK") if "LOCAL_RANK" in environ else 0
    return Place(rank, world_size, local_rank, dist_url, "torchrun")


def _is_slurm_step(environ: Mapping[str, str]) -> bool:
    """Tell if `srun` started this process.

    A batch script and the shell of `salloc` also see SLURM_PROCID=0 and the job's SLURM_NTASKS, but they are
    alone and no one would ever meet them: they have no step, or a step of one task.
    """
    return "SLURM_PROCID" in environ and "SLURM_STEP_ID" in environ


def _slurm_place(environ: Mapping[str, str], dist_url: str) -> Place:
    # SLURM_NTASKS is the job's in the shell of an interactive step, which is one task.
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    world_size = _number(environ, tasks) if tasks in environ else 1
    if world_size == 1:
        return Place(launcher="srun")
    rank = _number(environ, "SLURM_PROCID")
    local_rank = _number(environ, "SLURM_LOCALID")
    meeting = _slurm_meeting_point(environ) if dist_url == "env://" else dist_url
    return Place(rank, world_size, local_rank, meeting, "srun")


def _slurm_meeting_point(environ: Mapping[str, str]) -> str:
    # The step's variables before the job's: a step may use a part of the job's machines.
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_NODELIST", "")
    count = environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_NNODES")
    # On a single machine no name has to be resolved, which in containers often fails.
    alone = int(count) == 1 if count else not re.search(r"[\[,]", nodes)
    address = environ.get("MASTER_ADDR") or ("127.0.0.1" if alone else first_host(nodes))
    if not address:
        raise UserError("srun started several processes but SLURM_STEP_NODELIST is not set: set MASTER_ADDR")
    return f"tcp://{address}:{environ.get('MASTER_PORT') or _slurm_port(environ)}"


def _slurm_port(environ: Mapping[str, str]) -> int:
    """Return a port that every task of a step agrees on, and that two steps on one machine most likely do not share.

    Steps of a job are numbered from 0 and jobs one after the other, so steps are kept far apart (by a prime number):
    the second step of a job must not meet where the first step of the next job does. Below 32768, where Linux starts
    to hand out ports to any program.
    """
    job, step = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_STEP_ID")
    return 10_000 + (job + 7919 * step) % 20_000


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except KeyError:
        raise UserError(f"{name} is not set, though other variables of a launcher are: start with torchrun") from None
    except ValueError:
        raise UserError(f"{name} is set to {environ[name]!r}, not to a number") from None
