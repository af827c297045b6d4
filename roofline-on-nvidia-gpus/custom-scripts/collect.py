"""Profile sections of a training step with Nsight Compute: a CSV per section, for postprocess.py.

    python .../collect.py forward loss backward optimizer_step --name r50 -- python main.py --data_path DIR ...
    python .../collect.py all --nsys -- python main.py ...                 a timeline (Nsight Systems)
    python .../collect.py forward --print -- python main.py ...            shows the commands only
    torchrun --nproc_per_node 4 .../collect.py backward -- python main.py ...   four GPUs: counters of rank 0 (--rank)

Each section is a run of its own: the command behind `--`, with `--section NAME` added. main.py opens the capture window
around that section only, after --profile_warmup steps and for --profile_steps. Written are output_<name>_<section>.csv,
and in reports/ Nsight Compute's report, its messages, and the command with GPU and versions. A run that breaks ends
this with its exit code.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rooflines import RoofError, atomic_file
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
from rooflines.collect.ranks import find_rank
from rooflines.columns import SECTIONS
from rooflines.command_line import FlagParser
from rooflines.read.messages import explain, programs_exit_code

_LAUNCHERS = {"torchrun", "srun", "mpirun", "mpiexec", "torch.distributed.run", "torch.distributed.launch"}
_WORDS_OF_A_FILE_NAME = {*SECTIONS, "all"}


@dataclass(frozen=True)
class Capture:
    """One section's run: `profile` is the profiler with the program behind it, `export` makes CSVs of its report.

    report: the report's path without ending. csv: where to put what `export` prints; None if it writes files itself.
    """

    section: str
    program: list[str]
    profile: list[str]
    export: list[str]
    report: Path
    csv: Path | None

    @property
    def report_file(self) -> Path:
        """The report itself."""
        return Path(f"{self.report}{'.nsys-rep' if self.csv is None else '.ncu-rep'}")


@dataclass(frozen=True)
class Tool:
    """The profiler to use: `path` of ncu or nsys, and the metrics (none for nsys)."""

    path: str
    version: tuple[int, ...] = ()
    metrics: tuple[str, ...] = ()
    gpu: str = ""


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
    args = parser.parse_args(words[:end])
    args.program = words[end + 1 :]
    if not args.program:
        parser.error("put the command to profile behind --, e.g. collect.py forward -- python main.py ...")
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    """Refuse what would profile something else than it says."""
    # ncu around torchrun would follow every process it starts, and replay all of them at once.
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
    # Timelines are written by every process, counters by one: only the first need names of their own.
    of_many = f"_rank{rank}" if processes > 1 and args.nsys else ""
    for section in dict.fromkeys(args.sections):
        program = [*args.program, "--section", section]
        reports = args.output_dir / "reports"
        if args.nsys:
            report = reports / f"timeline_{args.name}_{section}{of_many}"
            profile, export, csv = nsys_command(tool.path, report), nsys_export_command(tool.path, report), None
        else:
            report = reports / f"output_{args.name}_{section}"
            csv = args.output_dir / f"{report.name}.csv"
            export = ncu_export_command(tool.path, report, tool.metrics)
            profile = ncu_command(
                tool.path,
                report,
                tool.metrics,
                version=tool.version,
                clock_control=args.clock_control,
                cache_control=args.cache_control,
            )
        captures.append(Capture(section, program, [*profile, *program], export, report, csv))
    return captures


def show(capture: Capture) -> None:
    """Print a section's two commands as one would type them."""
    print(f"LC_ALL=C {shlex.join(capture.profile)}")
    print(f"LC_ALL=C {shlex.join(capture.export)}" + (f" > {shlex.quote(str(capture.csv))}" if capture.csv else ""))


def run(capture: Capture, tool: Tool) -> int:
    """Profile a section and write its CSV; 0, else the exit code of what broke, with a line that says what."""
    capture.report.parent.mkdir(parents=True, exist_ok=True)
    # An old report would pass for this run's, where the run breaks without writing one.
    capture.report_file.unlink(missing_ok=True)
    # The CSV's numbers may follow the language, in some of which 1,234.5 is written 1.234,5.
    environment = os.environ | {"LC_ALL": "C"}
    began = time.monotonic()
    code = subprocess.run(capture.profile, env=environment).returncode
    seconds = time.monotonic() - began
    messages = _read(Path(f"{capture.report}.log"))
    # ncu has an exit code of its own; the program's stands in its messages.
    code = programs_exit_code(messages) or code
    if code or not capture.report_file.is_file():
        return _broken(capture, code, explain(messages))
    # Before the export: a report that cannot be exported has its record all the same.
    _write_record(capture, tool, seconds)
    done = subprocess.run(capture.export, env=environment, stdout=subprocess.PIPE if capture.csv else None)
    if done.returncode:
        return _broken(capture, done.returncode, f"{capture.report_file} cannot be exported")
    if capture.csv is None:
        print(f"{capture.section}: {capture.report_file} and its summaries, {seconds:.0f} s", flush=True)
        return 0
    with atomic_file(capture.csv) as file:
        file.write(done.stdout)
    launches = sum(line.startswith(b'"') for line in done.stdout.splitlines()) - 2  # less a header and a row of units
    print(f"{capture.section}: {launches} launches in {capture.csv}, {seconds:.0f} s", flush=True)
    return 0


def _broken(capture: Capture, code: int, why: str) -> int:
    """Say in a line that a section broke and why; return the exit code, as a shell gives it for a signal."""
    # A negative code is the signal that killed the process. 0 without a report is broken, too.
    code = 128 - code if code < 0 else code or 1
    print(
        f"collect.py: {capture.section} broke with exit code {code}: {why or 'see the lines above'}",
        file=sys.stderr,
        flush=True,
    )
    return code


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _write_record(capture: Capture, tool: Tool, seconds: float) -> None:
    """Write beside the report how it came about: what a chart's caption needs."""
    record = {
        "section": capture.section,
        "command": shlex.join([Path(tool.path).name, *capture.profile[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profiler": ".".join(map(str, tool.version)),
        "gpu": tool.gpu,
        "seconds": round(seconds, 1),
    }
    with atomic_file(Path(f"{capture.report}.json")) as file:
        file.write(json.dumps(record, indent=2).encode() + b"\n")


def collect(args: argparse.Namespace) -> int:
    """Profile the sections, or show how; return the exit code. Raises RoofError for what cannot work."""
    rank, processes = find_rank(os.environ)
    # Processes that are done early would meet, at the same port, those that are still in the section before.
    if processes > 1 and len(args.sections) > 1:
        raise RoofError(
            "several processes profile one section per launch, so that none meets those of the section before"
        )
    if not 0 <= args.rank < processes:
        raise RoofError(f"--rank {args.rank}: there are {processes} processes, counted from 0")
    # The others have to take part, or the profiled one would wait for them for ever; they run without ncu, which
    # replays only kernels of the one.
    if processes > 1 and not args.nsys and rank != args.rank and not args.only_print:
        return subprocess.run([*args.program, "--section", args.sections[0]]).returncode
    if not args.only_print and shutil.which(args.program[0]) is None:
        raise RoofError(f"{args.program[0]}: no such command, to be run behind --")
    tool = choose_tool(args)
    for capture in plan(args, tool, rank=rank, processes=processes):
        if args.only_print:
            show(capture)
        elif code := run(capture, tool):
            return code
    return 0


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
