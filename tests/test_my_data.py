"""recipes/my_data.sh: from a folder of labelled images to a report, and every way in which it stops."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import main
from tests.datasets.convert.test_ready import XML
from tests.forked_python import forked_python

ROOT = Path(main.__file__).parent
SMALL = (
    "--device cpu --backbone resnet18 --backbone_weights none --backbone_norm batch --image_size 32 --hidden_dim 16 "
    "--nheads 2 --enc_layers 0 --dec_layers 1 --dim_feedforward 16 --num_queries 4 --max_steps 1 --num_workers 0 "
    "--eval_every 1 --epochs 1 --batch_size 2"
)


#: In place of Python: notes its words, and leaves what the next stage asks for; CHECK is the check's exit code.
STAND_IN = """#!/usr/bin/env bash
echo "$@" >> "$NOTES"
case "$*" in
    *datasets.convert*) mkdir -p "$5/annotations" && echo "found it" && echo "ready: $5" ;;
    *datasets.check*) exit "${CHECK:-0}" ;;
esac
"""


def my_data(
    *words: object, python: Path = Path(sys.executable).parent, **more: object
) -> subprocess.CompletedProcess[str]:
    path = f"{python}{os.pathsep}{os.environ['PATH']}"
    environment = (
        os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in more.items()}
    )
    command = ["bash", "recipes/my_data.sh", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """Return a folder with a quick `python`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(STAND_IN)
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path / "bin"


def beside(root: Path) -> Path:
    """Write five images with their XML beside them, one object each."""
    root.mkdir()
    for number in range(5):
        image = Image.new("RGB", (40, 30), (50 * number, 0, 0))
        ImageDraw.Draw(image).rectangle((2, 2, 19, 19), fill="white")
        image.save(root / f"{number}.png")
        (root / f"{number}.xml").write_text(XML)
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)  # five commands: a busy machine takes its time
@pytest.mark.usefixtures("narrow_resnet18")
def test_the_whole_way(tmp_path: Path) -> None:
    folder, out = beside(tmp_path / "my cells"), tmp_path / "the run"
    with forked_python(tmp_path / "bin") as python:
        done = my_data(folder, *SMALL.split(), "--output_dir", out, python=python)
    assert done.returncode == 0, done.stderr
    assert "1 of the 5 images were set apart" in done.stdout and "--preset auto: 4 training images" in done.stdout
    typed = shlex.split(done.stdout.splitlines()[-1])  # as a shell reads it: the folder's name has a space
    assert typed[:3] == ["python", "predict.py", "--resume"] and Path(typed[3]).parent == out
    assert (out / "evaluated" / "report" / "index.html").is_file() and (out / "check.png").is_file()


def test_the_stages_and_what_they_are_given(tmp_path: Path, stand_in: Path) -> None:
    """A second call finds the data ready; flags that the evaluation needs are handed on to it."""
    folder, out, notes = beside(tmp_path / "my cells"), tmp_path / "run", tmp_path / "notes"
    for _ in range(2):
        done = my_data(
            folder, "--epochs", 3, "--device", "cpu", f"--output_dir={out}", python=stand_in, NOTES=notes, CHECK=1
        )
        assert done.returncode == 0, done.stderr
        assert [line[3] for line in done.stdout.splitlines() if line.startswith("== ")] == list("12345")
    assert "made ready before" in done.stdout
    data = out / "data"
    train = f"main.py --data_path {data} --preset auto --resume auto --epochs 3 --device cpu --output_dir={out}"
    evaluation = f"main.py --data_path {data} --eval --report --resume {out}/checkpoint.pth"
    said = notes.read_text().splitlines()
    assert said[0] == f"-m datasets.convert auto {folder} {data}"
    assert [line.split(" --sheet")[0] for line in said[1:3]] == [
        f"-m datasets.check --data_path {data}",
        f"{train} --output_dir {out}",
    ]
    assert said[3].startswith(evaluation) and said[3].endswith("--device cpu")
    assert said[4:] == said[1:4]


def test_a_refused_check_stops_it(tmp_path: Path, stand_in: Path) -> None:
    done = my_data(
        beside(tmp_path / "a"), "--output_dir", tmp_path / "b", python=stand_in, NOTES=tmp_path / "n", CHECK=2
    )
    assert done.returncode == 2 and "stopped while checking the data" in done.stderr and "3 of 5" not in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "usage: bash recipes/my_data.sh DIR"),
        (["--epochs", "3"], "usage: bash recipes/my_data.sh DIR"),
        (["/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_without_data_it_says_how(words: list[str], line: str) -> None:
    done = my_data(*words)
    assert done.returncode == 2 and line in done.stderr and done.stdout == ""
