"""The processes of a run side by side: where a step of each goes, and which one the others wait for."""

from collections.abc import Sequence

import pandas as pd

from ..read.trace_modules import Modules
from .markup import table as table_of

#: Kinds of time in the comparison; everything else is computing.
KINDS = ("copy", "communication", "host bound", "idle", "python")


def compare_ranks(processes: Sequence[Modules]) -> pd.DataFrame:
    """Return a row for each process: rank, seconds of a step, and of these computing and each of KINDS."""
    rows = []
    for modules in processes:
        kinds = modules.rows["family"].astype(str)
        kinds = kinds.where(kinds.isin(KINDS), "compute")
        # Seconds of a step by kind: traces of other lengths can be compared.
        seconds = modules.rows.groupby(kinds.rename("kind"))["time_s"].sum() / modules.steps
        rank = str(modules.rows["rank"].iloc[0])
        rows.append({"rank": rank, "step_s": modules.seconds / modules.steps, **seconds.to_dict()})
    table = pd.DataFrame(rows).fillna(0.0)
    # By number: as text, rank 10 would come before rank 2.
    table = table.sort_values("rank", key=lambda ranks: ranks.str.zfill(9), ignore_index=True)
    return table[["rank", "step_s", *(kind for kind in ("compute", *KINDS) if kind in table)]]


def describe_ranks(table: pd.DataFrame) -> list[str]:
    """Return the comparison as lines of text, and a line that names the slowest in computing."""
    heads, cells = _texts(table)
    return ["".join(f"{text:>15}" for text in row) for row in (heads, *cells)] + slowest(table)


def ranks_section(table: pd.DataFrame) -> str:
    """Return the comparison as HTML."""
    return "<h2>Processes side by side</h2>" + table_of(*_texts(table)) + "".join(f"<p>{t}</p>" for t in slowest(table))


def _texts(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows, times in milliseconds a step."""
    kinds = list(table.columns[1:])
    heads = ["rank", *("step, ms" if kind == "step_s" else kind for kind in kinds)]
    return heads, [[str(row["rank"]), *(f"{1e3 * row[kind]:.3f}" for kind in kinds)] for _, row in table.iterrows()]


def slowest(table: pd.DataFrame) -> list[str]:
    """Return a sentence that names the rank that computes longest, nothing where there is one rank."""
    if "compute" not in table or len(table) < 2:
        return []
    row = table.loc[table["compute"].idxmax()]
    # Waiting is left out: all ranks take the same step time, because the fast ones wait.
    more = row["compute"] / table["compute"].mean() - 1
    return [f"rank {row['rank']} computes longest, {more:.1%} above the mean: the others wait for it"]
