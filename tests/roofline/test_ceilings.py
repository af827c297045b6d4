"""Measured roofs: a file that postprocess.py reads, and it says what measured them."""

import sys
import tomllib
from pathlib import Path

import ceilings
import pytest
import torch
from rooflines import RoofError, cpu_rates, model_shapes
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


def test_a_models_own_operators_are_measured_alone(tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    flop = 2 * 2 * 4 * 4 * 5 * 3 * 9  # 3 channels to 5 on 4 x 4 pixels of two images
    table.write_text(
        "kernel,grid,family,launches,fp32_flop,time_s\n"
        f'aten.convolution.default,"2x3x8x8, 5x3x3x3, 5",convolution,2,{2 * flop},1\n'
        f'aten.convolution_backward.default,"2x5x4x4, 2x3x8x8, 5x3x3x3",convolution,1,{2 * flop},1\n'
        'aten.addmm.default,"4, 2x3, 3x4",matrix product,1,48,1\naten.relu.default,2x2,elementwise,1,9,1\n'
    )
    shapes = model_shapes.largest_shapes(table, 3)
    assert shapes["flop"].tolist() == [flop, 2 * flop, 48] and shapes["share"].sum() < 1
    tensors = [torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3)]
    assert model_shapes._call(torch, "aten.convolution.default", tensors, flop)().shape == (2, 5, 4, 4)  # by stride 2
    rates = model_shapes.measure_shapes(torch, shapes, repeats=1)
    assert [rate.type for rate in rates] == ["float32"] * 3 + ["bfloat16"] * 3 and all(rate.value > 0 for rate in rates)
    table.write_text("kernel,grid,family,time_s\nsgemm,1,matrix product,1\n")
    with pytest.raises(RoofError, match="costs.csv: no convolution"):
        model_shapes.largest_shapes(table, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_measured_within_its_datasheet() -> None:
    roofs = ceilings.measure("cuda", size=2048)
    assert roofs.bandwidth["HBM"] > 1e11
    assert roofs.peak["fp32"] > 1e12
