"""Style of the charts: colours apart for colour-blind eyes (Okabe and Ito's), one marker per unit, short numbers."""

import re
from pathlib import Path
from typing import Any

from .. import atomic_file
from ..columns import LEVELS, MEMORY_ONLY, UNMEASURED

INK, FAINT, ROOF = "#222222", "#8a8a8a", "#4d4d4d"
UNIT_COLOURS = {
    "fp64": "#b8a800",
    "fp32": "#0072B2",
    "fp16": "#56B4E9",
    "tensor_fp64": "#E69F00",
    "tensor_tf32": "#D55E00",
    "tensor_bf16": "#CC79A7",
    "tensor_fp16": "#009E73",
    "tensor_fp8": "#4b2991",
    "tensor_fp4": "#7a0f3f",
    MEMORY_ONLY: "#b9b9b9",
    UNMEASURED: "#d9d2c5",
}
UNIT_MARKERS = {
    "fp64": "D",
    "fp32": "o",
    "fp16": "s",
    "tensor_fp64": "d",
    "tensor_tf32": "^",
    "tensor_bf16": "v",
    "tensor_fp16": "P",
    "tensor_fp8": "X",
    "tensor_fp4": "h",
    MEMORY_ONLY: "o",
    UNMEASURED: "o",
}
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#4b2991", "#b8a800")
SECTION_COLOURS = {"forward": "#0072B2", "loss": "#CC79A7", "backward": "#E69F00", "optimizer_step": "#009E73"}
LEVEL_MARKERS = {"L1": "^", "L2": "s", "HBM": "o"}
DPI = 110
_GDDR = re.compile(r"RTX|GTX|Quadro|\bT4\b|\bL4\b|\bL40|\bA10\b|\bA10G|\bA16\b|\bA2\b|\bA40\b|A[2456]000")

_SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def si(value: float, unit: str, digits: int = 3) -> str:
    """Return a number with SI prefix and unit: 120.4 TFLOP/s, 1.56 TB/s; "-" for what is not known."""
    if value != value:
        return "-"
    for factor, prefix in _SI:
        if float(f"{abs(value):.{digits}g}") >= factor:  # 999,999 is 1.00 M, not 1,000 k
            return f"{significant(value / factor, digits)} {prefix}{unit}"
    return f"{significant(value, digits)} {unit}"


def significant(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits and no exponent."""
    if value != value:
        return "-"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    number = float(text)
    if abs(number) >= 10 ** (digits - 1):
        return f"{number:,.0f}"
    # Decimals are what the digits before the point leave over.
    return f"{number:.{max(0, digits - 1 - _exponent(number))}f}" if abs(number) >= 1e-4 else text


def intensity(value: float) -> str:
    """Return FLOP per byte in at most seven characters, so that it stays in its column."""
    text = significant(value)
    return text if len(text) <= 7 else f"{value:.1e}"


def _exponent(number: float) -> int:
    return int(f"{number:e}".partition("e")[2])


def seconds(value: float) -> str:
    """Return a time in the unit that suits it: 412 us, 2.00 ms."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{significant(value / factor)} {unit}"
    return "-" if value != value else f"{significant(value * 1e9)} ns"


def shorten(text: object, width: int) -> str:
    """Return a text in at most `width` characters; of a long one both ends, for types and tiles stand at the end."""
    text = str(text)
    end = width // 3
    return text if len(text) <= width else f"{text[: width - end - 2]}..{text[-end:]}"


def percent(value: float) -> str:
    """Return a share in percent, with a decimal below 10 %; "-" for what is not known."""
    return "-" if value != value else f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %"


def level_name(level: str, device: str) -> str:
    """Return the name of a level: the farthest is HBM on most GPUs, DRAM on cards with GDDR, memory on a CPU."""
    if level != list(LEVELS)[-1]:
        return level
    return "memory" if str(device).startswith("CPU") else "DRAM" if _GDDR.search(str(device)) else level


def bar_style(unit: str) -> dict[str, Any]:
    """Return how a bar of a unit's time is filled: hatched without FLOPs, dotted where they were not measured."""
    if unit in (MEMORY_ONLY, UNMEASURED):
        hatch = "////" if unit == MEMORY_ONLY else "...."
        return {"hatch": hatch, "edgecolor": "#7d7d7d", "facecolor": "#eeeeee"}
    return {"color": UNIT_COLOURS[unit], "alpha": 0.85}


def rate_text(row: Any) -> str:
    """Return a row's rate, or why it has none."""
    if row["unit"] in (MEMORY_ONLY, UNMEASURED):
        return "no FLOPs" if row["unit"] == MEMORY_ONLY else "not measured"
    return si(row["rate"], "FLOP/s")


def series_colours(names: list[str]) -> dict[str, str]:
    """Return a colour for each section, run or family; DETR's sections always have the same."""
    free = [colour for colour in SERIES if colour not in {SECTION_COLOURS.get(name) for name in names}]
    return {name: SECTION_COLOURS.get(name) or free[place % len(free)] for place, name in enumerate(names)}


def new_figure(width: float, height: float) -> Any:
    """Return a matplotlib figure of this size in inches, without pyplot and its global state."""
    from matplotlib.figure import Figure  # matplotlib takes its time to load: only who draws waits for it

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def say_nothing(axes: Any, text: str) -> None:
    """Write in the middle of an empty chart why there is nothing in it."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=11, color=FAINT)
    axes.axis("off")


def save(figure: Any, stem: Path, formats: tuple[str, ...] = ("png", "svg")) -> list[Path]:
    """Write the figure as stem.png, stem.svg, ... and return the paths. SVGs keep their text as text."""
    import matplotlib

    paths = []
    # The salt fixes the ids inside an SVG, which are random otherwise.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "roofline"}):
        for kind in formats:
            path = stem.with_name(f"{stem.name}.{kind}")
            with atomic_file(path) as file:
                # No date inside: the same table gives the same bytes.
                figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
            paths.append(path)
    return paths
