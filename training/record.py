"""Record of a run beside its results: console, command and machine, and with --log_gpu the state of the GPU."""

import torch

from building import Setup
from util.profiling.from_flags import profiling_options
from util.runs.gpu_log import gpu_logged
from util.runs.record import Record


def keep_record(record: Record, run: Setup) -> None:
    """Let the record write to the run's folder; trials and runs for a profiler alone leave no files of a run.

    Raises UserError for --log_gpu without NVML.
    """
    cfg = run.cfg
    if run.folder is None or cfg.overfit or cfg.lr_find or profiling_options(cfg).ends_run:
        return
    index = torch.device(cfg.device).index or 0
    record.keep(run.folder, *([gpu_logged(run.folder / "gpu.csv", index=index)] if cfg.log_gpu else []))
