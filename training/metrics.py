"""The file of --metrics_file, after every epoch and every evaluation."""

import time
from collections.abc import Mapping
from typing import Any

from building import Detector, Setup
from datasets.coco_eval import STAT_NAMES
from util.dist.distributed import is_main_process
from util.runs.metrics_file import write_metrics


def keep_metrics(
    run: Setup, detector: Detector, stats: Mapping[str, Any], train_stats: Mapping[str, float] | None, **facts: Any
) -> None:
    """Write what was measured so far; rank 0 alone does."""
    if run.cfg.metrics_file and is_main_process():
        write_metrics(
            run.cfg.metrics_file,
            stats,
            STAT_NAMES,
            train_stats=train_stats,
            seconds=time.monotonic() - run.place.began,
            device=run.place.device,
            graphs=None if detector.compiled is None else detector.compiled.graphs,
            **facts,
        )
