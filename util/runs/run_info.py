"""All that is needed to repeat a run: its flags, its command, the versions, the commit and the machine."""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..dist.accelerator import accelerator
from ..dist.distributed import get_world_size
from .atomic import atomic_file
from .plain import to_plain

_ROOT = Path(__file__).resolve().parents[2]
#: On which a run's numbers depend; util/environment.py adds others.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pycocotools", "hotcoco")


def run_info(
    settled: argparse.Namespace | Mapping[str, Any],
    *,
    typed: Mapping[str, Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe this run in plain types: flags, command, date, versions, git, device. No host or user name.

    Args:
        settled: all flags with the values that the run has, after checkpoint, data and machine had their say.
        typed: the flags that were given, as they were given.
        origins: where the value of each flag comes from.
    """
    return {
        "flags": to_plain(settled),
        **({} if typed is None else {"flags_as_typed": to_plain(typed)}),
        **({} if origins is None else {"origins": dict(origins)}),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        "git": git_state(_ROOT),
        "machine": _machine(to_plain(settled).get("device", "cpu")),
    }


def write_run_info(
    output_dir: str | os.PathLike,
    settled: argparse.Namespace,
    *,
    typed: Mapping[str, Any] | None = None,
    chosen: Mapping[str, Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> None:
    """Write `run_info` to `run.json` in `output_dir`; with a preset also `chosen`, value and reason of each flag."""
    info = run_info(settled, typed=typed, origins=origins) | ({"chosen": to_plain(chosen)} if chosen else {})
    with atomic_file(Path(output_dir) / "run.json") as file:
        file.write(json.dumps(info, indent=2).encode() + b"\n")


def describe_git(root: Path = _ROOT) -> str:
    """Return the state of the checkout on one line, as the original prints it."""
    state = git_state(root) or {"sha": "N/A", "status": "clean", "branch": "N/A"}
    return f"sha: {state['sha']}, status: {state['status']}, branch: {state['branch']}"


def git_state(root: Path) -> dict[str, str] | None:
    """Return `sha`, `branch` and `status` (clean or dirty) of the checkout at `root`, None where it is not one.

    A copy without its own `.git` inside another checkout is none: that commit would say nothing about it.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    sha = _git(root, "rev-parse", "HEAD")
    if top is None or sha is None or Path(top).resolve() != root.resolve():
        return None
    changes = _git(root, "status", "--porcelain")
    return {
        "sha": sha,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD") or "unknown",
        "status": "unknown" if changes is None else "dirty" if changes else "clean",
    }


def _git(root: Path, *command: str) -> str | None:
    """Return the output of git, None without git or outside a checkout."""
    try:
        done = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _machine(device: str) -> dict[str, Any]:
    kind = accelerator(torch.device(device))
    there = kind.available()
    return {
        "gpu": kind.name(torch.device(device)) if there else None,
        "cuda": torch.version.cuda if there and kind.cuda else None,
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": get_world_size(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@cache  # each asks for a file to be read and parsed
def version_of(package: str) -> str | None:
    """Return the version of an installed package; None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
