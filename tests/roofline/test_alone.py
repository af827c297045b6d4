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


@pytest.mark.slow
def test_an_output_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "output_r.csv"
    table.write_text("\n".join(long_rows([Kernel.counted(fadd=10)])) + "\n")
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(SCRIPTS / "postprocess.py"), str(table), "-o", str(tmp_path / "file" / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "file" in done.stderr


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    table = tmp_path / "output_r.csv"
    kernels = [Kernel.counted(f"k{n}", id=n, fadd=10) for n in range(200)]
    table.write_text("\n".join(long_rows(kernels)) + "\n")
    command = f"{sys.executable} {SCRIPTS / 'postprocess.py'} {table} -o {tmp_path} --no_charts --flops | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
