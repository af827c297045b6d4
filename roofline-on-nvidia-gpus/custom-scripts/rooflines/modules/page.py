"""The page of module_report.py: treemap, roofline, what to do first, memory; of two runs what changed."""

import html
from collections.abc import Iterable, Sequence

import pandas as pd

from ..charts.style import si, significant
from ..roofs import used
from .exchange_table import exchange_section
from .markup import table
from .ranks import compare_ranks, ranks_section
from .run import OUTSIDE, Run, compare, cut
from .shapes import COLOURS, NUMBERED, roofline, with_costs
from .trajectory import TimedRun, trajectory_section
from .treemap import treemap

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}"
    "svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#222}"
    "g text{fill:#fff;pointer-events:none}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:3px 10px;text-align:right;border-bottom:1px solid #ddd}td{white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}"
    ".key{display:inline-block;width:1em;height:1em;margin:0 .3em 0 1em;vertical-align:-2px}"
)
_ROWS = 20


def page(runs: Sequence[Run], depth: int, *, more: Sequence[str] = ()) -> str:
    """Return the page of one run, or of two and their differences; `more` are further sections."""
    title = html.escape(" and ".join(run.name for run in runs))
    parts = [f"<h1>Time by module: {title}</h1>"]
    if len(runs) == 2:
        parts.append(_difference(runs[0], runs[1], depth))
    for run in runs:
        parts += _run(run, depth, named=len(runs) > 1)
    parts += more
    return _whole(title, parts)


def over_time_page(runs: Sequence[TimedRun]) -> str:
    """Return the page of runs with timing.json alone: their phases over the epochs."""
    title = html.escape(" and ".join(run.name for run in runs))
    return _whole(title, [f"<h1>{title}</h1>", trajectory_section(runs)])


def _whole(title: str, parts: Sequence[str]) -> str:
    # One file without links: it can be sent and opened anywhere.
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def sentences(run: Run, depth: int, count: int = 5) -> list[str]:
    """Return a line for each of the slowest parts, and what bounds it."""
    lines = []
    # Slowest first, as `folded` sorts them.
    for _, row in run.folded(depth)[lambda table: table["module"] != OUTSIDE].head(count).iterrows():
        share = f"{row['time_s'] / run.step_s:.1%} of the step"
        text = f"{row['module']} {row['direction']}: {si(row['time_s'], 's')}, {share}"
        if row["bound"]:
            text += f"; {si(row['flop'] / row['time_s'], 'FLOP/s')}, {_share(row)} of its roof: bound by {row['bound']}"
        lines.append(text)
    return lines


def _run(run: Run, depth: int, *, named: bool) -> Iterable[str]:
    # Deeper modules are summed into the one of this depth that they are part of.
    folded = run.folded(depth)
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{name or "between phases"}'
        for name, colour in COLOURS.items()
    )
    title = f"{html.escape(run.name) + ': w' if named else 'W'}here a step of {si(run.step_s, 's')} goes"
    yield f"<h2>{title}</h2><p>{keys}</p>"
    yield treemap(run.parts, run.step_s) + f"<p>{html.escape('; '.join(run.notes))}. The boxes add up to the step.</p>"
    if run.roofs is not None and folded["flop"].any():
        yield f"<h2>Roofline</h2>{roofline(folded, used(run.roofs, run.modules.rows))}"
        source = html.escape(run.roofs.source)
        counted = "counters of the GPU" if run.measured else "what the operators read and write, without caches"
        yield f"<p>Roofs: {source}. Bytes are {counted}.</p>"
        yield _numbered(folded)
    yield "<h2>What to do first</h2>" + _first(folded, run.step_s)
    if len(run.processes) > 1:
        yield ranks_section(compare_ranks(run.processes))
    if run.timed is not None:
        yield trajectory_section([run.timed])
    if run.exchanges is not None:
        yield exchange_section(run.exchanges)
    if run.memory is not None:
        yield "<h2>Memory when the backward pass begins</h2>" + _memory(run.memory, depth)
        yield "<p>saved: activations, each counted for the module that kept it first.</p>"


