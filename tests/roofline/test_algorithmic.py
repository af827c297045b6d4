"""Measured over algorithmic: sums by section, for as many steps, and mistakes in one line."""

from pathlib import Path

import pandas as pd
import postprocess
import pytest
from rooflines import RoofError
from rooflines.algorithmic import describe, ratios, read_costs
from rooflines.table import tidy, write_table


def table(source: str, sections: dict[str, tuple[float, float]], run: str = "r") -> pd.DataFrame:
    """Two kernels a section, each with half the FLOPs and bytes."""
    return tidy(
        pd.DataFrame(
            [
                {
                    "run": run,
                    "section": section,
                    "kernel": kernel,
                    "name": kernel,
                    "source": source,
                    "time_s": 1e-3,
                    "fp32_flop": flop / 2,
                    "bytes_hbm": size / 2,
                    "first": number,
                }
                for number, (section, (flop, size)) in enumerate(sections.items())
                for kernel in "ab"
            ]
        )
    )


MEASURED = table("ncu", {"forward": (660.0, 300.0), "backward": (1200.0, 1800.0), "other": (9.0, 9.0)}, run="gpu")
COSTS = table("analytic", {"forward": (110.0, 100.0), "loss": (1.0, 1.0), "backward": (200.0, 200.0)})


def test_sections_in_both_are_compared() -> None:
    found = ratios(MEASURED, COSTS, steps=3)
    assert found["section"].tolist() == ["forward", "backward", "together"] and set(found["run"]) == {"gpu"}
    assert found["flop_ratio"].tolist() == [2.0, 2.0, 2.0]
    assert found["bytes_ratio"].tolist() == [1.0, 3.0, pytest.approx(2100 / 900)]
    assert found["algorithmic_flop"].tolist() == [330.0, 600.0, 930.0]
    assert "gpu forward" in describe(found) and "3.00" in describe(found)


def test_unmeasured_bytes_have_no_ratio() -> None:
    found = ratios(MEASURED.assign(bytes_hbm=float("nan")), COSTS)
    assert found["bytes_ratio"].isna().all() and found["flop_ratio"].notna().all()


def test_no_common_section_is_refused() -> None:
    with pytest.raises(RoofError, match="no section is in both .*optimizer_step; counted: forward, loss, backward"):
        ratios(table("ncu", {"optimizer_step": (1.0, 1.0)}), COSTS)


def test_only_a_count_is_taken_for_one(tmp_path: Path) -> None:
    write_table(MEASURED, tmp_path / "measured.csv")
    with pytest.raises(RoofError, match="measured.csv: not a table of main.py --count_costs"):
        read_costs(tmp_path / "measured.csv")
    with pytest.raises(RoofError, match="absent.csv: no such file"):
        read_costs(tmp_path / "absent.csv")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_table(MEASURED, tmp_path / "measured.csv")
    write_table(COSTS, tmp_path / "costs.csv")
    files = [str(tmp_path / "measured.csv"), "--algorithmic", str(tmp_path / "costs.csv"), "--steps", "3"]
    postprocess.main([*files, "-o", str(tmp_path / "out"), "--no_charts"])
    assert "measured over algorithmic" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "out" / "algorithmic.csv")
    assert written["flop_ratio"].tolist() == [2.0, 2.0, 2.0]
