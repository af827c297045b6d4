"""Measured roofs: a file that postprocess.py reads, and it says what measured them."""

import sys
import tomllib
from pathlib import Path

import ceilings
import pytest
import torch
from rooflines import cpu_rates
from rooflines.roofs import Roofs, read_roofs


def test_a_cpu_is_measured_by_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(ceilings, "REPEATS", 1)
    monkeypatch.setattr(
        sys, "argv", ["ceilings.py", "--device", "cpu", "--size", "64", "-o", str(tmp_path / "roofs.toml")]
    )
    ceilings.main()
    roofs = read_roofs(tmp_path / "roofs.toml")
    assert "torch" in roofs.source and "CPU" in roofs.device
    assert set(roofs.bandwidth) == {"HBM"} and set(roofs.peak) == {"fp32", "fp64", "tensor_bf16"}
    assert roofs.bandwidth["HBM"] > 1e8 and roofs.peak["fp32"] > 1e6
    assert "memory" in capsys.readouterr().out


def test_a_missing_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["ceilings.py", "--device", "cuda"])
    with pytest.raises(SystemExit) as end:
        ceilings.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.strip() == "--device cuda: torch sees no GPU here; --device cpu measures this CPU"


def test_a_cpus_rates_stand_beside_the_roofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "measure", lambda device, size: Roofs("CPU", {"HBM": 1e9}, {"fp32": 1e9}))
    found = cpu_rates.measure_rates(torch, side=16, sizes=(4096, 65536), repeats=1)
    monkeypatch.setattr(ceilings, "measure_rates", lambda torch, side, repeats: found)
    path = tmp_path / "roofs.toml"
    monkeypatch.setattr(sys, "argv", ["ceilings.py", "--device", "cpu", "--details", "-o", str(path)])
    ceilings.main()
    rates = tomllib.loads(path.read_text())["rate"]
    assert {(r["what"], r["bytes"]) for r in rates if r["unit"] == "B/s"} == {
        (what, size) for what in ("copy", "triad") for size in (4096, 65536)
    }
    assert {r["type"] for r in rates if r["what"] == "matrix product"} == {"float64", "float32", "bfloat16"}
    assert all(r["value"] > 0 for r in rates) and {1, torch.get_num_threads()} == {r["threads"] for r in rates}
    assert read_roofs(path).bandwidth == {"HBM": 1e9}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_measured_within_its_datasheet() -> None:
    roofs = ceilings.measure("cuda", size=2048)
    assert roofs.bandwidth["HBM"] > 1e11
    assert roofs.peak["fp32"] > 1e12
