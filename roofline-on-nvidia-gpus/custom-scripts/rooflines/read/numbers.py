"""Numbers and units as Nsight Compute prints them: thousands separators of any locale, SI prefixes, n/a."""

import math
import re
from collections.abc import Iterable
from functools import cache

NAN = math.nan

#: Spellings of base units over the versions, and what they measure. Everything that is counted has one dimension.
_BASES = {
    **dict.fromkeys(("s", "sec", "second"), "time"),
    **dict.fromkeys(("b", "byte"), "byte"),
    "hz": "count/time",
    "cycle": "cycle",
    **dict.fromkeys(("inst", "sector", "request", "thread", "warp", "op", "ops", "block", "operation", "1"), "count"),
    "%": "share",
    "": "",
}
_PREFIXES = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "K": 1e3, "G": 1e9, "g": 1e9, "T": 1e12}
#: Units whose sums are whole numbers: a fraction of one is no value, so what looks like it is a thousands separator.
_WHOLE = {"byte", "b", "inst", "ns", "nsecond", "sector", "request", "cycle", "op", "thread", "warp", "block"}

# Numbers that only one of the two conventions can have written. "1,234" and "1.234" say nothing by themselves.
_DECIMAL_POINT = re.compile(r"\d\.(\d{1,2}|\d{4,})$|,\d{3},\d{3}|,\d{3}\.\d|^0\.\d|e[+-]?\d+$", re.I)
_DECIMAL_COMMA = re.compile(r"\d,(\d{1,2}|\d{4,})$|\.\d{3}\.\d{3}|\.\d{3},\d|^0,\d|[ \u00a0\u202f']\d{3},\d")
_THOUSANDS = {"point": re.compile(r"^\d{1,3}\.\d{3}$"), "comma": re.compile(r"^\d{1,3},\d{3}$")}
_POINT_NOISE = str.maketrans("", "", ", '’\u00a0\u202f")
_COMMA_NOISE = str.maketrans(",", ".", ". '’\u00a0\u202f")


def has_decimal_comma(values: Iterable[str | tuple[str, str, str]]) -> bool:
    """Say whether numbers are written 27.595.520 and 65,77, as in Europe, by majority of those that tell.

    values: as written, alone or as (value, metric, unit). With a unit, small numbers tell too: the sum of a metric in
    whole bytes or nanoseconds is no fraction, so 4.288 ns are 4288.
    """
    comma = point = 0
    for item in values:
        text, metric, unit = item if isinstance(item, tuple) else (item, "", "")
        value = text.partition(";")[0].strip()
        whole = unit.strip().lower() in _WHOLE and metric.endswith((".sum", "Duration"))
        # 4.288 ns can only be 4288: nobody measures fractions of a nanosecond in a sum.
        comma += _DECIMAL_COMMA.search(value) is not None or whole and _THOUSANDS["point"].match(value) is not None
        point += _DECIMAL_POINT.search(value) is not None or whole and _THOUSANDS["comma"].match(value) is not None
    return comma > point


def parse_number(text: str, *, decimal_comma: bool = False) -> float:
    """Return the number in a cell, NaN for what is none (`n/a`, `(!) nan`, empty, a word).

    Of a cell with instances, `total; v0; v1`, the total counts.
    """
    # Thousands separators go, and a decimal comma becomes a point.
    text = text.partition(";")[0].strip().translate(_COMMA_NOISE if decimal_comma else _POINT_NOISE)
    try:
        return float(text)
    except ValueError:
        return NAN


@cache
def parse_unit(unit: str) -> tuple[float, str | None]:
    """Return the factor that brings a value in `unit` to seconds, bytes, hertz and plain counts, and its dimension.

    Nsight Compute's prefixes are SI (Kbyte = 1000 byte). Its spellings over the versions: nsecond, ns, usecond, us,
    Kbyte/second, cycle/nsecond, Ghz. The dimension is "" for no unit at all, None for one that is not known.
    """
    numerator, _, denominator = unit.strip().partition("/")
    factor, dimension = _simple(numerator)
    if not denominator:
        return factor, "count" if dimension == "cycle" else dimension
    below, per = _simple(denominator)
    if dimension is None or per is None:
        return 1.0, None
    # Kbyte/second: 1000 over 1; cycle/nsecond: 1 over 1e-9.
    return factor / below, f"{'count' if dimension in ('', 'cycle') else dimension}/{per}"


def unit_factor(unit: str) -> float:
    """Return the factor of `parse_unit`, 1 for a unit that is not known."""
    return parse_unit(unit)[0]


def fits(dimension: str | None, wanted: str) -> bool:
    """Say whether a value of this dimension can be a quantity of the dimension `wanted`; no unit fits everything."""
    return dimension in ("", wanted) or wanted == "text"


def _simple(unit: str) -> tuple[float, str | None]:
    lower = unit.strip().lower()
    # Plurals, too; the s of "s" and "ms" is the unit itself.
    for known in (lower, lower.removesuffix("s") if len(lower) > 2 else lower):
        if known in _BASES:
            return 1.0, _BASES[known]
        if known[1:] and known[1:] in _BASES and (prefix := _prefix(unit.strip()[:1], known[1:])):
            return prefix, _BASES[known[1:]]
    return 1.0, None


def _prefix(letter: str, base: str) -> float | None:
    """Return the prefix's factor. Capitals vary (Mbyte, mhz): milli exists only for time."""
    if letter in "mM":
        return 1e-3 if base in ("s", "sec", "second") else 1e6
    return _PREFIXES.get(letter)
