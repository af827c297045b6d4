"""Time reading and drawing a large Nsight Compute CSV: 200,000 kernels are 3 million rows of 400 characters, 1.3 GB.

    python benchmarks/roofline.py                      200,000 kernels, as many names as a real training step has
    python benchmarks/roofline.py --kernels 20000      smaller

Writes the CSV into a temporary folder, runs `postprocess.py` on it in a process of its own, and prints its seconds
and its largest memory; a dated JSON holds them.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import ROOT, benchmark_parser, write_report

SCRIPTS = ROOT / "roofline-on-nvidia-gpus" / "custom-scripts"
HEADER = (
    "ID",
    "Process ID",
    "Process Name",
    "Host Name",
    "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
    "Id:Domain:Start/Stop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
    "Kernel Name",
    "Context",
    "Stream",
    "Block Size",
    "Grid Size",
    "Device",
    "CC",
    "Section Name",
    "Metric Name",
    "Metric Unit",
    "Metric Value",
)
OPS = tuple(
    f"sm__sass_thread_inst_executed_op_{kind}{op}_pred_on.sum" for kind in "dfh" for op in ("add", "mul", "fma")
)
SECTIONS = ("forward", "loss", "backward", "optimizer_step")


def kernel_names(count: int, rng: random.Random) -> list[str]:
    """Return names like those of PyTorch, cuDNN and cuBLAS."""
    functors = ("Mul", "Add", "Sub", "Div", "Relu", "Sigmoid", "Clamp", "Pow")
    names = []
    for number in range(count):
        tile = f"{rng.choice((64, 128, 256))}x{rng.choice((32, 64, 128))}"
        functor = rng.choice(functors)
        names.append(
            (
                f"sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize{tile}x{number % 64}_"
                f"stage3_warpsize4x2x1_g1_tensor16x8x8_execute_kernel_cudnn_infer",
                f"void at::native::vectorized_elementwise_kernel<(int){number}, at::native::BinaryFunctor<float, "
                f"float, float, at::native::binary_internal::{functor}Functor<float>>, at::detail::Array<char *, "
                "(int)3>>(int, T2, T3)",
                f"ampere_sgemm_{tile}_tn_{number}",
            )[number % 3]
        )
    return names


def write_csv(path: Path, kernels: int, names: int) -> None:
    """Write a seeded CSV with so many launches of so many kernel names, 15 metrics each, after some lines of a log."""
    rng = random.Random(0)
    # A training step launches some hundred kernels under few names: reading has to gain by that.
    known = kernel_names(names, rng)
    quote = '","'.join
    with open(path, "w") as file:
        # ncu prints into the program's own output: the reader has to find where the CSV begins.
        file.writelines(f"Epoch: [0]  [{step:4}/1000]  eta: 0:02:31  loss: 12.03 (13.1)\n" for step in range(1000))
        file.write(f'"{quote(HEADER)}"\n')
        for number in range(kernels):
            name, section = rng.choice(known), SECTIONS[number * 4 // kernels]
            nvtx = f'1  ""<default domain>:{section}:none:none:none:none:none:none""'
            grid = f"({rng.randint(1, 500)}, 1, 1)"
            cells = (
                str(number),
                "1722095",
                "python3.11",
                "127.0.0.1",
                nvtx,
                "",
                name,
                "1",
                "7",
                "(128, 1, 1)",
                grid,
                "0",
                "8.0",
            )
            # A row for each metric, with all of the launch's cells again: ncu's form without --page raw.
            start = f'"{quote(cells)}","Command line profiler metrics",'
            cycles, size = rng.uniform(5e3, 5e5), rng.randint(10_000, 100_000_000)
            metrics = [
                ("dram__bytes.sum", "byte", f"{size:,}"),
                ("l1tex__t_bytes.sum", "byte", f"{2 * size:,}"),
                ("lts__t_bytes.sum", "byte", f"{size * 3 // 2:,}"),
                ("sm__cycles_elapsed.avg", "cycle", f"{cycles:,.2f}"),
                ("sm__cycles_elapsed.avg.per_second", "cycle/second", f"{rng.uniform(1.08e9, 1.09e9):,.2f}"),
                ("sm__inst_executed_pipe_tensor.sum", "inst", f"{size // 50 if 'tensor16' in name else 0:,}"),
                *((op, "inst", f"{size if '_op_f' in op else 0:,}") for op in OPS),
            ]
            file.writelines(f'{start}"{metric}","{unit}","{value}"\n' for metric, unit, value in metrics)


def measure(folder: Path, csv_path: Path) -> dict[str, float]:
    """Run postprocess.py on the CSV; return its seconds and its largest memory in GiB."""
    start = time.perf_counter()
    command = [sys.executable, str(SCRIPTS / "postprocess.py"), str(csv_path), "-o", str(folder / "charts")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    # Linux counts ru_maxrss in KiB, and gives the largest child's; this one is the only one.
    return {"seconds": seconds, "memory_gib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20}


def main() -> None:
    """Write the CSV, measure, print, and write the JSON."""
    parser = benchmark_parser("roofline", __doc__, original=False, threads=False)
    parser.add_argument("--kernels", type=int, default=200_000, help="launches in the CSV (%(default)s)")
    parser.add_argument("--names", type=int, default=300, help="different kernel names (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "output_large.csv")
        write_csv(path, args.kernels, args.names)
        size = path.stat().st_size
        result = measure(Path(folder), path)
    seconds, memory = result["seconds"], result["memory_gib"]
    print(f"{args.kernels:,} kernels, {size / 1e9:.2f} GB: {seconds:.1f} s, {memory:.2f} GiB at most")
    medians = {f"{args.kernels} kernels": result}
    write_report("roofline", args, medians=medians, unit="as each column says", csv_bytes=size)


if __name__ == "__main__":
    main()
