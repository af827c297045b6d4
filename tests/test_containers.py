"""The containers and conda's environment install what requirements.txt names, for a Python that is supported."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_project import versions

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("Dockerfile", "apptainer.def", "environment.yml")


def commands(name: str) -> str:
    return "\n".join(line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", RECIPES)
def test_packages_come_from_requirements_txt_alone_and_python_is_supported(name: str) -> None:
    text = commands(name)
    assert {Path(path).name for path in re.findall(r"--requirement (\S+)", text)} == {"requirements.txt"}
    installed = re.findall(r"pip install (.*)", text)
    assert all(re.fullmatch(r"--no-cache-dir --requirement \S+", words) for words in installed), "nothing beside it"
    (python,) = re.findall(r"python[:=](3\.\d+)", text)
    assert python in versions()


def test_files_that_are_copied_exist() -> None:
    copied = re.findall(r"^COPY (\S+) ", commands("Dockerfile"), re.M)
    section = re.search(r"%files\n(.*?)\n\n", commands("apptainer.def"), re.S)
    assert section and copied == ["requirements.txt", "."]
    sources = [line.split()[0] for line in section[1].splitlines()]
    assert sources == ["requirements.txt"] and all((ROOT / name).exists() for name in (*copied, *sources))


def test_condas_environment_has_nothing_else_but_pip() -> None:
    environment: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python.startswith("python=") and pip == "pip" and set(packages) == {"pip"}


def test_both_containers_start_from_the_same_image() -> None:
    bases = {re.search(r"^(?:FROM|From:) (\S+)", commands(name), re.M)[1] for name in RECIPES[:2]}
    assert len(bases) == 1
