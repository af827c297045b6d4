"""Files and folders in; broken ones are named, warnings say where data contradicts itself."""

from pathlib import Path

import pytest
from rooflines import RoofError
from rooflines.read.inputs import find_files, load_runs
from rooflines.roofs import Roofs, write_roofs
from rooflines.table import write_table

from tests.roofline.ncu_files import CAT, CONV, Kernel, long_rows


def write(path: Path, *kernels: Kernel) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, kernel in enumerate(kernels):
        kernel.id = place
    path.write_text("\n".join(long_rows(list(kernels))) + "\n")
    return path


def test_a_broken_file_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    good = write(tmp_path / "output_a_loss.csv", Kernel.counted(CONV))
    bad = tmp_path / "output_b_loss.csv"
    bad.write_text("nothing here\n")
    loaded = load_runs([good, bad])
    assert loaded.runs == ["a"]
    assert loaded.warnings[0].startswith(f"left out: {bad}: not a CSV of Nsight Compute")
    with pytest.raises(RoofError, match="output_b_loss.csv"):
        load_runs([bad])


def test_folders_bare_calls_and_missing_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "run" / "output_a.csv", Kernel.counted(CONV))
    (tmp_path / "run" / "kernels.csv").write_text("written by an earlier call")
    assert find_files([tmp_path / "run"]) == [file]
    monkeypatch.chdir(tmp_path / "run")
    assert find_files([]) == [Path("output_a.csv")]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RoofError, match="no output"):
        find_files([])
    with pytest.raises(RoofError, match="nowhere: no such file"):
        find_files([Path("nowhere")])


def test_a_table_is_read_again_with_its_roofs(tmp_path: Path) -> None:
    first = load_runs([write(tmp_path / "output_a_loss.csv", Kernel.counted(CONV, tensor=5))])
    write_table(first.rows, tmp_path / "kernels.csv")
    write_roofs(Roofs("mine", {"HBM": 1e12}, {"fp32": 1e13}, source="by hand"), tmp_path / "kernels.roofs.toml")
    again = load_runs([tmp_path / "kernels.csv"])
    assert again.rows["tensor_tf32_flop"].tolist() == [5 * 2048]
    assert again.roofs["a"].source == "by hand"
    assert again.roofs["a"].peak == {"fp32": 1e13}


def test_a_roofs_file_or_a_name_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "output_a.csv", Kernel.counted(CONV, rate=1.41e9))
    write_roofs(Roofs("mine", {"HBM": 7e11}, {}), tmp_path / "r.toml")
    assert load_runs([path], roofs_file=tmp_path / "r.toml").roofs["a"].bandwidth == {"HBM": 7e11}
    assert load_runs([path], gpu="A100 SXM 80").roofs["a"].bandwidth["HBM"] == 2039e9


LONG = {"cycles": 1e6, "rate": 1e9, "lts": 10, "l1tex": 10, "dram": 10}


@pytest.mark.parametrize(
    ("kernels", "warning"),
    [
        ([Kernel.counted(CONV, **LONG | {"lts": 20})], "1 of 1 kernels move more bytes at L2 than at L1"),
        ([Kernel.counted(CONV, **LONG | {"dram": 20})], "1 of 1 kernels move more bytes at HBM than at L2"),
        (
            [Kernel.counted(CAT, tensor=6913, hfma=221_186, **LONG)],
            "1 kernels execute HFMA2.MMA on the tensor pipe to load constants",
        ),
        (
            [Kernel.counted("a", **LONG), Kernel.counted("b", **LONG | {"rate": 1.4e9})],
            "clocks differ between kernels, 1.00 to 1.40 GHz",
        ),
        ([Kernel.counted("flash<half>", tensor=5, **LONG)], "tensor FLOPs estimated from the usual matrix shape"),
        ([Kernel.counted("flash<half>", tensor=5, cc="9.0", **LONG)], "tensor instructions of unknown shape"),
        ([Kernel.counted(CONV, fadd=1e12, **LONG)], "1 kernels are above their roof"),
        ([Kernel.counted(CONV, **LONG)], "section loss holds convolution (100 % of its time)"),
        ([Kernel.counted(f"k{n}", **LONG) for n in range(10)], "every kernel name occurs exactly once"),
        ([Kernel(metrics={"gpu__time_duration.sum": (1, "us")})], "no FLOPs of CUDA cores"),
        ([Kernel.counted(CONV, cc="6.0", **LONG)], "no roofs for 0 (capability 6.0) in gpus.toml: give --roofs FILE"),
        (
            [Kernel.counted("a", **LONG), Kernel.counted("b", **LONG), Kernel("c", {"dram__bytes.sum": (1, "byte")})],
            "1 of 3 launches lack metrics",
        ),
    ],
)
def test_contradictions_are_warnings(tmp_path: Path, kernels: list[Kernel], warning: str) -> None:
    loaded = load_runs([write(tmp_path / "output_a_loss.csv", *kernels)])
    assert any(warning in line for line in loaded.warnings), loaded.warnings


def test_sound_data_has_no_warning(tmp_path: Path) -> None:
    sound = Kernel.counted("ampere_sgemm_128x64_tn", cycles=1e6, rate=1.4e9, ffma=1e9, l1tex=4e7, lts=2e7, dram=1e7)
    assert load_runs([write(tmp_path / "output_a_forward.csv", sound)], gpu="A100 SXM 40").warnings == []


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("x.nsys-rep", "x", "timeline of Nsight Systems"),
        ("x.csv", "Time (%),Total Time (ns),Instances,Style,Range\n1,2,3,PushPop,k\n", "summary of Nsight Systems"),
        ("x.ncu-rep", "SQLite format 3\0", "an SQLite file"),
        ("x.ncu-rep", "<html></html>", "only named like a report"),
        ("x.csv", "", "an empty file"),
    ],
)
def test_files_of_other_tools_are_named_for_what_they_are(tmp_path: Path, name: str, content: str, kind: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RoofError, match=kind):
        load_runs([tmp_path / name])


def test_a_csv_that_is_named_like_a_report_is_read(tmp_path: Path) -> None:
    assert load_runs([write(tmp_path / "output_a.ncu-rep", Kernel.counted(CONV))]).runs == ["a"]
