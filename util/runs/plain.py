"""Turning values into types that JSON and `torch.load(weights_only=True)` read back."""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def to_plain(value: Any) -> Any:
    """Return `value` made of dict, list, tuple, str, int, float, bool, None and tensors only.

    A Namespace becomes a dict, an array a list, a numpy number a Python one; tensors stay as they are, and
    anything else (a Path, a device, an Enum) becomes its text.
    """
    if value is None or isinstance(value, Tensor) or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, argparse.Namespace):
        return to_plain(vars(value))
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [to_plain(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (np.generic, np.ndarray)):
        # `tolist` makes Python's numbers of numpy's, also of a single one.
        return to_plain(value.tolist())
    return str(value)
