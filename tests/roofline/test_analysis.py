"""Intensities, rates, least times and bounds, against values by hand."""

import math

import pandas as pd
import pytest
from rooflines.analysis import analyse, by_name
from rooflines.roofs import Roofs
from rooflines.table import tidy

ROOFS = Roofs("x", {"L1": 8e12, "L2": 4e12, "HBM": 1e12}, {"fp32": 10e12, "tensor_tf32": 100e12})


def one(**values: float) -> pd.Series:
    """The analysis of one kernel of 1 ms."""
    rows = tidy(pd.DataFrame([{"kernel": "k", "name": "k", "time_s": 1e-3} | values]))
    return analyse(rows, ROOFS).iloc[0]


@pytest.mark.parametrize(
    ("values", "bound", "efficiency"),
    [
        ({"fp32_flop": 1e8, "bytes_hbm": 8e8}, "HBM", 0.8),
        ({"fp32_flop": 1e8, "bytes_hbm": 1e8, "bytes_l2": 2e9}, "L2", 0.5),
        ({"fp32_flop": 6e9, "bytes_hbm": 1e8}, "FP32", 0.6),
        ({"tensor_tf32_flop": 5e10, "fp32_flop": 1e9}, "TF32 tensor", 0.6),
        ({"fp32_flop": 1e6, "bytes_hbm": 1e6}, "latency", 0.001),
        ({"bytes_hbm": 5e8}, "HBM", 0.5),
    ],
)
def test_what_bounds_a_kernel(values: dict[str, float], bound: str, efficiency: float) -> None:
    row = one(**values)
    assert row["bound"] == bound
    assert row["efficiency"] == pytest.approx(efficiency)
    assert row["lost_s"] == pytest.approx(1e-3 * (1 - efficiency))


def test_intensities_and_rate() -> None:
    row = one(fp32_flop=8e6, bytes_l1=4e6, bytes_l2=2e6, bytes_hbm=0.0)
    assert (row["ai_l1"], row["ai_l2"], row["ai_hbm"]) == (2, 4, math.inf)
    assert row["rate"] == pytest.approx(8e9)
    assert row["share"] == 1


def test_without_roofs_there_is_no_verdict() -> None:
    row = analyse(tidy(pd.DataFrame([{"kernel": "k", "time_s": 1.0, "fp32_flop": 1.0}])), Roofs("x")).iloc[0]
    assert row["bound"] == ""
    assert math.isnan(row["efficiency"])


def test_kernels_of_a_name_are_joined_the_longest_first() -> None:
    rows = tidy(
        pd.DataFrame(
            {
                "kernel": ["a1", "b", "a2"],
                "name": ["a", "b", "a"],
                "grid": ["1", "1", "2"],
                "time_s": [1.0, 1.5, 2.0],
                "first": [0, 1, 2],
            }
        )
    )
    assert by_name(rows)[["name", "time_s", "launches"]].values.tolist() == [["a", 3.0, 2], ["b", 1.5, 1]]


@pytest.mark.parametrize(
    ("values", "bound", "efficiency"),
    [
        ({"flop_source": "missing"}, "", None),  # neither FLOPs nor bytes
        ({"flop_source": "missing", "bytes_hbm": 5e6}, "", None),  # its FLOPs may take the time
        ({"flop_source": "missing", "bytes_hbm": 5e8}, "HBM", 0.5),  # its bytes alone take half of it
        ({"flop_source": "cores", "fp32_flop": 1e6}, "", None),  # its bytes may take the time
        ({"flop_source": "cores", "bytes_hbm": 0.0}, "latency", 0.0),
    ],
)
def test_what_was_not_measured_may_be_the_roof(values: dict, bound: str, efficiency: float | None) -> None:
    row = one(**values)
    assert row["bound"] == bound or efficiency == 0.0
    assert math.isnan(row["efficiency"]) if efficiency is None else row["efficiency"] == pytest.approx(efficiency)
