"""The command python -m util.profiling.report: it hands its words to the roofline scripts, and their exit code back."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from util.profiling.report import __main__ as command


def test_words_and_exit_code_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(words: list[str], check: bool) -> SimpleNamespace:
        seen.append(words)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.cli(["RUN", "--fail_above", "limits.toml"]) == 1
    (words,) = seen
    assert words[0] == sys.executable and words[2:] == ["RUN", "--fail_above", "limits.toml"]
    assert Path(words[1]).name == "module_report.py" and Path(words[1]).is_file()


def test_a_missing_script_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(command, "MODULE_REPORT", Path("gone.py"))
    assert command.cli(["RUN"]) == 2
    assert capsys.readouterr().err == "report: error: gone.py is missing: it makes the page\n"
