"""Profile sections of a training step with Nsight Compute: a CSV per section, for postprocess.py.

    python .../collect.py forward loss backward optimizer_step --name r50 -- python main.py --data_path DIR ...
    python .../collect.py all --nsys -- python main.py ...                 a timeline (Nsight Systems)
    python .../collect.py forward --print -- python main.py ...            shows the commands only
    torchrun --nproc_per_node 4 .../collect.py backward -- python main.py ...   four GPUs: counters of rank 0 (--ranks)
    python .../collect.py backward --module layer4 -- python main.py ...   the kernels of some modules only

Each section is a run of its own: the command behind `--`, with `--section NAME` added. main.py opens the capture window
around that section only, after --profile_warmup steps and for --profile_steps. Written are output_<name>_<section>.csv,
and in reports/ Nsight Compute's report, its messages, and the command with GPU, versions, clocks and temperature. A run
that breaks ends this with its exit code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rooflines import RoofError
from rooflines.collect.captures import Capture, Tool, run, show
from rooflines.collect.gpu_state import GpuState, gpu_of_process, open_gpu_state
from rooflines.collect.metric_sets import metric_set, parse_capability
from rooflines.collect.profilers import (
    find_profiler,
    gpu_at_hand,
    known_metrics,
    ncu_command,
    ncu_export_command,
    nsys_command,
    nsys_export_command,
    profiler_version,
)
from rooflines.collect.ranks import find_rank, parse_ranks
from rooflines.columns import SECTIONS
from rooflines.command_line import FlagParser

_LAUNCHERS = {"torchrun", "srun", "mpirun", "mpiexec", "torch.distributed.run", "torch.distributed.launch"}
_WORDS_OF_A_FILE_NAME = {*SECTIONS, "all"}
_RANK_IN_NAME = re.compile(r"(?:^|_)rank_?\d")
_MODULE_RANGES = ("--module_ranges", "4")


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the flags; `program` is what stands behind `--`. Raises RoofError for what cannot work."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    parser = FlagParser(
        prog="collect.py",
        description=__doc__,
        usage="collect.py SECTION... [flags] -- python main.py ...",
    )
    parser.add_argument(
        "sections",
        nargs="+",
        choices=(*SECTIONS, "all"),
        metavar="SECTION",
        help="forward, loss, backward, optimizer_step, or all: the whole step",
    )
    parser.add_argument("-n", "--name", default="run", help="of the run, in the files' names (%(default)s)")
    parser.add_argument("-o", "--output_dir", type=Path, default=Path(), help="where to write (default: this folder)")
    parser.add_argument("--nsys", action="store_true", help="a timeline by Nsight Systems instead of counters")
    parser.add_argument("--print", dest="only_print", action="store_true", help="show the commands and run nothing")
    parser.add_argument(
        "--compute_capability", metavar="8.0", help="of the GPU to profile (default: asked of nvidia-smi)"
    )
    parser.add_argument(
        "--clock_control",
        choices=("none", "base"),
        default="none",
        help="base: ncu locks the GPU to its base clock, which repeats better; roofs follow the clock (%(default)s)",
    )
    parser.add_argument(
        "--cache_control",
        choices=("none", "all"),
        default="none",
        help="all: caches are emptied before every kernel (%(default)s: as the kernel before left them)",
    )
    parser.add_argument(
        "--rank", type=int, default=0, help="of several processes, the one whose counters are read (%(default)s)"
    )
    parser.add_argument(
        "--ranks",
        type=parse_ranks,
        metavar="0,3",
        help="of several processes, those that are profiled, each into files of its own",
    )
    parser.add_argument(
        "--module",
        metavar="REGEX",
        help="only kernels of modules in whose name this is found, forward and backward, e.g. 'layer4' or "
        "'encoder.*self_attn'; main.py gets --module_ranges 4 if it has no other",
    )
    parser.add_argument(
        "--wait_throttled",
        type=float,
        default=300,
        metavar="SECONDS",
        help="before each section, wait this long at most while the GPU is throttled (NVML; %(default)s, 0: never)",
    )
    args = parser.parse_args(words[:end])
    args.program = words[end + 1 :]
    if not args.program:
        parser.error("put the command to profile behind --, e.g. collect.py forward -- python main.py ...")
    _check(args)
    if args.module is not None and not any(
        word.replace("-", "_").startswith("__module_ranges") for word in args.program
    ):
        args.program += _MODULE_RANGES
    return args


def _check(args: argparse.Namespace) -> None:
    """Refuse what would profile something else than it says."""
    # ncu around torchrun would follow every process it starts, and replay all of them at once.
    # By the file's name: torchrun may be given with its path.
    launchers = _LAUNCHERS.intersection(Path(word).name for word in args.program)
    if launchers:
        launcher = launchers.pop()
        raise RoofError(
            f"{launcher} goes before collect.py, so that one process is profiled: "
            f"{launcher} ... collect.py ... -- python main.py"
        )
    if any(word.partition("=")[0] == "--section" for word in args.program):
        raise RoofError("--section is added by collect.py: name the sections before --")
    # postprocess.py reads run and section from output_<name>_<section>.csv, by the words between the underscores.
    if _WORDS_OF_A_FILE_NAME.intersection(args.name.split("_")) or "optimizer_step" in args.name or "/" in args.name:
        raise RoofError(
            f"--name {args.name}: postprocess.py would take part of it for the section's name; choose another"
        )
    if _RANK_IN_NAME.search(args.name):
        raise RoofError(f"--name {args.name}: postprocess.py would take part of it for a rank; choose another")
    if args.nsys and args.module is not None:
        raise RoofError(
            "--module chooses the kernels that are counted; a timeline has all, and postprocess.py sorts them"
        )
    if args.nsys and args.compute_capability:
        raise RoofError("--compute_capability chooses counters, and --nsys reads none: leave it out")


def choose_tool(args: argparse.Namespace) -> Tool:
    """Return the profiler and what to collect with it. Raises RoofError when either cannot be found."""
    name = "nsys" if args.nsys else "ncu"
    # --print is for machines without the tools, too.
    path = name if args.only_print else find_profiler(name)
    if args.nsys:
        return Tool(path, () if args.only_print else profiler_version(path))
    capability, gpu = (parse_capability(args.compute_capability), "") if args.compute_capability else gpu_at_hand()
    metrics = metric_set(capability)
    if args.only_print:
        return Tool(path, metrics=tuple(metrics), gpu=gpu)
    metrics, missing = known_metrics(path, metrics)
    if missing:
        print(
            f"note: this ncu has no {', '.join(missing)} for this GPU; collecting the other {len(metrics)} metrics",
            flush=True,
        )
    return Tool(path, profiler_version(path), tuple(metrics), gpu)


def plan(args: argparse.Namespace, tool: Tool, *, rank: int = 0, processes: int = 1) -> list[Capture]:
    """Return what to run for each section."""
    captures = []
    of_many = f"_rank{rank}" if processes > 1 and (args.nsys or args.ranks) else ""
    for section in dict.fromkeys(args.sections):
        # A run for each section: windows of several in one run would share a report without telling them apart.
        program = [*args.program, "--section", section]
        reports = args.output_dir / "reports"
        if args.nsys:
            report = reports / f"timeline_{args.name}_{section}{of_many}"
            profile, export, csv = nsys_command(tool.path, report), nsys_export_command(tool.path, report), None
        else:
            report = reports / f"output_{args.name}_{section}{of_many}"
            csv = args.output_dir / f"{report.name}.csv"
            export = ncu_export_command(tool.path, report, tool.metrics)
            profile = ncu_command(
                tool.path,
                report,
                tool.metrics,
                version=tool.version,
                clock_control=args.clock_control,
                cache_control=args.cache_control,
                module=args.module,
            )
        captures.append(Capture(section, program, [*profile, *program], export, report, csv))
    return captures


def collect(args: argparse.Namespace) -> int:
    """Profile the sections, or show how; return the exit code. Raises RoofError for what cannot work."""
    rank, processes = find_rank(os.environ)
    # Processes that are done early would meet, at the same port, those that are still in the section before.
    if processes > 1 and len(args.sections) > 1:
        raise RoofError(
            "several processes profile one section per launch, so that none meets those of the section before"
        )
    # Timelines are written by every process, counters by one.
    chosen = args.ranks or ([args.rank] if not args.nsys else list(range(processes)))
    if not 0 <= max(chosen) < processes:
        flag = "--ranks" if args.ranks else "--rank"
        raise RoofError(f"{flag} {','.join(map(str, chosen))}: there are {processes} processes, counted from 0")
    # The others have to take part, or the profiled ones would wait for them for ever; they run without the profiler.
    if processes > 1 and rank not in chosen and not args.only_print:
        return subprocess.run([*args.program, "--section", args.sections[0]]).returncode
    if not args.only_print and shutil.which(args.program[0]) is None:
        raise RoofError(f"{args.program[0]}: no such command, to be run behind --")
    tool = choose_tool(args)
    gpu = None if args.only_print else _open_gpu()
    for capture in plan(args, tool, rank=rank, processes=processes):
        if args.only_print:
            show(capture)
        elif code := run(capture, tool, gpu, args.wait_throttled):
            return code
    return 0


def _open_gpu() -> GpuState | None:
    gpu, missing = open_gpu_state(gpu_of_process(os.environ))
    if missing:
        print(f"note: {missing}", flush=True)
    return gpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code. A mistake of the user is one line and 2."""
    try:
        return collect(parse_args(sys.argv[1:] if arguments is None else arguments))
    except RoofError as error:
        print(f"collect.py: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"collect.py: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return RoofError.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
