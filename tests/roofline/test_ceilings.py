"""Measured roofs: a file that postprocess.py reads, and it says what measured them."""

import sys
from pathlib import Path

import ceilings
import pytest
import torch
from rooflines.roofs import read_roofs


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_measured_within_its_datasheet() -> None:
    roofs = ceilings.measure("cuda", size=2048)
    assert roofs.bandwidth["HBM"] > 1e11
    assert roofs.peak["fp32"] > 1e12
