"""A benchmark that is stopped goes on with the rounds that it had made."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import cost_card
from benchmarks.kept_rounds import KeptRounds


def test_a_stopped_cost_card_goes_on_and_writes_every_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def measure(case: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
        if len(made) == 3:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(case)
        return {"predicted": 1.0, "measured": float(len(made))}

    monkeypatch.setattr(cost_card, "measure", measure)
    monkeypatch.setattr(cost_card, "write_images", lambda folder: folder)
    output = tmp_path / "card.json"
    flags = ["cost_card.py", "--only", "r50", "shapes", "--rounds", "2", "--output", str(output)]
    monkeypatch.setattr("sys.argv", flags)
    with pytest.raises(KeyboardInterrupt):
        cost_card.main()
    assert not output.exists()
    cost_card.main()
    assert made == ["r50", "r50", "shapes", "stopped", "shapes"]
    assert "card.part: goes on behind 3 rounds" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert report["rounds"]["r50"] == {"predicted": [1.0, 1.0], "measured": [1.0, 2.0]}
    assert report["medians"]["shapes"] == {"predicted": 1.0, "measured": 4.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json"]


def test_rounds_of_other_flags_are_begun_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KeptRounds(tmp_path / "x.part", {"threads": 1}).add("a", 1.0)
    assert KeptRounds(tmp_path / "x.part", {"threads": 1}).of("a") == [1.0]
    assert KeptRounds(tmp_path / "x.part", {"threads": 2}).of("a") == []
    assert "begun anew" in capsys.readouterr().out
