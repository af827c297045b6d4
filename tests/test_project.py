"""The project's settings agree with each other, and the tree refuses to be installed."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHECK: dict[str, Any] = run_path(str(ROOT / ".ci" / "check_python.py"))


def versions() -> list[str]:
    """Versions of Python that pyproject.toml allows: "3.11", ..."""
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"])
    assert bounds, "requires-python is no longer of the form that .ci/check_python.py reads"
    return [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[2]))]


def test_this_python_is_one_of_those_allowed() -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in versions()


def test_the_readme_names_the_allowed_versions_of_python() -> None:
    assert f"Python {' or '.join(versions())}" in (ROOT / "README.md").read_text()


def test_ci_runs_on_every_allowed_version_of_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == versions()
    assert {"run": ".ci/run"} in job["steps"]


def test_linters_check_for_the_oldest_allowed_version_of_python() -> None:
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + versions()[0].replace(".", "")
    assert PROJECT["tool"]["mypy"]["python_version"] == versions()[0]


@pytest.mark.parametrize("version, allowed", [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)])
def test_make_refuses_other_versions_of_python_in_one_line(version: tuple[int, int], allowed: bool) -> None:
    line = CHECK["complaint"]('requires-python = ">=3.11,<3.13"', version)
    assert (line is None) is allowed
    if line is not None:
        assert "3.11 or 3.12" in line and "make PYTHON=python3.12" in line and "\n" not in line


def test_make_and_the_commit_hooks_call_the_same_linters() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"], "a hook would be fetched from elsewhere"
    called = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == called


def test_mypy_is_given_files_that_exist() -> None:
    missing = [name for name in PROJECT["tool"]["mypy"]["files"] if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.slow
def test_the_checkout_cannot_be_installed_and_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and not (tmp_path / "site").exists()
    assert "DETR is run from its checkout and not installed" in done.stdout + done.stderr
