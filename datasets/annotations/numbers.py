"""Numbers as JSON files of the field write them: 12, 12.0, "12", and what is none."""

from typing import Any

#: Beyond this many pixels nothing is meant; it also keeps sums and pycocotools' integers far from overflow.
FARTHEST = 1e6
_INT64 = range(-(2**63), 2**63)


def to_int(value: Any) -> int | None:
    """`value` as an integer of 64 bits: an int, a decimal without fraction, or either as text; None for the rest."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = _int_of_text(value)
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and value in _INT64 else None


def to_float(value: Any) -> float | None:
    """`value` as a float (perhaps NaN or infinite): a number, or one as text; None for the rest."""
    if isinstance(value, bool):
        return None
    try:
        return float(value) if isinstance(value, int | float) or (isinstance(value, str) and "_" not in value) else None
    except ValueError:
        return None
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _int_of_text(text: str) -> int | float | None:
    try:
        return int(text) if "_" not in text else None
    except ValueError:
        return to_float(text)
