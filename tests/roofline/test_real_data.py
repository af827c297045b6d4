"""Real CSVs of an A100 (public hgp_detr data): figures that the usual scripts get wrong. Skipped without the files."""

from pathlib import Path

import pandas as pd
import pytest
from rooflines.read.counters import tabulate
from rooflines.read.csv import read_ncu_csv
from rooflines.read.inputs import load_runs
from rooflines.table import tensor_flop, total_flop


def table(folder: Path, name: str) -> pd.DataFrame:
    return tabulate(read_ncu_csv(folder / name), per_launch=True)


@pytest.mark.parametrize(
    ("name", "kernels", "tensor_kernels", "flops", "share"),
    [
        ("output_bs8_optimized_loss.csv", 27, 4, 112.2e9, 0.650),
        ("output_bs8_optimized_AMP_unscaled_precast_loss.csv", 22, 5, 57.3e9, 0.423),
        ("body_output_basic_loss.csv", 25, 5, 25.1e9, 0.660),
    ],
)
def test_tensor_work_and_its_share_of_time(
    ncu_dir: Path, name: str, kernels: int, tensor_kernels: int, flops: float, share: float
) -> None:
    rows = table(ncu_dir, name)
    work = tensor_flop(rows)
    assert len(rows) == kernels
    assert (work > 0).sum() == tensor_kernels
    assert work.sum() == pytest.approx(flops, rel=2e-3)
    assert rows.loc[work > 0, "time_s"].sum() / rows["time_s"].sum() == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "number", "flops"),
    [
        ("output_bs8_optimized_loss.csv", 4, 27_858_567_168),
        ("output_bs8_optimized_AMP_unscaled_precast_loss.csv", 6, 27_858_567_168),
        ("excerpt_output_basic_amp_optimizer_step_ids81-83_tail.csv", 2, 138_412_032),
        ("excerpt_output_basic_amp_optimizer_step_ids81-83_tail.csv", 1, 41_943_040),
        ("body_output_basic_loss.csv", 10, 92_274_688),
        ("body_output_basic_loss.csv", 24, 0),
        ("output_bs8_optimized_loss.csv", 2, 0),
        ("excerpt_output_basic_backward_ids48-53_tail.csv", 4, 0),
    ],
)
def test_exact_tensor_flops(ncu_dir: Path, name: str, number: int, flops: int) -> None:
    assert tensor_flop(table(ncu_dir, name)).iloc[number] == flops


def test_counts_of_cuda_cores_fit_their_grids(ncu_dir: Path) -> None:
    softmax = table(ncu_dir, "excerpt_output_basic_backward_ids48-53_tail.csv").iloc[2]
    assert softmax["name"] == "SoftMaxBackward"
    assert softmax["time_s"] * 1e6 == pytest.approx(133.5, abs=0.1)
    frozen_norm = table(ncu_dir, "output_bs8_optimized_loss.csv").iloc[2]
    assert total_flop(frozen_norm.to_frame().T).item() == 24_182_784, "one multiplication per element, not 1.669 GFLOP"


def test_all_hundred_kernels_follow_the_rule_of_names(ncu_dir: Path) -> None:
    rows = pd.concat([table(ncu_dir, path.name) for path in sorted(ncu_dir.glob("*.csv"))], ignore_index=True)
    assert len(rows) == 100
    assert set(rows["flop_source"].astype(str)) == {"cores", "inst_x_shape", "constants_excluded"}
    assert ((rows["tensor_inst"] > 0) == rows["flop_source"].isin(["inst_x_shape", "constants_excluded"])).all()
    assert (rows["bytes_l2"] > rows["bytes_l1"]).sum() == 93


def test_the_warnings_name_what_the_data_holds(ncu_dir: Path) -> None:
    loaded = load_runs([ncu_dir / "output_bs8_optimized_loss.csv"])
    text = "\n".join(loaded.warnings)
    for part in (
        "25 of 27 kernels move more bytes at L2",
        "13 kernels execute HFMA2.MMA",
        "every kernel name occurs exactly once",
        "section loss holds convolution",
        "roofs of A100 SXM 40 GB, guessed",
    ):
        assert part in text
    assert loaded.roofs["bs8_optimized"].peak["tensor_tf32"] / 1e12 == pytest.approx(120.8, abs=0.1)
