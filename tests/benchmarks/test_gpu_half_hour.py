"""The half hour of a GPU, from its first call to its last, with stand-ins for the GPU and for every program."""

import subprocess
from pathlib import Path

import pytest

from tests.stand_ins import StandIns

ROOT = Path(__file__).resolve().parents[2]

#: nvidia-smi that says there is a GPU, and goes on for ever where it is asked to.
NVIDIA_SMI = "import time\nif any(a.startswith('--loop') for a in argv): time.sleep(60)"
#: python: one part fails the first time.
PYTHON = """
mark = os.environ["MARK"]
if "pytest" in argv and not os.path.exists(mark):
    open(mark, "w").close()
    sys.exit(3)
print("worked")
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> StandIns:
    stand_ins = StandIns(tmp_path)
    stand_ins.add("python", PYTHON)
    return stand_ins


def call(stand_ins: StandIns, tmp_path: Path, **variables: object) -> subprocess.CompletedProcess:
    environ = stand_ins.environ(OUT=tmp_path / "out", MARK=tmp_path / "mark", ORIGINAL="elsewhere/detr", **variables)
    command = ["bash", str(ROOT / "benchmarks" / "gpu_half_hour.sh")]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


@pytest.mark.slow
def test_calls_go_on_until_all_is_done(stand_ins: StandIns, tmp_path: Path) -> None:
    stand_ins.add("nvidia-smi", NVIDIA_SMI)
    first = call(stand_ins, tmp_path, LIMIT_S=245)
    assert first.returncode == 1 and "machine: done" in first.stdout, first
    assert "tests: exit code 3" in first.stdout and "left: tests" in first.stdout, "what failed is tried again"
    last = call(stand_ins, tmp_path)
    assert last.returncode == 0 and "all is done" in last.stdout, last
    assert "machine" not in last.stdout, "what is done is not run again"
    ran = [" ".join(words) for words in stand_ins.calls("python")]
    for part in (
        "step.py --device cuda --batch_size 32",
        "inference.py",
        "--cost_card",
        "backward --name r50",
        "--nsys",
    ):
        assert any(part in line for line in ran), part
    assert all("--original elsewhere/detr" in line for line in ran if "benchmarks/" in line)
    assert (tmp_path / "out" / "nsys.log").read_text() == "worked\n"


def test_without_a_gpu_it_says_so(stand_ins: StandIns, tmp_path: Path) -> None:
    stand_ins.add("nvidia-smi", "sys.exit(9)")
    done = call(stand_ins, tmp_path)
    assert done.returncode == 2 and "finds no GPU" in done.stderr and not stand_ins.calls("python")
