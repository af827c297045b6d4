"""The lines that stand for a bar where there is no terminal."""

import pytest

from util.web.progress import ByteProgress, in_units


def test_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteProgress, "interval", 0)
    progress = ByteProgress("a.zip", total=100, done=20)
    for _ in range(16):
        progress.advance(5)
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"a.zip: {n} B of 100 B" for n in range(30, 101, 10)]


def test_what_is_quick_takes_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.web.progress.time.monotonic", lambda: 7.0)
    progress = ByteProgress("a.zip", total=100)
    for _ in range(20):
        progress.advance(5)
    assert capsys.readouterr().out == "a.zip: 100 B of 100 B, 0:00:00 left\n"


@pytest.mark.parametrize("total", [None, 0])
def test_no_lines_without_a_total(total: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    ByteProgress("a.zip", total=total).advance(0)
    assert capsys.readouterr().out == ""


def test_sizes_for_people() -> None:
    assert [in_units(n) for n in (0, 999, 1500, 252_907_541, 19_336_861_798)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "252.9 MB",
        "19.3 GB",
    ]
