"""Completion of flags in a real bash."""

import subprocess
import sys

import pytest

import main

pytest.importorskip("shtab", reason="shtab makes the scripts")


def complete(script: str, *words: str) -> list[str]:
    """Return what bash proposes for the last of the words, once the script is loaded."""
    ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _flags_of_python_script"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}\necho ${{COMPREPLY[@]}}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_completes_flags_and_their_choices(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main.parse_flags(["--print_completion", "bash"])
    script = capsys.readouterr().out
    assert stop.value.code == 0
    assert complete(script, "python", "main.py", "--num_q") == ["--num_queries"]
    assert complete(script, "python3", "./main.py", "--lr", "1", "--amp", "bf") == ["bf16"]
    assert complete(script, "python", "other.py", "--num_q") == []


def test_without_shtab_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as stop:
        main.parse_flags(["--print_completion", "zsh"])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "pip install shtab" in err and err.count("\n") == 1
