"""Measurements of a run in one JSON file: `--metrics_file FILE`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..dist.memory import peak_memory
from .atomic import atomic_file

#: COCO's twelve numbers under the names of `datasets.coco_eval`, by the kind of evaluation in the log.
KINDS = {"coco_eval_bbox": "boxes", "coco_eval_masks": "masks"}


def write_metrics(
    path: str | Path,
    stats: Mapping[str, Any],
    names: tuple[str, ...],
    *,
    train_stats: Mapping[str, float] | None = None,
    seconds: float,
    device: torch.device,
    graphs: Mapping[str, int] | None = None,
    **facts: Any,
) -> None:
    """Write AP tables, times, peak memory, distinct input shapes, and graphs compiled again.

    Args:
        path: the file; written anew.
        stats: of an evaluation; empty for an epoch without one.
        names: of COCO's numbers.
        train_stats: of an epoch of training.
        seconds: since the process began its run.
        device: that of the model.
        graphs: compiled so far by kind of part, with --compile.
        facts: more to write, such as the epoch.
    """
    train = train_stats or {}
    content = facts | {
        "ap": {kind: dict(zip(names, stats[key])) for key, kind in KINDS.items() if key in stats},
        "seconds": seconds,
        "step_seconds": train.get("step_time"),
        "data_seconds": train.get("data_time"),
        "peak_memory_mib": peak_memory(device),
        "input_shapes": train.get("shapes"),
        "object_list_lengths": train.get("object_sizes"),
        "graphs_compiled": None if graphs is None else sum(graphs.values()),
        # The first graph of a kind is wanted; each further one is a shape or a mode that was met anew.
        "recompiles": None if graphs is None else sum(count - 1 for count in graphs.values()),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(Path(path)) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
