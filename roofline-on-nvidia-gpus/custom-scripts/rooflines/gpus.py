"""The GPUs of `gpus.toml`: found by the name that a user writes, by the one in a report, or by capability."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pandas as pd

from . import RoofError

GPU_TABLE = Path(__file__).resolve().parents[1] / "gpus.toml"


@cache
def gpu_table() -> tuple[dict, ...]:
    """Return the rows of gpus.toml."""
    return tuple(tomllib.loads(GPU_TABLE.read_text(encoding="utf-8"))["gpu"])


def find_gpus(text: str) -> list[dict]:
    """Return the rows for a name as the user writes it ("a100-80", "H100 SXM"). Raises RoofError listing the names."""
    # "80GB" is the words 80 and gb, so that a user's "a100 80" is a part of it.
    words = re.findall(r"[a-z0-9]+?(?=gb|$|[^a-z0-9])", text.lower())
    exact = [row for row in gpu_table() if _words_of(row["name"]) == set(words)]
    # From strict to loose: just these words, these among others, their letters anywhere; at last a device's name as
    # reports have it.
    rows = exact or ([row for row in gpu_table() if _words_of(row["name"]).issuperset(words)] if words else [])
    if words and not rows:
        rows = [row for row in gpu_table() if all(word in row["name"].lower() for word in words)]
    rows = rows or [row for row in gpu_table() if re.search(row["match"], text)]
    if not rows:
        raise RoofError(f"--gpu {text}: not in gpus.toml, which has {', '.join(r['name'] for r in gpu_table())}")
    return rows


def _words_of(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+?(?=gb|$|[^a-z0-9])", name.lower()))


def find_gpu(text: str) -> dict:
    """Return the first row for a name as the user writes it. Raises RoofError listing the names."""
    return find_gpus(text)[0]


def row_of_device(device: str) -> dict | None:
    """Return the row for a device's name in a report, None for a number and for a name that the table lacks."""
    if not device or device.isdigit():
        return None
    return next((row for row in gpu_table() if re.search(row["match"], device)), None)


def describe_gpu(rows: pd.DataFrame) -> str:
    """Return the name and the capability of the GPU in tidy rows, as far as they have them."""
    device, capability = (str(rows[name].iloc[0]) for name in ("device", "compute_capability"))
    known = "" if device.isdigit() else device
    return " of ".join(filter(None, (known, f"capability {capability}" if capability else ""))) or "an unknown GPU"


def guess_gpu(device: str, compute_capability: str, hbm_rate: float = 0.0) -> tuple[dict | None, str]:
    """Return the row for a device's name, else for its capability, and a note when that is a guess.

    A name that the table lacks has no roofs: those of another GPU would be wrong without a word. hbm_rate: the largest
    measured byte/s from HBM; of several GPUs of a capability, the first that can do as much.
    """
    if row := row_of_device(device):
        return row, ""
    if device and not device.isdigit():
        return None, f"no roofs for {device}, a name that gpus.toml lacks (--gpu takes those of a GPU like it)"
    rows = [row for row in gpu_table() if row["compute_capability"] == compute_capability]
    if not rows:
        return None, f"no roofs for {device or 'this GPU'} (capability {compute_capability or 'unknown'}) in gpus.toml"
    # A card whose memory is slower than what was measured is not the one; 2 % are left for rounding.
    fast = [row for row in rows if row["hbm_bytes_per_second"] * 1.02 >= hbm_rate] or rows[-1:]
    others = ", ".join(row["name"] for row in rows if row is not fast[0])
    return fast[0], f"roofs of {fast[0]['name']}, guessed from capability {compute_capability}" + (
        f" (others: {others}): name it with --gpu" if others else ""
    )
