"""Collecting some ranks of several, and what --module refuses; in this process, with stand-ins for the profilers."""

from pathlib import Path

import collect
import pytest
from rooflines.read.inputs import load_runs

from tests.roofline.test_collect import NCU, NSYS
from tests.stand_ins import StandIns


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """ncu, nsys, an A100 and a program, first in the PATH; the first of four processes."""
    found = StandIns(tmp_path)
    for name, body in (("ncu", NCU), ("nsys", NSYS), ("train", "")):
        found.add(name, body)
    found.add("nvidia-smi", "print('8.0, NVIDIA A100-SXM4-40GB')")
    for name, value in {"PATH": found.environ()["PATH"], "WORLD_SIZE": "4", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.slow
def test_chosen_ranks_have_files_of_their_own_and_the_others_run_plainly(
    stand_ins: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for rank in ("3", "1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert collect.main(["backward", "--ranks", "0,3", "-o", str(out), "--", "train"]) == 0
        if rank == "1":
            assert len([call for call in stand_ins.calls("ncu") if "--export" in call]) == 1, "rank 3 alone so far"
    assert len(stand_ins.calls("train")) == 3
    assert sorted(path.name for path in out.glob("*.csv")) == [f"output_run_backward_rank{n}.csv" for n in (0, 3)]
    loaded = load_runs([out])
    assert loaded.runs == ["run"] and sorted(set(loaded.rows["rank"])) == ["0", "3"]
    assert set(loaded.rows["section"]) == {"backward"}


def test_timelines_of_chosen_ranks_only(stand_ins: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("0", "2"):
        monkeypatch.setenv("RANK", rank)
        assert collect.main(["all", "--nsys", "--ranks", "2", "-o", str(tmp_path / "out"), "--", "train"]) == 0
    names = [path.name for path in (tmp_path / "out").rglob("*.nsys-rep")]
    assert names == ["timeline_run_all_rank2.nsys-rep"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["loss", "--ranks", "0,4"], "--ranks 0,4: there are 4 processes"),
        (["loss", "--ranks", "a"], "'a' are no ranks"),
        (["loss", "--name", "a_rank3"], "for a rank; choose another"),
        (["loss", "--module", "layer["], "--module layer[: no regular expression"),
        (["loss", "--module", "a/b"], "--module a/b: / would be read as part"),
        (["all", "--nsys", "--module", "a"], "--module chooses the kernels that are counted"),
    ],
)
def test_mistakes(stand_ins: StandIns, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture) -> None:
    try:
        code = collect.main([*arguments, "--", "train"])
    except SystemExit as ended:
        code = ended.code
    err = capsys.readouterr().err
    assert code == 2 and complaint in err and len(err.splitlines()) == 1
    assert stand_ins.calls("train") == []
