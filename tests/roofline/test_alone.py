"""The roofline scripts without the project around them: a copy of their folder works anywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import postprocess
import pytest

from tests.roofline.ncu_files import Kernel, long_rows

SCRIPTS = Path(postprocess.__file__).parent


@pytest.mark.slow
def test_a_copy_of_the_folder_draws_and_answers(tmp_path: Path) -> None:
    copy = shutil.copytree(SCRIPTS, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (tmp_path / "output_r_loss.csv").write_text("\n".join(long_rows([Kernel.counted(fadd=10)])) + "\n")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(copy / script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)

    drawn = run("postprocess.py", "--no_charts", "-o", "out")
    assert drawn.returncode == 0 and "r: 100 us in 1 launches" in drawn.stdout, drawn.stderr
    for script in ("collect.py", "sweep.py", "ceilings.py", "roofline.py", "roofline_pu.py"):
        answer = run(script, "--help")
        assert answer.returncode == 0 and "usage" in answer.stdout, script
