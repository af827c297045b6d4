"""One section's run under a profiler: the commands, the files, and what is noted about it."""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import atomic_file
from ..read.messages import explain, programs_exit_code
from .gpu_state import GpuState, wait_until_free, watched


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


def show(capture: Capture) -> None:
    """Print a section's two commands as one would type them."""
    print(f"LC_ALL=C {shlex.join(capture.profile)}")
    print(f"LC_ALL=C {shlex.join(capture.export)}" + (f" > {shlex.quote(str(capture.csv))}" if capture.csv else ""))


def run(capture: Capture, tool: Tool, gpu: GpuState | None = None, wait_s: float = 0.0) -> int:
    """Profile a section and write its CSV; 0, else the exit code of what broke, with a line that says what.

    gpu: whose state is noted, and which is waited for, at most wait_s seconds, while it is throttled.
    """
    capture.report.parent.mkdir(parents=True, exist_ok=True)
    # An old report would pass for this run's, where the run breaks without writing one.
    capture.report_file.unlink(missing_ok=True)
    # The CSV's numbers may follow the language, in some of which 1,234.5 is written 1.234,5.
    environment = os.environ | {"LC_ALL": "C"}
    if gpu is not None and wait_s:
        wait_until_free(gpu, wait_s, say=lambda line: print(line, flush=True))
    began = time.monotonic()
    with watched(gpu) as state:
        code = subprocess.run(capture.profile, env=environment).returncode
    seconds = time.monotonic() - began
    messages = _read(Path(f"{capture.report}.log"))
    # ncu has an exit code of its own; the program's stands in its messages.
    code = programs_exit_code(messages) or code
    if code or not capture.report_file.is_file():
        return _broken(capture, code, explain(messages))
    # Before the export: a report that cannot be exported has its record all the same.
    _write_record(capture, tool, seconds, state)
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


def _write_record(capture: Capture, tool: Tool, seconds: float, state: dict) -> None:
    """Write beside the report how it came about: what a chart's caption needs."""
    record = {
        "section": capture.section,
        "command": shlex.join([Path(tool.path).name, *capture.profile[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profiler": ".".join(map(str, tool.version)),
        "gpu": tool.gpu,
        "seconds": round(seconds, 1),
        **state,
    }
    with atomic_file(Path(f"{capture.report}.json")) as file:
        file.write(json.dumps(record, indent=2).encode() + b"\n")
