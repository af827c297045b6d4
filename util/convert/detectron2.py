"""Detectron2: names of the weights in the wrapper of d2/."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError


def convert(
    source: Path, output: Path, *, back: bool, architecture: Callable[[Mapping[str, Any], Path], dict[str, Any]]
) -> list[str]:
    """Write the other form of `source` to `output`."""
    raise UserError("d2: not there yet")
