"""Examples that hypothesis makes are the same in every run, whatever the process has imported before."""

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st


def draw_examples() -> list[str]:
    drawn = []

    @given(st.integers() | st.text() | st.floats())
    def note(value: object) -> None:
        drawn.append(repr(value))

    note()
    return drawn


def test_an_imported_module_changes_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = draw_examples()
    numbers = [3**i for i in range(20, 200)]
    (tmp_path / "odd_numbers.py").write_text(f"NUMBERS = {numbers}\nWORDS = {[f'word {n}' for n in numbers]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("odd_numbers")
    assert draw_examples() == before
