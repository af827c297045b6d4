"""The command lines of Nsight Compute (`ncu`) and Nsight Systems (`nsys`), and the meaning of their messages.

Options were checked with ncu 2024.1 and nsys 2023.4: https://docs.nvidia.com/nsight-compute/NsightComputeCli,
https://docs.nvidia.com/nsight-systems/UserGuide.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .. import RoofError
from .metric_sets import DEVICE_ATTRIBUTES, Capability, base_name, parse_capability

#: NCCL's kernels wait for other processes: run several times over, as counters need it, they would hang.
NOT_NCCL = "regex:^(?!nccl).*"
#: Summaries of a timeline that `nsys stats` writes as CSV.
NSYS_REPORTS = (
    *("nvtx_sum", "nvtx_kern_sum", "nvtx_gpu_proj_sum", "nvtx_gpu_proj_trace", "cuda_gpu_kern_sum", "cuda_gpu_trace"),
)
_WHERE = {
    "ncu": "Nsight Compute (ncu) is not on the PATH: it is part of the CUDA toolkit "
    "(Perlmutter: module load cudatoolkit) and of "
    "https://developer.nvidia.com/nsight-compute; --print shows the commands without it",
    "nsys": "Nsight Systems (nsys) is not on the PATH: it is part of the CUDA toolkit "
    "(Perlmutter: module load cudatoolkit) and of "
    "https://developer.nvidia.com/nsight-systems; --print shows the commands without it",
}


def find_profiler(name: str) -> str:
    """Return the path of ncu or nsys. Raises RoofError saying where to get it."""
    path = shutil.which(name)
    if path is None:
        raise RoofError(_WHERE[name])
    return path


def gpu_at_hand() -> tuple[Capability, str]:
    """Return compute capability and name of this machine's GPU, asked of nvidia-smi. Raises RoofError without one."""
    advice = "give --compute_capability (8.0 for A100, 9.0 for H100), or run this where the GPU is"
    try:
        command = ["nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise RoofError(f"no nvidia-smi, so no GPU that can be seen: {advice}") from None
    rows = sorted(
        {tuple(part.strip() for part in line.split(",", 1)) for line in done.stdout.splitlines() if "," in line}
    )
    if done.returncode or not rows:
        raise RoofError(f"nvidia-smi shows no GPU: {advice}")
    # Which of them the program will use is not known here.
    if len({capability for capability, _ in rows}) > 1:
        raise RoofError(
            f"GPUs of several kinds ({', '.join(name for _, name in rows)}): give --compute_capability of the one used"
        )
    return parse_capability(rows[0][0]), rows[0][1]


def profiler_version(path: str) -> tuple[int, ...]:
    """Return the version that ncu or nsys prints, e.g. (2024, 1, 1, 0); empty if it prints none."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True)
    found = re.search(r"[Vv]ersion (\d+(?:\.\d+)+)", done.stdout)
    return tuple(map(int, found[1].split("."))) if found else ()


def known_metrics(ncu: str, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split metrics into those that this ncu has for this machine's GPU, and the others.

    ncu refuses to run with one of the others. All count as known where it does not answer.
    """
    done = subprocess.run([ncu, "--query-metrics"], capture_output=True, text=True)
    # A metric's name begins its line; rules and blank lines begin otherwise.
    listed = {line.split()[0] for line in done.stdout.splitlines() if line[:1].isalpha()}
    if done.returncode or base_name(metrics[0]) not in listed:
        return list(metrics), []
    known = [metric for metric in metrics if base_name(metric) in listed]
    return known, [metric for metric in metrics if metric not in known]


def ncu_command(
    ncu: str,
    report: Path,
    metrics: Sequence[str],
    *,
    version: tuple[int, ...] = (),
    clock_control: str = "none",
    cache_control: str = "none",
    module: str | None = None,
) -> list[str]:
    """Return the options that count `metrics` for every launch in the capture window; the program's command follows.

    report: the file to write, without its ending. version: of ncu, empty if not known. module: a regular expression,
    for launches within NVTX ranges of such names alone. Raises RoofError for one that NVTX filters cannot have.
    """
    # Kernel replay repeats each kernel with its memory restored, as often as the counters need passes; the program
    # itself runs once. `--profile-from-start off`: main.py opens the window by cudaProfilerStart.
    command = [ncu, "--target-processes", "all", "--nvtx", "--profile-from-start", "off", "--replay-mode", "kernel"]
    command += ["--clock-control", clock_control, "--cache-control", cache_control, "--kernel-name", NOT_NCCL]
    command += ["--metrics", ",".join(metrics)]
    # Else the average, least and largest of every sum are kept too; versions before 2024 do not have the option.
    command += ["--disable-extra-suffixes"] if not version or version >= (2024, 1) else []
    if module is not None:
        command += ["--nvtx-include", _nvtx_filter(module)]
    return [*command, "--force-overwrite", "--log-file", f"{report}.log", "--export", str(report)]


def _nvtx_filter(module: str) -> str:
    """Return the filter of ranges in whose name an expression is found.

    The slash at the end says push/pop ranges, at any depth of the stack. Autograd's thread has the modules' ranges too.
    https://docs.nvidia.com/nsight-compute/NsightComputeCli/index.html#nvtx-filtering
    """
    try:
        re.compile(module)
    except re.error as error:
        raise RoofError(f"--module {module}: no regular expression ({error})") from None
    if found := set("/@,") & set(module):
        raise RoofError(
            f"--module {module}: {' '.join(sorted(found))} would be read as part of Nsight Compute's filter"
        )
    return f"regex:.*({module}).*/"


def ncu_export_command(ncu: str, report: Path, metrics: Sequence[str]) -> list[str]:
    """Return the command that prints a report as CSV: a row per launch, a column per metric, base units."""
    # Base units, byte and nanosecond: by itself ncu picks Kbyte or Mbyte for each value.
    columns = ",".join((*metrics, *DEVICE_ATTRIBUTES))
    return [
        ncu,
        "--import",
        f"{report}.ncu-rep",
        "--csv",
        "--page",
        "raw",
        "--print-units",
        "base",
        "--metrics",
        columns,
    ]


def nsys_command(nsys: str, report: Path) -> list[str]:
    """Return the options that record a timeline from the first opening of the capture window to the end of the run.

    The windows of later steps are part of it: closing one ends nothing, for nsys would ignore all that follow.
    """
    # Graphs by node: as a whole a CUDA graph is one bar without its kernels.
    command = [nsys, "profile", "--trace", "cuda,nvtx,osrt", "--sample", "none", "--cuda-graph-trace", "node"]
    command += ["--capture-range", "cudaProfilerApi", "--capture-range-end", "none", "--kill", "none"]
    return [*command, "--force-overwrite", "true", "--output", str(report)]


def nsys_export_command(nsys: str, report: Path) -> list[str]:
    """Return the command that writes a timeline's summaries, `<report>_<summary>.csv`, and itself as `.sqlite`."""
    command = [nsys, "stats", "--force-export", "true", "--report", ",".join(NSYS_REPORTS), "--format", "csv"]
    return [*command, "--force-overwrite", "true", "--output", str(report), f"{report}.nsys-rep"]
