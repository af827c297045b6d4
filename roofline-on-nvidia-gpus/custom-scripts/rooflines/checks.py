"""Contradictions in a profile, and things missing that its reader will take it to hold: one line each."""

import pandas as pd

from .analysis import analyse
from .charts.style import level_name
from .columns import LEVELS
from .read.launches import Report
from .read.metrics import DRAM, L1, L2, L2_SM_SECTORS, OPS_PATH, TENSOR_INST, TIME
from .roofs import Roofs
from .table import tensor_flop

_CLOCK_SPREAD = 0.05
_ABOVE_ROOF = 1.05
_WORTH_NAMING = 2e-5  # seconds: below, counters of a kernel are noise
_SHORT_BACKWARD = 0.5  # of the forward's time: a backward pass does about twice its work
_FOREIGN = {
    "loss": ("convolution", "normalization", "optimizer"),
    "optimizer_step": ("convolution", "matrix product", "attention", "softmax"),
}


def check_report(report: Report, table: pd.DataFrame) -> list[str]:
    """Return warnings on what a report lacks: metrics, whole launches, more than one launch per name."""
    launches, notes = report.launches, []
    notes += _missing(launches)
    untimed = int((~(table["time_s"] > 0)).sum())
    if 0 < untimed < len(table):
        notes.append(f"{untimed} of {len(table)} kernels have no time and appear in no chart")
    # Of metrics that no launch has nothing is said here: `_missing` names them.
    partial = launches.drop(columns=["kernel"]).select_dtypes("number").isna()
    cut = int((partial.any(axis=1) & ~partial.all(axis=None)).sum())
    if 0 < cut < len(launches) // 2 + 1:
        notes.append(f"{cut} of {len(launches)} launches lack metrics that the others have (a partial file?)")
    if len(launches) >= 10 and launches["kernel"].nunique() == len(launches):
        notes.append(
            "every kernel name occurs exactly once: with a launch filter (--kernel-id :::3) shares of time are those "
            "of the sample, not of the program"
        )
    return notes


def _missing(launches: pd.DataFrame) -> list[str]:
    """Return a line on the metrics that are not in the report at all, with what that costs."""
    groups = {
        "no FLOPs of CUDA cores (sm__sass_thread_inst_executed_op_*)": any(
            "sm__sass_thread_inst" in c for c in launches
        ),
        "no tensor FLOPs (sm__ops_path_tensor_* or sm__inst_executed_pipe_tensor)": TENSOR_INST in launches
        or any(column.startswith(OPS_PATH) for column in launches),
        "no DRAM bytes (dram__bytes)": DRAM in launches,
        "no L2 bytes (lts__t_bytes)": bool({L2, L2_SM_SECTORS} & set(launches)),
        "no L1 bytes (l1tex__t_bytes)": L1 in launches,
        "no time (gpu__time_duration or sm__cycles_elapsed with its rate)": TIME in launches,
    }
    absent = [text for text, there in groups.items() if not there]
    if not absent:
        return []
    return [
        f"{'; '.join(absent)}: those metrics were not collected; "
        "`python collect.py forward backward -- python main.py ...` collects them all"
    ]


def check_rows(rows: pd.DataFrame, roofs: Roofs) -> list[str]:
    """Return warnings on one run's rows: hierarchy, clocks, phantom and unknown tensor work, points above roofs."""
    return [
        *_check_ranks(rows),
        *_check_hierarchy(rows, roofs.device),
        *_check_clocks(rows),
        *_check_tensor(rows),
        *_check_sections(rows),
        *_check_roofs(rows, roofs),
    ]


def _check_ranks(rows: pd.DataFrame) -> list[str]:
    ranks = sorted(set(map(str, rows["rank"])) - {""}, key=lambda rank: (len(rank), rank))
    return [f"times are sums over the ranks {', '.join(ranks)}"] if len(ranks) > 1 else []


def _check_hierarchy(rows: pd.DataFrame, device: str) -> list[str]:
    # Nearest to the cores first.
    notes, names = [], list(LEVELS)
    for near, far in zip(names, names[1:]):
        a, b = rows[LEVELS[near]], rows[LEVELS[far]]
        # What comes from L2 has passed L1, and what comes from memory both: farther levels cannot see more.
        bad, known = int((b > a).sum()), int((a.notna() & b.notna()).sum())
        if bad:
            why = " (lts__t_bytes also counts what is no request of an SM)" if far == "L2" else ""
            notes.append(f"{bad} of {known} kernels move more bytes at {level_name(far, device)} than at {near}{why}")
    return notes


