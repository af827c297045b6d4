"""Flags of profiling: capture windows, timing, traces, counted and predicted costs."""

import argparse

from util.profiling import SECTIONS


def add_profiling_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of capture windows, timing, traces, counted and predicted costs."""
    group.add_argument(
        # Without a name: of the device that the run would have.
        "--cost_card",
        nargs="?",
        const="here",
        default=None,
        metavar="GPU",
        help="say what the training will cost and end: FLOPs, memory by part, predicted time, disk; of this device, or "
        "of a GPU by its name (h100, a100-sxm4-80gb)",
    )
    group.add_argument(
        "--section",
        default=None,
        choices=SECTIONS,
        help="open the profiler's capture window around this part of a step only, then end the run: for ncu "
        "--profile-from-start off and nsys --capture-range=cudaProfilerApi",
    )
    group.add_argument(
        # The first steps are slower than all others: memory is allocated, libraries are loaded and choose kernels.
        "--profile_warmup",
        default=10,
        type=int,
        metavar="N",
        help="steps before the capture window, the trace or the timing begins (%(default)s)",
    )
    group.add_argument(
        # Few: a profiler that replays each kernel is many times slower than the step.
        "--profile_steps",
        default=3,
        type=int,
        metavar="N",
        help="steps with a capture window, or in the trace (%(default)s)",
    )
    group.add_argument(
        # Off: under a profiler what comes after the window costs time and shows nothing.
        "--profile_continue",
        action="store_true",
        help="go on with the run after the capture window or the trace",
    )
    group.add_argument(
        "--timing",
        action="store_true",
        help="time each phase of the steps after the warm-up: a table, and timing.json in --output_dir",
    )
    group.add_argument(
        "--energy",
        action="store_true",
        help="count the joules of the GPUs (NVML, nvidia-ml-py) for each step, image and epoch in log.txt",
    )
    group.add_argument(
        "--torch_profile",
        default=None,
        metavar="DIR",
        help="write torch.profiler's trace of --profile_steps steps to this folder, then end the run",
    )
    group.add_argument(
        "--count_costs",
        default=None,
        metavar="FILE",
        help="count FLOPs and bytes of one step after --profile_warmup others, operator by operator, without "
        "counters; write FILE (.csv or .parquet) for postprocess.py, then end the run",
    )
    group.add_argument(
        "--module_ranges",
        default=None,
        type=int,
        metavar="DEPTH",
        help="a profiler's range for every module, named by DEPTH levels of its path (4: "
        "transformer.encoder.layers.2.self_attn), in forward and backward; with --count_costs its memory too",
    )
