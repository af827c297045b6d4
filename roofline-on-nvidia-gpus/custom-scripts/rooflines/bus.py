"""The bandwidth between processes: all-reduces of several sizes, by gloo on CPUs and NCCL on GPUs.

Bus bandwidth is 2 (n - 1) / n times the bytes over the time of n processes: what each link carries if the algorithm is
the best there is, so that it may be compared over numbers of processes (as NVIDIA's nccl-tests define it).
"""

import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import RoofError, atomic_file

#: Bytes of an all-reduce: from a few small weights to DistributedDataParallel's buckets (25 MB) and beyond.
SIZES = (4 << 10, 64 << 10, 1 << 20, 8 << 20, 25 << 20, 64 << 20)
_REPEATS = 7


@dataclass(frozen=True)
class Bus:
    """Byte/s of the bus by the size of an all-reduce in bytes, among `ranks` processes."""

    ranks: int
    backend: str
    rates: dict[int, float]

    def rate_near(self, size: float) -> float:
        """Return the rate of the measured size that is nearest as a ratio."""
        return self.rates[min(self.rates, key=lambda known: max(known / size, size / known))]


def bus_bytes(size: float, ranks: int) -> float:
    """Return what an all-reduce of `size` bytes moves over each link at least."""
    # A ring sends each of n parts around twice, once to add up and once to hand out, in n - 1 steps each.
    return size * 2 * (ranks - 1) / ranks


def measure_bus(ranks: int, device: str, *, sizes: tuple[int, ...] = SIZES) -> Bus:
    """Start `ranks` processes and measure; on "cuda" each has a GPU of its own. Raises RoofError."""
    import torch
    import torch.multiprocessing as processes

    if device == "cuda" and torch.cuda.device_count() < ranks:
        raise RoofError(f"--ranks {ranks}: there are {torch.cuda.device_count()} GPUs; --device cpu measures gloo")
    backend = "nccl" if device == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        processes.spawn(_member, args=(ranks, backend, folder, sizes), nprocs=ranks)
        seconds = [float(line) for line in results.read_text().splitlines()]
    return Bus(ranks, backend, {size: bus_bytes(size, ranks) / best for size, best in zip(sizes, seconds)})


def _member(rank: int, ranks: int, backend: str, folder: str, sizes: tuple[int, ...]) -> None:
    """Take part in the all-reduces; the first process writes the best time of each size."""
    import torch
    import torch.distributed as dist

    # The processes share the machine's cores: their sums must not compete for them.
    torch.set_num_threads(1)
    device: Any = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    best = []
    for size in sizes:
        # float32: 4 bytes a number.
        data, times = torch.zeros(size // 4, device=device), []
        for _ in range(_REPEATS):  # the first opens connections, and is never the best
            # All begin together: the slowest to arrive would otherwise be in everyone's time.
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(data)
            if backend == "nccl":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        best.append(min(times))
    if rank == 0:
        (Path(folder) / "results").write_text("\n".join(map(str, best)))
    dist.destroy_process_group()


def write_bus(bus: Bus, path: Path) -> None:
    """Write the rates as TOML."""
    lines = [f"ranks = {bus.ranks}", f'backend = "{bus.backend}"', "", "[bus]  # bytes of an all-reduce = byte/s"]
    lines += [f"{size} = {rate:.6g}" for size, rate in bus.rates.items()]
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def read_bus(path: Path) -> Bus:
    """Read what `write_bus` wrote. Raises RoofError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        rates = {int(size): float(rate) for size, rate in data["bus"].items()}
        if not rates or min(rates.values()) <= 0:
            raise ValueError("no rates")
        return Bus(int(data["ranks"]), str(data["backend"]), rates)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoofError(f"{path}: no readable bus ({error}); ceilings.py --ranks 2 -o {path} measures it") from error
