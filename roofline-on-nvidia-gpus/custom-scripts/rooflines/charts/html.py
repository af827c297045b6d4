"""The interactive roofline: one HTML file with its data and its code inside, that loads nothing from anywhere.

Every kernel of every run with its full name; levels, units, sections and runs to choose, a table to sort and search.
"""

import html
import json
import math
from pathlib import Path

import pandas as pd

from .. import atomic_file
from ..analysis import analyse
from ..columns import LEVELS, UNIT_NAMES
from ..read.inputs import Loaded
from ..roofs import Roofs
from ..table import aggregate
from .style import SECTION_COLOURS, SERIES, UNIT_COLOURS, level_name

TEMPLATE = Path(__file__).with_name("roofline.template.html")
_MOST = 1500  # kernels of a run; browsers get slow beyond, and what is left out is joined in one row
_NUMBERS = ("time_s", "share", "launches", "flop", "rate", "ai_l1", "ai_l2", "ai_hbm", "efficiency", "lost_s")
_TEXTS = ("section", "module", "name", "kernel", "family", "unit", "bound", "flop_source")


def write_html(loaded: Loaded, path: Path) -> Path:
    """Write the page and return its path."""
    runs = [
        {
            "name": run,
            "roofs": _roofs(loaded.roofs[run]),
            "levelNames": {level: level_name(level, loaded.roofs[run].device) for level in LEVELS},
            "kernels": _kernels(loaded.rows[loaded.rows["run"] == run], loaded.roofs[run]),
        }
        for run in loaded.runs
    ]
    data = {
        "runs": runs,
        "levels": list(LEVELS),
        "units": UNIT_NAMES,
        "unitColours": UNIT_COLOURS,
        "sectionColours": SECTION_COLOURS,
        "series": SERIES,
        "warnings": loaded.warnings,
    }
    # "</" would end the script element whatever the name of a kernel is.
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    title = html.escape("Roofline: " + ", ".join(loaded.runs))
    page = TEMPLATE.read_text(encoding="utf-8").replace("{{title}}", title).replace("{{data}}", text)
    with atomic_file(path) as file:
        file.write(page.encode())
    return path


def _roofs(roofs: Roofs) -> dict:
    return {
        "device": roofs.device,
        "source": roofs.source,
        "bandwidth": {k: float(v) for k, v in roofs.bandwidth.items()},
        "peak": {k: float(v) for k, v in roofs.peak.items()},
    }


def _kernels(rows: pd.DataFrame, roofs: Roofs) -> list[dict]:
    if rows["time_s"].notna().any():
        rows = rows[rows["time_s"] > 0]
    rows = aggregate(rows, ("run", "section", "module", "kernel", "name", "family"))
    rows = rows.sort_values("time_s", ascending=False, kind="stable", ignore_index=True)
    # The rest is one row, so that the page's times still add up to the run's.
    if len(rows) > _MOST:
        rest = rows.iloc[_MOST:].assign(
            section="", module="", kernel="", family="other", name=f"{len(rows) - _MOST} others"
        )
        rows = pd.concat(
            [rows.iloc[:_MOST].astype(object), aggregate(rest, ("run", "name")).astype(object)], ignore_index=True
        )
        rows = rows.infer_objects()
    rows = analyse(rows, roofs)
    rows["bound"] = [level_name(bound, roofs.device) for bound in rows["bound"]]
    return [
        {name: str(row[name]) for name in _TEXTS} | {name: _number(row[name]) for name in _NUMBERS}
        for row in rows[[*_TEXTS, *_NUMBERS]].to_dict("records")
    ]


def _number(value: float) -> float | str | None:
    """Return a number JSON can hold: None for NaN, "inf" for an infinite intensity, six digits of others."""
    if math.isnan(value):
        return None
    # JSON has neither; six digits keep the page small.
    return "inf" if math.isinf(value) else float(f"{value:.6g}")
