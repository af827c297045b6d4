"""Numbers as a report writes them down."""

import numpy as np

#: Decimals.
DIGITS = 5


def number(value: float) -> float | None:
    """Return a rounded number, None for one that was not measured, which COCO marks by -1."""
    return None if value < 0 else round(float(value), DIGITS)


def as_list(values: np.ndarray) -> list[float]:
    """Return rounded numbers."""
    return np.round(values, DIGITS).tolist()