def _check_clocks(rows: pd.DataFrame) -> list[str]:
    notes = []
    devices = sorted(set(map(str, rows["device"])))
    capabilities = sorted(set(map(str, rows["compute_capability"])) - {""})
    if len(devices) > 1 or len(capabilities) > 1:
        kinds = f" (capabilities {', '.join(capabilities)})" if len(capabilities) > 1 else ""
        notes.append(f"several devices in one run: {', '.join(devices)}{kinds}")
    # A clock is cycles over time: of a kernel of a few microseconds it is noise.
    known = rows[rows["clock_hz"].notna() & (rows["time_s"] > _WORTH_NAMING)]
    if known.empty:
        return notes
    low, high = known["clock_hz"].min(), known["clock_hz"].max()
    if high > low * (1 + _CLOCK_SPREAD):
        notes.append(
            f"clocks differ between kernels, {low / 1e9:.2f} to {high / 1e9:.2f} GHz: one roof does not fit all"
        )
    return notes


def _check_tensor(rows: pd.DataFrame) -> list[str]:
    notes = []
    flops = tensor_flop(rows)
    # The compiler loads pairs of constants by HFMA2: an instruction of the tensor pipe that computes nothing.
    phantom = (rows["tensor_inst"] > 0) & (flops == 0) & (rows["flop_source"] == "constants_excluded")
    if phantom.any():
        notes.append(
            f"{int(phantom.sum())} kernels execute HFMA2.MMA on the tensor pipe to load constants: counted as 0 FLOPs"
        )
    for source, text in (
        (
            "tensor_unknown",
            "tensor instructions of unknown shape: their FLOPs are missing (collect sm__ops_path_tensor_*)",
        ),
        (
            "hfma_unknown",
            "HFMA that may load constants or compute: counted as 0 FLOPs (collect sm__inst_executed_pipe_tensor)",
        ),
        ("inst_x_assumed_shape", "tensor FLOPs estimated from the usual matrix shape (collect sm__ops_path_tensor_*)"),
    ):
        found = rows["flop_source"].astype(str).str.contains(source)
        if found.any():
            total = rows["time_s"].sum()
            share = f" ({100 * rows.loc[found, 'time_s'].sum() / total:.0f} % of the time)" if total else ""
            notes.append(f"{int(found.sum())} kernels{share} have {text}")
    return notes


def _check_sections(rows: pd.DataFrame) -> list[str]:
    """Name work that does not belong into a section: the capture window was open longer than the section."""
    notes = []
    rows = rows[rows["source"] != "analytic"]  # counted at the phase itself, without a window
    # Seconds by section.
    times = rows.groupby(rows["section"].astype(str))["time_s"].sum()
    forward, backward = times.get("forward", 0.0), times.get("backward", 0.0)
    if 0 < backward < _SHORT_BACKWARD * forward:
        notes.append(
            f"section backward is too short to be true, {backward / forward:.0%} of forward: autograd launches from a "
            "thread of its own, whose kernels push/pop ranges miss (collect.py takes start/end ranges)"
        )
    for section, families in _FOREIGN.items():
        mine = rows[rows["section"] == section]
        foreign = mine[mine["family"].isin(families)]
        if len(foreign):
            share = foreign["time_s"].sum() / mine["time_s"].sum()
            kinds = ", ".join(sorted(set(map(str, foreign["family"]))))
            notes.append(
                f"section {section} holds {kinds} ({100 * share:.0f} % of its time): "
                "was ncu run without --profile-from-start off?"
            )
    return notes


def _check_roofs(rows: pd.DataFrame, roofs: Roofs) -> list[str]:
    above = analyse(rows, roofs)
    # A kernel of microseconds can exceed its roof by the counters' own rounding.
    above = above[(above["efficiency"] > _ABOVE_ROOF) & (above["time_s"] > _WORTH_NAMING)]
    if above.empty:
        return []
    worst = above.loc[above["efficiency"].idxmax()]
    if (above["source"] == "analytic").all():
        return [
            f"{len(above)} operators are above their roof, {worst['name']} at {100 * worst['efficiency']:.0f} %: "
            "their data was in a cache (the count leaves caches out), or the machine was busier when its roofs were "
            "measured"
        ]
    return [
        f"{len(above)} kernels are above their roof, {worst['name']} at {100 * worst['efficiency']:.0f} %: "
        f"another GPU or clock than {roofs.device}?"
    ]
