"""Values that count as a number, and values that do not."""

import math
from typing import Any

import pytest

from datasets.annotations.parse import to_float, to_int


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3), (3.0, 3), ("3", 3), (" -3 ", -3), ("3.0", 3), ("1e3", 1000), (2**63 - 1, 2**63 - 1), (-0.0, 0)],
)
def test_integers(value: Any, expected: int) -> None:
    assert to_int(value) == expected and type(to_int(value)) is int


@pytest.mark.parametrize(
    "value",
    [None, True, 3.5, "3.5", "three", "", "1_0", "1_0.0", 2**63, -(2**63) - 1, 1e30, "9" * 5000, math.nan, [3], {}],
)
def test_no_integers(value: Any) -> None:
    assert to_int(value) is None


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), ("2.5", 2.5), ("1e400", math.inf), (10**400, math.inf), (-(10**400), -math.inf)]
)
def test_floats(value: Any, expected: float) -> None:
    assert to_float(value) == expected and type(to_float(value)) is float


def test_nan_is_a_float() -> None:
    assert math.isnan(to_float(math.nan)) and math.isnan(to_float("nan"))


@pytest.mark.parametrize("value", [None, True, "wide", "", "1_0", [1], {}])
def test_no_floats(value: Any) -> None:
    assert to_float(value) is None