def _numbered(folded: pd.DataFrame) -> str:
    """Return the table of the roofline's numbers."""
    cells = [
        (f"{number} {row['module']}", row["direction"], si(row["time_s"], "s"))
        + (
            significant(row["flop"] / row["bytes_hbm"], 3),
            si(row["flop"] / row["time_s"], "FLOP/s"),
            _share(row),
            row["bound"],
        )
        for number, (_, row) in enumerate(with_costs(folded).head(NUMBERED).iterrows(), start=1)
    ]
    return table(("point", "direction", "time", "FLOP per byte", "rate", "of its roof", "bound by"), cells)


def _first(folded: pd.DataFrame, step_s: float) -> str:
    """Return the parts by the time that is won at their roof, or without their waiting where no roof is known."""
    # What would be won if the part ran at its roof.
    at_roof = (folded["time_s"] - folded["least_s"]).clip(lower=0)
    # Without a roof only the waiting is known to be avoidable.
    rows = folded.assign(won_s=at_roof.where(folded["bound"] != "", folded["waiting_s"]))
    rows = rows.sort_values("won_s", ascending=False).head(_ROWS)
    cells = [
        (
            row["module"],
            row["direction"],
            si(row["time_s"], "s"),
            f"{row['time_s'] / step_s:.1%}",
            si(row["won_s"], "s"),
        )
        + (si(row["waiting_s"], "s"), _share(row), row["bound"])
        for _, row in rows.iterrows()
    ]
    heads = ("module", "direction", "time", "of the step", "to be won", "waiting", "of its roof", "bound by")
    return table(heads, cells)


def _memory(memory: pd.DataFrame, depth: int) -> str:
    names = [name for name in memory if name.endswith("_bytes")]
    # Cut names fall together, and their bytes add up.
    rows = memory.assign(module=memory["module"].map(lambda name: cut(name, depth))).groupby("module")[names].sum()
    rows = rows.assign(total=rows.sum(axis=1)).sort_values("total", ascending=False).reset_index().head(_ROWS)
    heads = ("module", *(f"{name.removesuffix('_bytes')}" for name in names), "together")
    cells = [(row["module"] or OUTSIDE, *(si(row[n], "B") for n in (*names, "total"))) for _, row in rows.iterrows()]
    return table(heads, cells)


def _difference(first: Run, second: Run, depth: int) -> str:
    a, b = html.escape(first.name), html.escape(second.name)
    # Above 1: the second run is faster.
    ratio = first.step_s / second.step_s
    times = f"{si(first.step_s, 's')} in {a} and {si(second.step_s, 's')} in {b}"
    text = f"<p>A step takes {times}: {ratio:.2f} times as fast.</p>"
    rows = compare(first, second, depth).head(_ROWS)
    sides = [(run, side) for run, side in ((first, "a"), (second, "b")) if run.roofs is not None]
    heads = ["module", "direction", first.name, second.name, f"{second.name} takes more", ""]
    heads += [f"rate in {run.name}, of its roof, bound by" for run, _ in sides]
    cells = [
        [row["module"], row["direction"], si(row["a_s"], "s"), si(row["b_s"], "s"), si(row["more_s"], "s")]
        + ["slower" if row["more_s"] > 0 else "faster", *(_rated(row, side) for _, side in sides)]
        for _, row in rows.iterrows()
    ]
    return text + table(heads, cells)


def _rated(row: pd.Series, side: str) -> str:
    """Return rate, part of the roof and bound of a run in a row of `compare`."""
    if row[f"{side}_bound"] == "":
        return "-"
    bound = row[f"{side}_bound"].replace("neither memory nor arithmetic", "neither")
    return f"{si(row[f'{side}_rate'], 'FLOP/s')}, {row[f'{side}_of_roof']:.0%}, {bound}"


def _share(row: pd.Series) -> str:
    # The least time that the roof allows over the time taken: 100 % is at the roof.
    return f"{row['least_s'] / row['time_s']:.0%}" if row["bound"] else "-"
