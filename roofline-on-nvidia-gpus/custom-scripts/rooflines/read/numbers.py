"""Numbers and units as Nsight Compute prints them: thousands separators of any locale, SI prefixes, n/a."""

import math
import re
from collections.abc import Iterable

NAN = math.nan

_BASES = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "b": 1.0,
    "byte": 1.0,
    "hz": 1.0,
    "cycle": 1.0,
    "inst": 1.0,
    "sector": 1.0,
    "request": 1.0,
    "thread": 1.0,
    "warp": 1.0,
    "op": 1.0,
    "block": 1.0,
}
_PREFIXES = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "K": 1e3, "G": 1e9, "g": 1e9, "T": 1e12}

# Numbers that only one of the two conventions can have written. "1,234" and "1.234" say nothing.
_DECIMAL_POINT = re.compile(r"\d\.(\d{1,2}|\d{4,})$|,\d{3},\d{3}|,\d{3}\.\d|^0\.\d|e[+-]?\d+$", re.I)
_DECIMAL_COMMA = re.compile(r"\d,(\d{1,2}|\d{4,})$|\.\d{3}\.\d{3}|\.\d{3},\d|^0,\d|[ \u00a0\u202f']\d{3},\d")
_POINT_NOISE = str.maketrans("", "", ", '’\u00a0\u202f")
_COMMA_NOISE = str.maketrans(",", ".", ". '’\u00a0\u202f")


def has_decimal_comma(values: Iterable[str]) -> bool:
    """Say whether numbers are written 27.595.520 and 65,77, as in Europe, by majority of those that tell."""
    comma = point = 0
    for value in values:
        value = value.partition(";")[0].strip()
        comma += _DECIMAL_COMMA.search(value) is not None
        point += _DECIMAL_POINT.search(value) is not None
    return comma > point


def parse_number(text: str, *, decimal_comma: bool = False) -> float:
    """Return the number in a cell, NaN for what is none (`n/a`, `(!) nan`, empty, a word).

    Of a cell with instances, `total; v0; v1`, the total counts.
    """
    text = text.partition(";")[0].strip().translate(_COMMA_NOISE if decimal_comma else _POINT_NOISE)
    try:
        return float(text)
    except ValueError:
        return NAN


def unit_factor(unit: str) -> float:
    """Return the factor that brings a value in `unit` to seconds, bytes, hertz and plain counts.

    Nsight Compute's prefixes are SI (Kbyte = 1000 byte). Its spellings over the versions: nsecond, ns, usecond, us,
    Kbyte/second, cycle/nsecond, Ghz. A unit that is not known (%, none) has the factor 1.
    """
    numerator, _, denominator = unit.strip().partition("/")
    return _simple_factor(numerator) / _simple_factor(denominator)


def _simple_factor(unit: str) -> float:
    lower = unit.strip().lower()
    for known in (lower, lower.removesuffix("s") if len(lower) > 2 else lower):
        if known in _BASES:
            return 1.0
        if known[1:] in _BASES and (prefix := _prefix(unit.strip()[:1], known[1:])):
            return prefix
    return 1.0


def _prefix(letter: str, base: str) -> float | None:
    """Return the prefix's factor. Capitals vary (Mbyte, mhz): milli exists only for time."""
    if letter in "mM":
        return 1e-3 if base in ("s", "sec", "second") else 1e6
    return _PREFIXES.get(letter)
