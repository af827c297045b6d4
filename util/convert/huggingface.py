"""Hugging Face's DETR: names of weights, and the files of a folder that `from_pretrained` loads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError


def convert(
    source: Path, output: Path, *, back: bool, architecture: Callable[[Mapping[str, Any], Path], dict[str, Any]]
) -> list[str]:
    """Write the other form of `source` to `output`."""
    raise UserError("hf: not there yet")
