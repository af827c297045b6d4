"""Watchers of a run's steps, as its profiling flags ask for them, and their results once it is over."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..dist.accelerator import accelerator
from ..dist.distributed import is_main_process
from ..errors import UserError
from . import follow_ranges
from .cost_counter import CostCounter
from .cost_table import measure_ceilings, section_table, table_rows, write_costs
from .module_ranges import ModuleRanges
from .nsight import CaptureWindow
from .phases import StepPhases, Watcher
from .saved_memory import SavedMemory, write_memory
from .timing import PhaseTimer, summarise, summarise_epochs, timing_table, write_timing
from .torch_trace import TorchTrace


@dataclass(frozen=True)
class ProfilingOptions:
    """The profiling flags of a run.

    Attributes:
        section: the part of a step that the capture window is around (--section).
        timing: time each phase (--timing).
        torch_profile: folder of torch.profiler's trace (--torch_profile).
        count_costs: file of the operators' costs (--count_costs).
        warmup: steps before all of these begin (--profile_warmup).
        steps: steps with a capture window, or in the trace (--profile_steps).
        go_on: the run does not end with the capture window, the trace or the count (--profile_continue).
        module_ranges: levels of the modules' names in their ranges, None for no such ranges (--module_ranges).
    """

    section: str | None = None
    timing: bool = False
    torch_profile: str | None = None
    count_costs: str | None = None
    warmup: int = 10
    steps: int = 3
    go_on: bool = False
    module_ranges: int | None = None

    @property
    def ends_run(self) -> bool:
        """True for a run for the profiler alone: it ends early and leaves the files of other runs as they are."""
        return bool(self.section or self.torch_profile or self.count_costs) and not self.go_on


def profiling_options(args: argparse.Namespace) -> ProfilingOptions:
    """Return the profiling flags of main.py's namespace."""
    return ProfilingOptions(
        section=args.section,
        timing=args.timing,
        torch_profile=args.torch_profile,
        count_costs=args.count_costs,
        warmup=args.profile_warmup,
        steps=args.profile_steps,
        go_on=args.profile_continue,
        module_ranges=args.module_ranges,
    )


def build_phases(
    options: ProfilingOptions,
    *,
    device: torch.device,
    total_steps: int,
    parts: tuple[nn.Module, nn.Module] | None = None,
) -> StepPhases:
    """Return the phases of a run of `total_steps`, with the watchers that the flags ask for.

    A capture window, a trace or a count of costs ends the run unless `go_on`; `timing` alone times all steps after the
    warm-up. `parts` are the model and the criterion, which `module_ranges` gives hooks. Raises UserError when the run
    is too short for the flags.
    """
    warmup, steps = options.warmup, options.steps
    captured = options.section or options.torch_profile
    # A count of costs needs a single step; a timing takes what comes.
    needed = warmup + (steps if captured else 1)
    if (captured or options.timing or options.count_costs) and total_steps < needed:
        raise UserError(
            f"--profile_warmup {warmup}{f' and --profile_steps {steps}' if captured else ''} need {needed} steps, and "
            f"this run has {total_steps}: lower them, or raise --epochs, --max_steps or the number of images"
        )
    watchers: list[Watcher] = []
    ranges = None
    follow_ranges(None)  # of an earlier run in this process
    if options.module_ranges and parts is not None:
        # The trace needs no hooks in backward, for it has autograd's numbers; on a CPU no other profiler sees NVTX.
        hooked = accelerator(device).cuda and not options.torch_profile
        ranges = ModuleRanges(*parts, depth=options.module_ranges, nvtx_in_backward=hooked)
        watchers.append(ranges)
        if options.count_costs:
            watchers.append(SavedMemory(parts[0], ranges, depth=options.module_ranges, step=warmup))
    if options.torch_profile:
        watchers.append(TorchTrace(folder=options.torch_profile, warmup=warmup, steps=steps))
    if options.section:
        watchers.append(CaptureWindow(section=options.section, warmup=warmup, steps=steps, device=device))
    if options.timing:  # the last to be told of a beginning, the first of an end: the others' own work is not timed
        # A run that ends with its capture has no more steps to time.
        timed = steps if captured and not options.go_on else None
        watchers.append(PhaseTimer(warmup=warmup, steps=timed, device=device))
    if options.count_costs:
        watchers.append(CostCounter(warmup=warmup, device=device, ranges=ranges))
    return StepPhases(watchers, stop_when_done=options.ends_run)


def report_timing(phases: StepPhases, args: argparse.Namespace) -> None:
    """Print the table of a timed run on rank 0, and write it to `timing.json` where there is an `output_dir`."""
    for timer in (watcher for watcher in phases.watchers if isinstance(watcher, PhaseTimer)):
        by_step = timer.by_step()
        summary = summarise({name: list(steps.values()) for name, steps in by_step.items()})
        if not summary or not is_main_process():
            continue
        print(timing_table(summary))
        if args.output_dir:
            epochs = summarise_epochs(by_step, phases.seen)
            print(f"wrote {write_timing(args.output_dir, args, summary, warmup=timer.warmup, epochs=epochs)}")


def report_costs(phases: StepPhases, args: argparse.Namespace, ceilings_script: Path) -> None:
    """Print the counted step's cost per section on rank 0, and write the table and the machine's ceilings."""
    for counter in (watcher for watcher in phases.watchers if isinstance(watcher, CostCounter)):
        if not counter.rows or not is_main_process():
            continue
        path = Path(args.count_costs)
        print(section_table(counter.rows))
        if counter.unknown:
            print(f"counted by their bytes only, for want of a formula: {', '.join(counter.unknown)}")
        write_costs(table_rows(counter.rows, run=path.stem, device=counter.device), path)
        for memory in (watcher for watcher in phases.watchers if isinstance(watcher, SavedMemory)):
            print(f"wrote {write_memory(memory.rows(), path)}: what holds memory at the end of the forward, by module")
        roofs, missing = measure_ceilings(ceilings_script, path, counter.device)
        print(f"wrote {path}{'' if missing else f' and {roofs}'}: postprocess.py {path} draws it")
        if missing:
            print(missing)
