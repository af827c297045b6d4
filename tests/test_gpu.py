"""Tests that only a GPU can run; skipped, saying so, where there is none. `pytest -m gpu` runs these alone."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from engine import compute_losses, to_device
from tests.helpers import TINY, batch, build

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("flags", ["", "--masks", "--masks --mask_chunk 1"])
def test_losses_and_gradients_equal_those_of_the_cpu(flags: str) -> None:
    results = []
    samples, targets = batch()
    targets = [t | {"masks": torch.ones(len(t["labels"]), 40, 50, dtype=torch.bool)} for t in targets]
    for device in (torch.device("cpu"), torch.device("cuda")):
        torch.manual_seed(0)
        model, criterion, _ = build(flags)
        model, criterion = model.to(device).train(), criterion.to(device)
        _, losses = compute_losses(model, criterion, *to_device(samples, targets, device))
        criterion.total(losses).backward()
        gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        results.append(({name: value.item() for name, value in losses.items()}, gradient))
    (cpu_losses, cpu_gradient), (gpu_losses, gpu_gradient) = results
    assert gpu_losses == pytest.approx(cpu_losses, rel=2e-3, abs=1e-4)
    torch.testing.assert_close(gpu_gradient.norm(), cpu_gradient.norm(), rtol=5e-3, atol=0)


def test_a_run_trains_resumes_and_logs_the_memory(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = f"{TINY} --output_dir {tmp_path}".replace("--device cpu", "--device cuda")
    assert main.cli(f"{flags} --epochs 1".split()) == 0
    assert "max mem:" in capsys.readouterr().out
    assert main.cli(f"{flags} --epochs 2 --resume auto".split()) == 0
    rows = [json.loads(line) for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_trains_evaluates_and_resumes(amp: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = f"{TINY} --amp {amp} --output_dir {tmp_path}".replace("--device cpu", "--device cuda")
    assert main.cli(f"{flags} --epochs 1".split()) == 0
    scaler = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["scaler"]
    assert bool(scaler) == (amp == "fp16")
    assert main.cli(f"{flags} --tf32 --epochs 2 --resume auto".split()) == 0
    assert "--tf32" not in capsys.readouterr().out and torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")


def test_two_deterministic_runs_end_with_equal_bits(tmp_path: Path) -> None:
    """In processes of their own: cuBLAS reads its variable once."""
    flags = f"{TINY} --deterministic --num_workers 2 --epochs 2".replace("--device cpu", "--device cuda")
    results = []
    for name in ("first", "second"):
        command = [sys.executable, main.__file__, *flags.split(), "--output_dir", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
        results.append(torch.load(tmp_path / name / "checkpoint.pth", weights_only=True, map_location="cpu")["model"])
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_costs_are_counted_on_a_gpu(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    flags = f"{TINY} --epochs 1 --profile_warmup 1 --count_costs {path}".replace("--device cpu", "--device cuda")
    assert main.cli(flags.split()) == 0
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} == {"forward", "loss", "backward", "optimizer_step"}
    assert all(float(row["time_s"]) > 0 for row in rows)
    assert any(
        row["module"] == "backbone" and row["family"] == "convolution" for row in rows if row["section"] == "backward"
    )
