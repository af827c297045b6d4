"""The page by module: it adds up, says what to do first, and a browser draws it from one file."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import module_report
import pytest
from rooflines import RoofError
from rooflines.modules.limits import above, read_limits
from rooflines.modules.run import compare, cut, read_run
from rooflines.modules.shapes import squares
from rooflines.modules.snapshot import BEFORE, NO_FRAME, read_peak

from tests.roofline.read.test_torch_trace_reader import BACKWARD, FORWARD, write

COSTS = """section,module,direction,kernel,fp32_flop,bytes_hbm,time_s
forward,backbone.layer1,forward,aten.convolution.default,9000,100,1
backward,backbone.layer1,backward,aten.convolution_backward.default,6000,100,1
"""


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A run with costs, roofs and memory, and a slower one with a trace alone."""
    plain, slow = tmp_path / "plain", tmp_path / "slow"
    plain.mkdir(), slow.mkdir()
    write(plain / "trace_rank0.json.gz", FORWARD + BACKWARD)
    (plain / "costs.csv").write_text(COSTS)
    (plain / "costs.roofs.toml").write_text('source = "made <here>"\n[bandwidth]\nHBM = 1e8\n[peak]\nfp32 = 1e9\n')
    (plain / "costs.memory.csv").write_text("module,saved_bytes,weight_bytes\n,5,0\nbackbone.layer1,1000,200\n")
    moved = [e | {"ts": e["ts"] + 100 * (e["ts"] >= 1e12 + 29), "dur": e["dur"] + 100 * _holds(e, 29)} for e in FORWARD]
    write(slow / "trace_rank0.json.gz", moved + [e | {"ts": e["ts"] + 100} for e in BACKWARD])
    return [plain, slow]


def _holds(event: dict[str, Any], moment: float) -> bool:
    return event["ts"] < 1e12 + moment < event["ts"] + event["dur"]


def test_parts_know_their_roof_and_what_bounds_them(folders: list[Path]) -> None:
    run = read_run(folders[0])
    parts = run.parts.set_index(["module", "direction"])
    assert run.step_s == pytest.approx(100e-6) and run.parts["time_s"].sum() == pytest.approx(run.step_s)
    forward = parts.loc[("backbone.layer1", "forward")]
    assert forward["least_s"] == pytest.approx(9e-6) and forward["bound"] == "arithmetic"  # 9 of its 18 us
    assert parts.loc[("backbone.layer1", "backward"), "bound"] == "neither memory nor arithmetic"  # 6 of 21 us


def test_two_runs_differ_where_the_second_is_slower(folders: list[Path]) -> None:
    first, second = map(read_run, folders)
    largest = compare(first, second, 2).iloc[0]
    assert (largest["module"], largest["direction"]) == ("backbone.layer1", "forward")
    assert largest["more_s"] == pytest.approx(100e-6)


