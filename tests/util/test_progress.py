"""Progress without a terminal: lines, not too many, and everything passes through."""

import pytest

from util import progress
from util.progress import with_progress


def test_everything_passes_and_lines_come_now_and_then(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FEWEST", 3)
    assert list(with_progress(iter(range(7)), "train images", total=7)) == list(range(7))
    assert capsys.readouterr().err.splitlines() == ["train images: 3 of 7", "train images: 6 of 7"]


def test_many_things_take_a_line_for_every_tenth(capsys: pytest.CaptureFixture) -> None:
    assert list(with_progress(range(25_000), "a")) == list(range(25_000))
    assert capsys.readouterr().err.splitlines()[:2] == ["a: 2500 of 25000", "a: 5000 of 25000"]


def test_few_things_pass_in_silence(capsys: pytest.CaptureFixture) -> None:
    assert list(with_progress([1, 2], "x", unit="thing")) == [1, 2]
    assert capsys.readouterr() == ("", "")
