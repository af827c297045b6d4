"""benchmarks/reliability.py puts the figures of its parts together, and a part that says nothing is a fault."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reliability


def called_with(monkeypatch: pytest.MonkeyPatch, output: Path, *, silent: str = "") -> int:
    """The exit code of a run whose parts write one figure each; one is `silent`, as after a crash."""

    really = subprocess.run

    def write(command: list[str], **more: Any) -> subprocess.CompletedProcess:
        if "--only" not in command:
            return really(command, **more)  # git, for the report's head
        name, path = command[command.index("--only") + 1], Path(command[-1])
        if name != silent:
            path.write_text(json.dumps({"date": "2026-01-01", "seconds": 1, name: {"faults": [], "files": 3}}))
        return subprocess.CompletedProcess(command, -9 if name == silent else 0)

    monkeypatch.setattr(reliability.subprocess, "run", write)
    monkeypatch.setattr("sys.argv", ["reliability.py", "--output", str(output)])
    return reliability.run()


def test_parts_are_put_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "all.json"
    assert called_with(monkeypatch, output) == 0
    assert reliability.read_parts(output) == {name: {"faults": [], "files": 3} for name in reliability.PARTS}


def test_a_part_without_figures_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "all.json"
    assert called_with(monkeypatch, output, silent="long_run") == 1
    assert reliability.read_parts(output)["long_run"] == {"faults": ["exit code -9, and no figures"]}
