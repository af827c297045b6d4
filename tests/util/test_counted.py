"""Progress without a terminal: lines, not too many, and everything passes through."""

import pytest

from util import counted as module
from util.counted import counted


def test_everything_passes_and_lines_come_now_and_then(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 3)
    assert list(counted(iter(range(7)), total=7, label="train images", unit="image")) == list(range(7))
    assert capsys.readouterr().err.splitlines() == ["train images: 3 of 7", "train images: 6 of 7"]


def test_few_things_pass_in_silence(capsys: pytest.CaptureFixture) -> None:
    assert list(counted([1, 2], total=2, label="x", unit="thing")) == [1, 2]
    assert capsys.readouterr() == ("", "")
