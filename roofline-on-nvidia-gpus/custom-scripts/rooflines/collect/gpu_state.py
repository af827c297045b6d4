"""A GPU's clocks, temperature and throttling while it is profiled, from NVIDIA's management library (NVML).

The package nvidia-ml-py is optional: without it nothing is waited for and nothing noted, and a line says so.
https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..columns import GPU_STATE, HIGHEST

#: Reasons that slow a GPU down against its will: heat, and power that is cut off. A power cap is its normal state.
THROTTLING = {
    0x08: "hardware slowdown",
    0x20: "heat, by software",
    0x40: "heat, by hardware",
    0x80: "power brake",
}
_EVERY_S = 1.0
_MHZ = 1e6


class GpuState:
    """One GPU of NVML; `open_gpu_state` makes it."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    def reasons(self) -> list[str]:
        """Return what throttles the GPU now, nothing where it runs freely or does not tell."""
        # The older name of the question, which drivers before 535 know alone.
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        for name in names:
            try:
                bits = getattr(self._library, name)(self._handle)
            except (AttributeError, self._library.NVMLError):
                continue
            # Each reason is a bit of one number.
            return [text for bit, text in THROTTLING.items() if bits & bit]
        return []

    def reading(self) -> dict[str, float]:
        """Return the columns GPU_STATE of this moment, without those that the GPU does not tell."""
        library = self._library
        questions = {
            "nvml_clock_hz": lambda: _MHZ * library.nvmlDeviceGetClockInfo(self._handle, library.NVML_CLOCK_SM),
            "memory_clock_hz": lambda: _MHZ * library.nvmlDeviceGetClockInfo(self._handle, library.NVML_CLOCK_MEM),
            "temperature_c": lambda: library.nvmlDeviceGetTemperature(self._handle, library.NVML_TEMPERATURE_GPU),
        }
        found = {}
        for name, ask in questions.items():
            try:
                found[name] = float(ask())
            except (AttributeError, library.NVMLError):
                continue
        return found


def gpu_of_process(environ: Mapping[str, str]) -> int | str:
    """Return NVML's name of the GPU that a process with these variables uses: its number, or its UUID.

    NVML counts all GPUs; CUDA those in CUDA_VISIBLE_DEVICES, and a process of several takes the one of its local rank.
    """
    local = next((environ[name] for name in ("LOCAL_RANK", "SLURM_LOCALID") if environ.get(name, "").isdecimal()), "0")
    visible = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    # One visible GPU is this rank's own: some launchers show each process no other.
    name = visible[int(local)] if int(local) < len(visible) else visible[0] if len(visible) == 1 else local
    return int(name) if name.isdecimal() else name


def open_gpu_state(name: int | str) -> tuple[GpuState | None, str]:
    """Return the GPU of a number or a UUID, or None and the reason in one line."""
    try:
        import pynvml
    except ImportError:
        return None, "clocks, temperature and throttling are not noted: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        ask = pynvml.nvmlDeviceGetHandleByIndex if isinstance(name, int) else pynvml.nvmlDeviceGetHandleByUUID
        return GpuState(pynvml, ask(name)), ""
    except pynvml.NVMLError as error:
        return None, f"clocks, temperature and throttling are not noted: NVML says {error}"


def wait_until_free(
    gpu: GpuState, limit_s: float, *, say: Callable[[str], None], clock: Any = time, every_s: float = _EVERY_S
) -> bool:
    """Wait while the GPU is throttled, for at most `limit_s`; True if it runs freely then. Says one line at most."""
    began = clock.monotonic()
    first = reasons = gpu.reasons()
    while reasons and clock.monotonic() - began < limit_s:
        clock.sleep(every_s)
        reasons = gpu.reasons()
    waited = clock.monotonic() - began
    if reasons:
        say(f"note: the GPU is throttled ({', '.join(reasons)}), still after {waited:.0f} s: its times are too long")
    elif first:
        say(f"note: waited {waited:.0f} s until the GPU was not throttled any more ({', '.join(first)})")
    return not reasons


@contextmanager
def watched(gpu: GpuState | None, every_s: float = _EVERY_S) -> Iterator[dict[str, Any]]:
    """Read the GPU's state every second; after the block, the dictionary has means of clocks and highest temperature.

    `throttled` in it lists what throttled the GPU in the meantime.
    """
    result: dict[str, Any] = {}
    if gpu is None:
        yield result
        return
    readings, reasons, ended = [gpu.reading()], set(gpu.reasons()), threading.Event()

    def read() -> None:
        while not ended.wait(every_s):
            readings.append(gpu.reading())
            reasons.update(gpu.reasons())

    # A daemon: a program that is interrupted does not wait for it.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        ended.set()
        thread.join()
        for name in GPU_STATE:
            values = [reading[name] for reading in readings if name in reading]
            if values:
                # The hottest moment, but the mean clock: times follow the mean.
                result[name] = max(values) if name in HIGHEST else sum(values) / len(values)
        result["throttled"] = sorted(reasons)
