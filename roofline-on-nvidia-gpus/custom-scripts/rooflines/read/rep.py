"""Nsight Compute's own reports (.ncu-rep), read with NVIDIA's package (pip install ncu-report): no ncu needed."""

from pathlib import Path
from typing import Any

from .. import RoofError
from .launches import LaunchBuilder, Report, unknown_unit_notes
from .metrics import DEVICE, DEVICE_NAME, column_of, dimension_of, factor_of
from .numbers import fits, parse_unit


def read_ncu_rep(path: Path) -> Report:
    """Read one report. Raises RoofError when the package is missing or the report holds no kernels."""
    try:
        import ncu_report
    except ImportError as error:
        raise RoofError(
            f"{path}: reading reports needs `pip install ncu-report`; "
            f"or export it: ncu --import {path.name} --csv --page raw"
        ) from error
    try:
        context = ncu_report.load_report(str(path))
        builder = LaunchBuilder()
        unknown: dict[str, str] = {}
        for range_number in range(context.num_ranges()):
            actions = context.range_by_idx(range_number)
            for number in range(actions.num_actions()):
                unknown |= _take_action(builder, actions.action_by_idx(number), (range_number, number))
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise RoofError(f"{path}: no readable report ({error}); it may need a newer ncu-report") from error
    if not len(builder):
        raise RoofError(f"{path}: a report without kernels; did the capture window open?")
    return Report(path, builder.frame(), unknown_unit_notes(unknown))


def _take_action(builder: LaunchBuilder, action: Any, key: tuple[int, int]) -> dict[str, str]:
    """Note a launch and its metrics; return the metrics that are given in a unit that nobody knows."""
    unknown: dict[str, str] = {}
    names = set(action.metric_names())
    launch = builder.launch(
        key,
        {
            # The default is the bare function's name, without the template arguments that tell kernels apart.
            "kernel": action.name(action.NameBase_DEMANGLED),
            "grid": _size(action, names, "launch__grid_dim_"),
            "block": _size(action, names, "launch__block_dim_"),
            "device": "0",
            "compute_capability": _capability(action, names),
            "ranges": " > ".join(_ranges(action)),
        },
    )
    for name in sorted(names):  # in one order, so that a report gives the same table each time
        column = column_of(name)
        if column is None:
            continue
        metric = action.metric_by_name(name)
        factor, dimension = parse_unit(metric.unit())
        if column == DEVICE_NAME:
            builder.name_device(launch, metric.as_string())
        elif dimension is None:
            unknown[name] = metric.unit()
        elif metric.has_value() and fits(dimension, dimension_of(column)):
            builder.set(launch, column, metric.as_double() * factor * factor_of(name))
    return unknown


def _size(action: Any, names: set[str], prefix: str) -> str:
    """Return a grid or block as the CSVs write it: (128, 1, 1); empty if the report has none."""
    if not {prefix + axis for axis in "xyz"} <= names:
        return ""
    return f"({', '.join(str(int(action.metric_by_name(prefix + axis).as_uint64())) for axis in 'xyz')})"


def _capability(action: Any, names: set[str]) -> str:
    parts = [f"{DEVICE}compute_capability_{part}" for part in ("major", "minor")]
    if not set(parts) <= names:
        return ""
    return ".".join(str(int(action.metric_by_name(part).as_uint64())) for part in parts)


def _ranges(action: Any) -> list[str]:
    """Return the names of the NVTX ranges around a kernel, outermost first; start/end ranges are the outer ones."""
    state = action.nvtx_state()
    if state is None:
        return []
    names: list[str] = []
    for domain_id in state.domains():
        domain = state.domain_by_id(domain_id)
        # In this order: start/end ranges are a process's, and lie around those of its threads.
        names += [*domain.start_end_ranges(), *domain.push_pop_ranges()]
    return names
