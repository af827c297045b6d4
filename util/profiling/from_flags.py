"""What a run's profiling flags ask for: the watchers of its steps, and their results once it is over."""

import argparse
from pathlib import Path

import torch

from ..dist.distributed import is_main_process
from ..errors import UserError
from .cost_counter import CostCounter
from .cost_table import measure_ceilings, section_table, table_rows, write_costs
from .nsight import CaptureWindow
from .phases import StepPhases
from .timing import PhaseTimer, summarise, timing_table, write_timing
from .torch_trace import TorchTrace


def build_phases(
    *,
    section: str | None,
    timing: bool,
    torch_profile: str | None,
    count_costs: str | None,
    warmup: int,
    steps: int,
    go_on: bool,
    device: torch.device,
    total_steps: int,
) -> StepPhases:
    """The phases of a run of `total_steps`, watched as the flags say.

    A window (`section`, `torch_profile`) or a count of costs ends the run unless `go_on`; `timing` alone times all steps
    after the warm-up.
    Raises UserError when the run is too short for what is asked.
    """
    window = section or torch_profile
    needed = warmup + (steps if window else 1)
    if (window or timing or count_costs) and total_steps < needed:
        raise UserError(
            f"--profile_warmup {warmup}{f' and --profile_steps {steps}' if window else ''} need {needed} steps, and this run "
            f"has {total_steps}: lower them, or raise --epochs, --max_steps or the number of images"
        )
    watchers = []
    if torch_profile:
        watchers.append(TorchTrace(folder=torch_profile, warmup=warmup, steps=steps))
    if section:
        watchers.append(CaptureWindow(section=section, warmup=warmup, steps=steps, device=device))
    if timing:  # the last to be told of a beginning, the first of an end: the others' own work is not timed
        watchers.append(PhaseTimer(warmup=warmup, steps=steps if window and not go_on else None, device=device))
    if count_costs:
        watchers.append(CostCounter(warmup=warmup, device=device))
    return StepPhases(watchers, stop_when_done=bool(window or count_costs) and not go_on)


def ends_with_its_window(args: argparse.Namespace) -> bool:
    """Whether a run is for the profiler alone: it ends with its window and leaves the files of other runs as they are."""
    return bool(args.section or args.torch_profile or args.count_costs) and not args.profile_continue


def report_timing(phases: StepPhases, args: argparse.Namespace) -> None:
    """Print the table of a timed run on rank 0, and write it to `timing.json` where there is an `output_dir`."""
    for timer in (watcher for watcher in phases.watchers if isinstance(watcher, PhaseTimer)):
        summary = summarise(timer.milliseconds())
        if not summary or not is_main_process():
            continue
        print(timing_table(summary))
        if args.output_dir:
            print(f"wrote {write_timing(args.output_dir, args, summary, warmup=timer.warmup)}")


def report_costs(phases: StepPhases, args: argparse.Namespace, ceilings_script: Path) -> None:
    """Print what the counted step cost per section on rank 0, and write the table and the machine's ceilings."""
    for counter in (watcher for watcher in phases.watchers if isinstance(watcher, CostCounter)):
        if not counter.rows or not is_main_process():
            continue
        path = Path(args.count_costs)
        print(section_table(counter.rows))
        if counter.unknown:
            print(f"counted by their bytes only, for want of a formula: {', '.join(counter.unknown)}")
        write_costs(table_rows(counter.rows, run=path.stem, device=counter.device), path)
        roofs, missing = measure_ceilings(ceilings_script, path, counter.device)
        print(f"wrote {path}{'' if missing else f' and {roofs}'}: postprocess.py {path} draws it")
        if missing:
            print(missing)
