"""Numbers and units as Nsight Compute prints them."""

import math

import pytest
from rooflines.read.numbers import has_decimal_comma, parse_number, parse_unit, unit_factor


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,089,858,851.55", 1089858851.55),
        ("81,152", 81152),
        ("0", 0),
        ("5e-3", 0.005),
        ("12; 3; 4", 12),
        (" 7 ", 7),
        ("1'234'567", 1234567),
        ("1\u202f234", 1234),
    ],
)
def test_numbers_with_a_decimal_point(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("27.595.520", 27595520), ("65,77", 65.77), ("1.089.858.851,55", 1089858851.55)]
)
def test_numbers_with_a_decimal_comma(text: str, value: float) -> None:
    assert parse_number(text, decimal_comma=True) == value


@pytest.mark.parametrize("text", ["n/a", "(!) nan", "", "no data", "nan"])
def test_what_is_no_number_is_nan(text: str) -> None:
    assert math.isnan(parse_number(text))


@pytest.mark.parametrize(
    ("values", "comma"),
    [
        (["1,234", "5,186", "1,089,858,851.55"], False),
        (["1.234", "65,77"], True),
        (["27.595.520"], True),
        (["1,234", "5"], False),
        (["1.234"], False),
        (["1\u00a0234,5", "7"], True),
        ([], False),
    ],
)
def test_the_locale_is_told_from_the_numbers(values: list[str], comma: bool) -> None:
    assert has_decimal_comma(values) is comma


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("byte", 1),
        ("Kbyte", 1e3),
        ("Mbyte", 1e6),
        ("Gbyte", 1e9),
        ("nsecond", 1e-9),
        ("ns", 1e-9),
        ("usecond", 1e-6),
        ("us", 1e-6),
        ("msecond", 1e-3),
        ("ms", 1e-3),
        ("second", 1),
        ("s", 1),
        ("cycle/second", 1),
        ("cycle/nsecond", 1e9),
        ("Ghz", 1e9),
        ("Mhz", 1e6),
        ("hz", 1),
        ("Kbyte/second", 1e3),
        ("Gbyte/second", 1e9),
        ("byte/cycle", 1),
        ("inst", 1),
        ("%", 1),
        ("", 1),
    ],
)
def test_units_become_si(unit: str, factor: float) -> None:
    assert unit_factor(unit) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("values", "comma"),
    [
        ([("4.288", "gpu__time_duration.sum", "ns")], True),
        ([("1.024", "dram__bytes_write.sum", "byte")], True),
        ([("1,024", "dram__bytes_write.sum", "byte")], False),
        ([("1.024", "dram__bytes_write.sum", "Kbyte")], False),  # may be 1.024 kB
        ([("1.024", "sm__cycles_elapsed.avg", "cycle")], False),  # an average may have decimals
        ([("33.024", "dram__bytes.sum", "byte"), ("1,5", "x.avg", "%")], True),
    ],
)
def test_small_numbers_tell_by_their_unit(values: list[tuple[str, str, str]], comma: bool) -> None:
    assert has_decimal_comma(values) is comma


@pytest.mark.parametrize(
    ("unit", "factor", "dimension"),
    [
        ("Gbyte/s", 1e9, "byte/time"),
        ("inst/cycle", 1, "count/cycle"),
        ("cycle/nsecond", 1e9, "count/time"),
        ("%", 1, "share"),
        ("", 1, ""),
        ("furlong", 1, None),
    ],
)
def test_units_have_a_dimension(unit: str, factor: float, dimension: str | None) -> None:
    assert parse_unit(unit) == (pytest.approx(factor), dimension)
