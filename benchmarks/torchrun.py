"""A worker beside this file in several processes at once, which torchrun starts and in which rank 0 answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_processes(script: str, order: dict[str, Any], processes: int) -> list[dict[str, Any]]:
    """Have a worker measure in some processes and return the rows that rank 0 prints.

    Args:
        script: the worker's file beside this one, which takes the order as its only argument.
        order: what to measure; `threads` are those of each process.
        processes: how many.

    Raises:
        SystemExit: a process failed.
    """
    path = str(Path(__file__).with_name(script))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", path]
    # PASSIVE: a thread that spins while it waits takes the other process's core.
    environment = os.environ | {"OMP_NUM_THREADS": str(order["threads"]), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([*command, json.dumps(order)], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{processes} processes ended with exit code {done.returncode}; see above")
    # The launcher and libraries may print before it.
    return json.loads(done.stdout.splitlines()[-1])
