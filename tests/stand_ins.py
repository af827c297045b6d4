"""Stand-ins for programs such as ncu, srun and sbatch: each notes its command line and then runs a given body."""

import json
import os
import sys
from pathlib import Path

_PROGRAM = """#!{python} -S
import json, os, subprocess, sys
name, argv, env = {name!r}, sys.argv[1:], os.environ
with open({log!r}, "a") as file:
    file.write(json.dumps([name, *argv]) + "\\n")
{body}
"""

#: srun: runs what stands behind its options, once, as task 0.
SRUN = """
while argv and argv[0].startswith("--"):
    argv.pop(0)
sys.exit(subprocess.call(argv, env=env | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"}))
"""


class StandIns:
    """A folder of stand-ins, first in the PATH of `environ`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stand-ins"
        self.folder.mkdir()
        self.log = self.folder / "calls.log"
        self.log.touch()

    def add(self, name: str, body: str = "") -> None:
        """Add a program that notes its call and then runs `body`, Python that may use name, argv and env."""
        path = self.folder / name
        path.write_text(_PROGRAM.format(python=sys.executable, name=name, log=str(self.log), body=body))
        path.chmod(0o755)

    def environ(self, *, alone: bool = False, **more: object) -> dict[str, str]:
        """Return the environment outside of Slurm jobs, with the stand-ins first in PATH, or `alone` in it."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") and k not in ("RANK", "WORLD_SIZE")}
        path = [str(self.folder), *([] if alone else [str(Path(sys.executable).parent), os.environ["PATH"]])]
        return clean | {"PATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"} | {k: str(v) for k, v in more.items()}

    def calls(self, name: str | None = None) -> list[list[str]]:
        """Return the command lines so far, in order; with a name, those of that program without the name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return lines if name is None else [line[1:] for line in lines if line[0] == name]
