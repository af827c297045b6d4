"""The rank of this process and the number of all, by the variables that torchrun or Slurm set."""

import argparse
from collections.abc import Mapping

from .. import RoofError


def parse_ranks(text: str) -> list[int]:
    """Return [0, 3] for "0,3". Raises ArgumentTypeError, as a parser of flags wants it."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} are no ranks, e.g. 0,3")
    return sorted(set(map(int, words)))


def find_rank(environ: Mapping[str, str]) -> tuple[int, int]:
    """Return rank and number of processes, (0, 1) without a launcher. Raises RoofError for what is no number.

    A batch script and the shell of `salloc` also see SLURM_PROCID and the job's SLURM_NTASKS, but they are alone: only
    what `srun` started has a step. https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        names = ("RANK", "WORLD_SIZE")
    elif "SLURM_PROCID" in environ and "SLURM_STEP_ID" in environ:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS")
    else:
        return 0, 1
    # Slurm need not say the number of tasks where it is one.
    words = [environ.get(name, "1") for name in names]
    for name, word in zip(names, words):
        if not word.isdecimal():
            raise RoofError(f"{name} is set to {word!r}, not to a number")
    rank, count = map(int, words)
    if not rank < count:
        raise RoofError(f"{names[0]}={rank} and {names[1]}={count} do not fit together: start with torchrun or srun")
    return rank, count