@pytest.mark.parametrize("flags", [[], ["--over_time"]])
def test_without_a_name_no_page_is_written(
    folders: list[Path],
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    epoch = {"epoch": 0, "pixels": 9, "phases": {"forward": {"median_ms": 1, "steps": 2}}}
    (folders[0] / "timing.json").write_text(json.dumps({"epochs": [epoch], "flags": {}}))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    module_report.main([str(folders[0]), *flags])
    assert not list(Path().iterdir())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 1 and printed[-1] == module_report.PAGE


def test_a_run_stays_within_its_own_limits_and_a_change_fails(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    limits, page = tmp_path / "limits.toml", str(tmp_path / "page.html")
    module_report.main([str(folders[0]), "-o", page, "--write_limits", str(limits)])
    module_report.main([str(folders[0]), "-o", page, "--fail_above", str(limits)])  # no exit
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        module_report.main([str(folders[1]), "-o", page, "--fail_above", str(limits)])
    out = capsys.readouterr().out
    assert (
        "limits.toml" in str(ended.value.code) and "backbone.layer1 forward: 59.0% of the step, its limit is 23" in out
    )
    assert out.count("limit is") == 1  # smaller shares, and counts that the slow run lacks, are no faults
    text = limits.read_text()
    for old, new, words in (
        ("flop = 9000", "flop = 8999", "9,000 flop a step, its limit is 8,999"),
        ("calls = 3", "calls = 2", "3 calls a step, its limit is 2"),
        ('"loss_boxes"', '"gone"', "loss_boxes forward: 8.0% of the step, a module without a limit is 1.0%"),
    ):
        assert old in text
        limits.write_text(text.replace(old, new))
        assert any(words in line for line in above(read_run(folders[0]), read_limits(limits))), words
    for wrong, words in (
        ("depth = 2", "[[limit]]"),
        ("depth = no", "no readable"),
        (text + "calls = -1", "limits.toml"),
    ):
        limits.write_text(wrong)
        with pytest.raises(RoofError, match=re.escape(words)):
            read_limits(limits)


def test_the_peak_of_a_snapshot_names_who_allocated(folders: list[Path], tmp_path: Path) -> None:
    def event(action: str, address: int, size: int, *frames: str) -> dict[str, Any]:
        names = [{"filename": name, "line": 1, "name": "forward"} for name in frames]
        return {"action": action, "addr": address, "size": size, "frames": names}

    model, library = "/x/models/detector.py", "/x/site-packages/torch/nn/functional.py"
    events = [event("alloc", 1, 100, library, model), event("alloc", 2, 50, "aten.cpp"), event("free_completed", 9, 30)]
    events += [event("free_completed", 1, 100), event("alloc", 1, 20, library)]  # an address is used again
    blocks = [{"address": a, "size": s, "state": "active_allocated"} for a, s in ((1, 20), (2, 50), (7, 1000))]
    file = tmp_path / "m.pickle"
    file.write_bytes(pickle.dumps({"device_traces": [events, []], "segments": [{"blocks": blocks}]}))
    peak = read_peak(file)
    assert peak.total == 100 + 50 + 30 + 1000
    assert peak.by_place == {BEFORE: 1030, "models/detector.py forward": 100, NO_FRAME: 50}
    module_report.main([str(folders[0]), "-o", str(tmp_path / "p.html"), "--memory_snapshot", str(file)])
    assert "Memory of the GPU at its peak, 1.18 kB" in (tmp_path / "p.html").read_text()
    file.write_bytes(pickle.dumps(Path("x")))  # a pickle that names a class may run its code
    with pytest.raises(RoofError, match="m.pickle.*names no class"):
        read_peak(file)


def test_names_are_cut_by_levels_and_boxes_fill_the_map() -> None:
    assert cut("transformer.encoder.layers.2.self_attn", 3) == "transformer.encoder.layers.2"
    assert cut("outside any module", 1) == "outside any module"
    boxes = squares([6, 6, 4, 3, 2, 2, 1], (0, 0, 6, 4))
    assert [round(w * h, 6) for _, _, w, h in boxes] == [6, 6, 4, 3, 2, 2, 1]
    assert all(x >= 0 and y >= 0 and x + w <= 6 + 1e-9 and y + h <= 4 + 1e-9 for x, y, w, h in boxes)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        module_report.main([str(tmp_path), "-o", str(tmp_path / "x.html")])
    assert ended.value.code == 2 and "--torch_profile" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_browser_draws_the_page_of_two_runs(folders: list[Path], tmp_path: Path, browser_page: Any) -> None:
    module_report.main([*map(str, folders), "-o", str(tmp_path / "page.html")])
    browser_page.goto((tmp_path / "page.html").as_uri())
    assert browser_page.locator("svg").count() == 3  # two treemaps, one roofline
    assert browser_page.locator("table tr").nth(1).inner_text().split("\t")[0] == "backbone.layer1"
    assert "made <here>" in browser_page.inner_text("body")
    box = browser_page.locator("svg").first.bounding_box()
    assert box["width"] > 1000 and box["height"] > 300
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 1280
    texts = """[...document.querySelectorAll("svg g text")].filter(text =>
        text.getBBox().width > text.parentNode.querySelector("rect").getBBox().width).length"""
    assert browser_page.locator("svg g text").count() > 0 and browser_page.evaluate(texts) == 0
