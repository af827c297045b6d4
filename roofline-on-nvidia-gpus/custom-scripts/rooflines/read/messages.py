"""Messages of Nsight Compute and Nsight Systems, and what to do about them."""

import re

_NOTHING = "No kernels were profiled"
_MEANING = (
    (
        "ERR_NVGPUCTRPERM",
        "this user may not read the GPU's counters (https://developer.nvidia.com/ERR_NVGPUCTRPERM): ask the "
        "administrator, or do without them: --nsys, or main.py --timing",
    ),
    (
        "driver resource was unavailable",
        "another tool holds the GPU's counters, most likely DCGM: `dcgmi profile --pause` on every "
        "node before, `dcgmi profile --resume` after",
    ),
    (
        "nsight-compute-lock",
        "another user's ncu left its lock in the temporary folder: set TMPDIR to a folder of your own",
    ),
    ("libcuda.so", "there is no CUDA driver here: profile on a machine with a GPU"),
    (_NOTHING, "no kernel ran in the window: were there more steps than --profile_warmup, and a GPU?"),
)


def programs_exit_code(messages: str) -> int:
    """Return the exit code of the profiled program where ncu's messages give one that is not 0, else 0."""
    found = re.search(r"application returned an error code \((-?\d+)\)", messages)
    return int(found[1]) if found else 0


def explain(messages: str) -> str:
    """Return the meaning of a profiler's messages and what to do, else its first error, else nothing."""
    # A program that ends with an error launched nothing for a reason of its own.
    failed = programs_exit_code(messages) != 0
    for text, meaning in _MEANING:
        if text in messages and not (failed and text == _NOTHING):
            return meaning
    found = re.search(r"^==ERROR== (.+)$", messages, re.M)
    return found[1].strip() if found else ""
