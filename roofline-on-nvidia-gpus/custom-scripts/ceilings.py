"""Measure this machine's roofs and write them as a roofs file for postprocess.py.

    python ceilings.py -o roofs.toml               on a GPU with CuPy: kernels compiled at run time
    python ceilings.py --device cpu                torch's matrix products, convolutions and copies
    python ceilings.py --device cpu --details      also by size of the data, number type and threads
    python ceilings.py --device cpu --details --shapes costs.csv    also on a model's own convolutions and products
    python ceilings.py --ranks 2 -o RUN/bus.toml   only the bus between processes: NCCL on GPUs, gloo on a CPU

With CuPy: L1, L2 and HBM by kernels that read 16 KiB per block, a quarter of L2, and 1 GiB again and again; FP64, FP32,
FP16 by chains of FMA in registers (the method of the Empirical Roofline Toolkit,
https://crd.lbl.gov/departments/computer-science/par/research/roofline/software/ert/); tensor types by cuBLAS through
torch. Without CuPy, and on a CPU, torch does what it can: copies for memory, matrix products for FP64, FP32 and tensor
types; L1 and L2 stay unmeasured. The file says which it was.
"""

from pathlib import Path
from typing import Any

from rooflines import atomic_file
from rooflines.bus import measure_bus, write_bus
from rooflines.charts.style import si
from rooflines.columns import UNITS
from rooflines.command_line import FlagParser, one_line_errors
from rooflines.cpu_rates import Rate, measure_rates
from rooflines.cupy_roofs import measure_by_cupy
from rooflines.model_shapes import largest_shapes, measure_shapes
from rooflines.roofs import Roofs, write_roofs
from rooflines.torch_roofs import measure_by_torch

#: Timed calls of each measurement.
REPEATS = 7
#: Operators of a model that --shapes measures: those with most FLOPs.
_SHAPES = 12


def measure(device: str, *, size: int | None = None) -> Roofs:
    """Return the measured roofs of "cuda" or "cpu". size: side of torch's matrices (default: 8192, on a CPU 1536)."""
    if device == "cpu":
        return measure_by_torch("cpu", size or 1536, repeats=REPEATS)
    tensor = measure_by_torch("cuda", size or 8192, repeats=REPEATS)
    try:
        import cupy
    except ImportError:
        print("CuPy is not installed (pip install cupy-cuda12x): torch measures what it can, L1 and L2 stay unmeasured")
        return tensor
    # Rates of cores and memory come from the compiled kernels; torch's only fill what those do not have, the tensor
    # types.
    return measure_by_cupy(cupy, repeats=REPEATS).merged(tensor)


def main() -> None:
    """Measure, print, and write the file."""
    parser = FlagParser(description=__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("roofs.toml"), help="roofs file (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where torch sees one, else cpu")
    parser.add_argument("--size", type=int, help="side of torch's matrices (default: 8192; on a CPU 1536)")
    parser.add_argument(
        "--details",
        action="store_true",
        help="on a CPU also copy and triad by size of the data, products by number type, by threads",
    )
    parser.add_argument(
        "--shapes",
        type=Path,
        metavar="FILE",
        help="with --details: also the 12 convolutions and products with most FLOPs in a table of --count_costs",
    )
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="measure only all-reduces among N processes, each on a GPU of its own"
    )
    args = parser.parse_args()
    if args.ranks is not None and (args.ranks < 2 or args.details):
        parser.error("--ranks needs 2 processes or more, and measures nothing else")
    with one_line_errors():
        device = args.device or _default_device()
        if args.details and device != "cpu":
            parser.error("--details is about a CPU: add --device cpu")
        if args.shapes and not args.details:
            parser.error("--shapes adds to --details: give both")
        shapes = largest_shapes(args.shapes, _SHAPES) if args.shapes else None
        if args.ranks:
            _measure_bus(args.ranks, device, args.output)
            return
        roofs = measure(device, size=args.size)
        write_roofs(roofs, args.output)
        if args.details:
            _add_details(args.output, args.size or 1536, shapes)
    print(roofs.source)
    for level, rate in roofs.bandwidth.items():
        print(f"  {level if roofs.device.find('CPU') < 0 else 'memory':<12} {si(rate, 'B/s')}")
    for unit, rate in roofs.peak.items():
        print(f"  {UNITS[unit]:<12} {si(rate, 'FLOP/s')}")
    print(f"wrote {args.output}")


def _add_details(path: Path, side: int, shapes: Any) -> None:
    """Measure a CPU's rates, print them and add them to the roofs file, whose readers leave them out."""
    import torch

    rates: list[Rate] = measure_rates(torch, side=side, repeats=REPEATS)
    if shapes is not None:
        rates += measure_shapes(torch, shapes, repeats=REPEATS)
    for rate in rates:
        over = f" over {si(rate.size, 'B')}" if rate.size else ""
        print(f"  {rate.threads} threads: {rate.what} {rate.type}{over} {si(rate.value, rate.unit)}")
    text = path.read_text(encoding="utf-8") + "\n" + "\n".join(rate.toml() for rate in rates)
    with atomic_file(path) as file:
        file.write(text.encode())


def _measure_bus(ranks: int, device: str, path: Path) -> None:
    """Measure all-reduces among processes, print and write them."""
    bus = measure_bus(ranks, device)
    write_bus(bus, path)
    print(f"all-reduce among {ranks} processes by {bus.backend}, byte/s of the bus:")
    for size, rate in bus.rates.items():
        print(f"  {si(size, 'B'):>8}  {si(rate, 'B/s')}")
    print(f"wrote {path}")


def _default_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    print("torch sees no GPU: measuring the CPU")
    return "cpu"


if __name__ == "__main__":
    main()
