"""Joules in the log of a run with --energy, and the line where there is nothing that counts them."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, Run
from tests.nvml_stand_in import NvmlStandIn
from training import state
from training.energy import EnergyMeter, start_meter
from util.errors import UserError
from util.nvml import open_gpu
from util.plot_power import main as plot_power
from util.plot_power import power_table, read_power

CPU = torch.device("cpu")


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> EnergyMeter:
    """A GPU that uses 6 J from each look at its counter to the next."""
    monkeypatch.setitem(sys.modules, "pynvml", NvmlStandIn(per_reading=6000))
    return EnergyMeter(open_gpu(needed_by="--energy"), CPU)


def test_joules_of_each_step_and_image_are_shares_of_the_epochs(meter: EnergyMeter) -> None:
    meter.begin()
    shares = {"joules_per_step": 2.0, "joules_per_image": 0.5, "power_limit": 300.0}
    assert meter.of_training(steps=3, images=12) == {"joules": 6.0, **shares}


def test_an_evaluation_has_its_own(meter: EnergyMeter) -> None:
    stats, evaluator = meter.around(lambda: ({"loss": 1.0}, "evaluator"))()  # type: ignore[arg-type, return-value]
    assert (stats, evaluator) == ({"loss": 1.0, "joules": 6.0}, "evaluator")


def test_several_processes_add_up(meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.energy.get_world_size", lambda: 2)
    monkeypatch.setattr("training.energy.all_gather", lambda mine: [mine, 4.0])
    meter.begin()
    found = meter.of_training(steps=5, images=10)
    assert (found["joules"], found["joules_per_step"], found["joules_per_image"]) == (10.0, 2.0, 0.5)


def test_off_it_asks_nothing_and_leaves_the_evaluation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it would fail
    meter = start_meter(CPU, wanted=False)
    meter.begin()
    assert meter.of_training(steps=3, images=12) == {}
    assert meter.around(len) is len  # type: ignore[arg-type, comparison-overlap]


def test_without_a_gpu_that_counts_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--energy counts .* and this run computes on cpu"):
        start_meter(CPU, wanted=True)
    monkeypatch.setitem(sys.modules, "pynvml", NvmlStandIn(refuses="nvmlInit"))
    with pytest.raises(UserError, match="--energy: no NVML here"):
        start_meter(torch.device("cuda", 0), wanted=True)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_the_log_of_a_run_and_its_picture(
    run: Run, meter: EnergyMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(state, "start_meter", lambda device, wanted: meter if wanted else EnergyMeter(None, device))
    folder = tmp_path / "300W"
    flags = f"{TINY} --train_size 8 --val_size 2 --batch_size 2 --epochs 1 --output_dir {folder}"
    code, _, err = run(f"{flags} --energy")
    assert code == 0, err
    row = json.loads((folder / "log.txt").read_text())
    assert (row["train_joules"], row["train_joules_per_step"], row["train_joules_per_image"]) == (6.0, 1.5, 0.75)
    assert (row["test_joules"], row["train_power_limit"]) == (6.0, 300.0)
    plot_power([str(folder), "--output", str(tmp_path / "power.png")])
    assert "300W" in capsys.readouterr().out and (tmp_path / "power.png").stat().st_size > 5000


def test_figures_of_a_sweep_from_logs(tmp_path: Path) -> None:
    for watts in (400, 200):
        row = {"train_joules": 1000 * watts, "train_joules_per_image": 2.0, "train_step_time": 60 / watts}
        rows = [row | {"train_power_limit": float(watts), "test_coco_eval_bbox": [ap]} for ap in (0.1, 0.4)]
        (tmp_path / f"{watts}W").mkdir()
        (tmp_path / f"{watts}W" / "log.txt").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    runs = [read_power(tmp_path / name) for name in ("400W", "200W")]
    assert [(run.joules, run.ap, run.ap_per_megajoule) for run in runs] == [(8e5, 0.4, 0.5), (4e5, 0.4, 1.0)]
    assert [line.split()[0] for line in power_table(runs).splitlines()] == ["run", "200W", "400W"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "log.txt").write_text('{"epoch": 0}\n')
    with pytest.raises(UserError, match="no joules in it: train with --energy"):
        read_power(tmp_path / "plain")
